//! Every setting: its valid range, its bounds and its default.

mod errors;

use std::error::Error;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{
    AcquireError, BuildError, Builder, Clock, Ejection, Failure, Pool, Reason, Server, ServerError, ServerState,
};
use tokio::time::{advance, sleep};

use crate::support::{Rig, refuse_one, settle};

const MS: Duration = Duration::from_millis(1);
const NS: Duration = Duration::from_nanos(1);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

type Build = Builder<ScriptedConnector>;
/// A rejected setting, with the name and the value that the error must contain.
type Rejected = (fn(Build) -> Build, &'static str, &'static str);

fn builder() -> Build {
    let clock = Clock::tokio();
    Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock)
}

/// Asserts that the message is one line that contains all `words`, has no capital at the start and no full stop at the
/// end (an open range may end it).
#[track_caller]
fn assert_line(error: &dyn Error, words: &[&str]) {
    let line = error.to_string();
    assert!(!line.is_empty() && !line.contains('\n') && (!line.ends_with('.') || line.ends_with("..")), "{line:?}");
    assert!(!line.starts_with(char::is_uppercase), "{line:?}");
    assert!(words.iter().all(|word| line.contains(word)), "{line:?} does not contain all of {words:?}");
}

#[tokio::test]
async fn build_rejects_out_of_range_settings_by_name_and_value() {
    let rejected: &[Rejected] = &[
        (|b| b.max_conns_per_server(0), "max_conns_per_server", "0"),
        (|b| b.max_idle_per_server(0), "max_idle_per_server", "0"),
        (|b| b.max_idle_per_server(1_048_577), "max_idle_per_server", "1048577"),
        (|b| b.min_idle_per_server(1_025), "min_idle_per_server", "1025"),
        (|b| b.max_idle_per_server(4).min_idle_per_server(5), "min_idle_per_server", "5"),
        (|b| b.max_rps(0.0), "max_rps", "0"),
        (|b| b.max_rps(-0.0), "max_rps", "-0"),
        (|b| b.max_rps(-2.5), "max_rps", "-2.5"),
        (|b| b.max_rps(f64::NAN), "max_rps", "NaN"),
        (|b| b.max_rps(f64::INFINITY), "max_rps", "inf"),
        (|b| b.max_rps(f64::NEG_INFINITY), "max_rps", "-inf"),
        (|b| b.max_rps(0.9e-6), "max_rps", "0.0000009"),
        (|b| b.max_rps(1e9 + 1.0), "max_rps", "1000000001"),
        (|b| b.burst(0), "burst", "0"),
        (|b| b.max_rps(10.0).burst(0), "burst", "0"),
        (|b| b.max_rps(1e-6).burst(1_000), "burst", "1000"),
        (|b| b.max_rps(1.0).burst(u32::MAX), "burst", "4294967295"),
        (|b| b.max_concurrent_connects_per_server(0), "max_concurrent_connects_per_server", "0"),
        (|b| b.connect_timeout(Duration::ZERO), "connect_timeout", "0ns"),
        (|b| b.connect_timeout(YEAR + NS), "connect_timeout", "31536000.000000001s"),
        (|b| b.connect_timeout(Duration::MAX), "connect_timeout", "18446744073709551615.999999999s"),
        (|b| b.hedge_delay(Duration::ZERO), "hedge_delay", "0ns"),
        (|b| b.hedge_delay(YEAR + NS), "hedge_delay", "31536000.000000001s"),
        (|b| b.slow_start(Duration::ZERO), "slow_start", "0ns"),
        (|b| b.slow_start(YEAR + NS), "slow_start", "31536000.000000001s"),
        (|b| b.backoff(Duration::ZERO, 10 * MS), "init_backoff_interval", "0ns"),
        (|b| b.backoff(MS - NS, 10 * MS), "init_backoff_interval", "999.999µs"),
        (|b| b.backoff(YEAR + NS, YEAR + NS), "init_backoff_interval", "31536000.000000001s"),
        (|b| b.backoff(11 * MS, 10 * MS), "max_backoff_interval", "10ms"),
        (|b| b.backoff(MS, YEAR + NS), "max_backoff_interval", "31536000.000000001s"),
        (|b| b.backoff_multiplier(0.99), "backoff_multiplier", "0.99"),
        (|b| b.backoff_multiplier(100.5), "backoff_multiplier", "100.5"),
        (|b| b.backoff_multiplier(f64::NAN), "backoff_multiplier", "NaN"),
        (|b| b.backoff_spread_ratio(-0.1), "backoff_spread_ratio", "-0.1"),
        (|b| b.backoff_spread_ratio(1.1), "backoff_spread_ratio", "1.1"),
        (|b| b.backoff_spread_ratio(f64::NAN), "backoff_spread_ratio", "NaN"),
        (|b| b.ejection(Ejection::new().consecutive_failures(0)), "ejection_consecutive_failures", "0"),
        (|b| b.ejection(Ejection::new().consecutive_failures(1 << 19)), "ejection_consecutive_failures", "524288"),
        (|b| b.ejection(Ejection::new().failure_ratio(0.0)), "ejection_failure_ratio", "0.0"),
        (|b| b.ejection(Ejection::new().failure_ratio(1.1)), "ejection_failure_ratio", "1.1"),
        (|b| b.ejection(Ejection::new().failure_ratio(0.5).min_results(0)), "ejection_min_results", "0"),
        (|b| b.ejection(Ejection::new().max_ejected_ratio(-0.1)), "ejection_max_ejected_ratio", "-0.1"),
        (|b| b.ejection(Ejection::new().max_ejected_ratio(1.1)), "ejection_max_ejected_ratio", "1.1"),
        (|b| b.ejection(Ejection::new().max_ejected_ratio(f64::NAN)), "ejection_max_ejected_ratio", "NaN"),
        (|b| b.ejection(Ejection::new().base(MS - NS)), "ejection_base", "999.999µs"),
        (|b| b.ejection(Ejection::new().base(YEAR + NS).max(YEAR + NS)), "ejection_base", "31536000.000000001s"),
        (|b| b.ejection(Ejection::new().base(11 * MS).max(10 * MS)), "ejection_max", "10ms"),
        (|b| b.ejection(Ejection::new().max(YEAR + NS)), "ejection_max", "31536000.000000001s"),
        (|b| b.abandoned_after(Duration::ZERO), "abandoned_after", "0ns"),
        (|b| b.abandoned_after(YEAR + NS), "abandoned_after", "31536000.000000001s"),
        (|b| b.outage_retry(10 * MS - NS), "outage_retry", "9.999999ms"),
        (|b| b.outage_retry(YEAR + NS), "outage_retry", "31536000.000000001s"),
        (|b| b.wait_timeout(Duration::ZERO), "wait_timeout", "0ns"),
        (|b| b.wait_timeout(YEAR + NS), "wait_timeout", "31536000.000000001s"),
        (|b| b.max_waiters(0), "max_waiters", "0"),
        (|b| b.idle_timeout(Duration::ZERO), "idle_timeout", "0ns"),
        (|b| b.idle_timeout(YEAR + NS), "idle_timeout", "31536000.000000001s"),
        (|b| b.idle_check_interval(10 * MS - NS), "idle_check_interval", "9.999999ms"),
        (|b| b.idle_check_interval(YEAR + NS), "idle_check_interval", "31536000.000000001s"),
        (|b| b.max_lifetime(Duration::ZERO), "max_lifetime", "0ns"),
        (|b| b.max_lifetime(YEAR + NS), "max_lifetime", "31536000.000000001s"),
        (|b| b.max_lifetime_jitter_ratio(-0.5), "max_lifetime_jitter_ratio", "-0.5"),
        (|b| b.max_lifetime_jitter_ratio(1.5), "max_lifetime_jitter_ratio", "1.5"),
        (|b| b.max_lifetime_jitter_ratio(f64::NAN), "max_lifetime_jitter_ratio", "NaN"),
    ];
    for (build, name, expected) in rejected {
        // With and without servers.
        for builder in [builder(), builder().server("a:1")] {
            let error = build(builder).build().err().unwrap_or_else(|| panic!("{name} {expected} was accepted"));
            assert_line(&error, &[name, expected, "outside"]);
            match error {
                BuildError::OutOfRange { setting, value, .. } => {
                    assert_eq!((setting, &*value), (*name, *expected));
                }
                other => panic!("{name} {expected}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn out_of_range_server_settings_are_rejected_by_address_name_and_value() {
    let a = || Server::new("a:1");
    let rejected = [
        (a().max_conns(0), "max_conns", "0"),
        (a().max_conns(4), "min_idle_per_server", "5"),
        (a().weight(0), "weight", "0"),
        (a().weight(65_536), "weight", "65536"),
        (a().tier(16), "tier", "16"),
        (a().max_rps(0.0), "max_rps", "0"),
        (a().max_rps(-1.0), "max_rps", "-1"),
        (a().max_rps(f64::NAN), "max_rps", "NaN"),
        (a().max_rps(f64::INFINITY), "max_rps", "inf"),
        (a().max_rps(2e9), "max_rps", "2000000000"),
        (a().burst(0), "burst", "0"),
        (a().max_rps(5.0).burst(0), "burst", "0"),
        (a().max_rps(1e-6).burst(1_000), "burst", "1000"),
    ];
    let builder = || builder().min_idle_per_server(5);
    let pool = builder().build().expect("a pool needs no server");
    for (server, name, expected) in rejected {
        let of_build = builder().server("b:1").server(server.clone()).build().expect_err(name);
        assert_line(&of_build, &["\"a:1\"", name, expected, "outside"]);
        let of_register = pool.register(server.clone()).expect_err(name);
        let of_set = pool.set_servers([server]).expect_err(name);
        match &of_register {
            ServerError::OutOfRange { name: server, setting, value, .. } => {
                assert_eq!((&**server, *setting, &**value), ("a:1", name, expected));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(of_build.to_string(), of_register.to_string());
        assert_eq!(of_set.to_string(), of_register.to_string());
        assert!(pool.status().servers.is_empty(), "no server was registered");
    }
}

#[tokio::test]
async fn build_rejects_empty_pool_name() {
    let error = builder().name("").build().expect_err("the text is empty");
    assert_eq!(error, BuildError::EmptyName);
    assert_line(&error, &["pool name", "empty"]);
    let pool = builder().name("sessions".to_owned()).build().expect("any other name is valid");
    assert_eq!(&*pool.status().name, "sessions");
}

#[tokio::test]
async fn addresses_must_be_distinct_and_not_empty() {
    let error = builder().servers(["a:1", "b:1", "a:1"]).build().expect_err("an address is duplicate");
    assert_eq!(error, BuildError::Server(ServerError::Duplicate { name: "a:1".into() }));
    assert_line(&error, &["\"a:1\"", "twice"]);
    let error = builder().server("").build().expect_err("the text is empty");
    assert_eq!(error, BuildError::Server(ServerError::EmptyAddress { name: "".into() }));
    assert_line(&error, &["empty"]);

    let pool = builder().server("a:1").build().expect("the settings are in range");
    assert_eq!(pool.register("a:1"), Err(ServerError::Duplicate { name: "a:1".into() }));
    assert_eq!(pool.register(""), Err(ServerError::EmptyAddress { name: "".into() }));
    let error = pool.deregister("b:1").expect_err("the server is not registered");
    assert_eq!(error, ServerError::Unknown { name: "b:1".into() });
    assert_line(&error, &["\"b:1\"", "not registered"]);
    assert_eq!(pool.status().servers.len(), 1);
    pool.close().await;
    let error = pool.register("c:1").expect_err("the pool is closed");
    assert_eq!(error, ServerError::Closed);
    assert_line(&error, &["closed"]);
}

#[tokio::test(start_paused = true)]
async fn build_accepts_bounds_and_pool_works() {
    let bounds: &[fn(Build) -> Build] = &[
        |b| b.max_conns_per_server(1),
        |b| b.max_conns_per_server(16_777_215),
        |b| b.max_idle_per_server(1),
        |b| b.max_idle_per_server(1_048_576),
        |b| b.max_rps(1e-6),
        |b| b.max_rps(1e9),
        |b| b.max_rps(1e-6).burst(567),
        |b| b.max_rps(1e9).burst(u32::MAX),
        |b| b.max_rps(1e9).burst(1),
        |b| b.burst(1),
        |b| b.max_concurrent_connects_per_server(1),
        |b| b.max_concurrent_connects_per_server(65_535),
        |b| b.connect_timeout(NS),
        |b| b.connect_timeout(YEAR),
        |b| b.hedge_delay(NS),
        |b| b.hedge_delay(YEAR),
        |b| b.backoff(MS, MS),
        |b| b.backoff(YEAR, YEAR),
        |b| b.backoff(MS, YEAR).backoff_multiplier(100.0),
        |b| b.backoff_multiplier(1.0),
        |b| b.backoff_spread_ratio(0.0),
        |b| b.backoff_spread_ratio(1.0),
        |b| b.ejection(Ejection::new().consecutive_failures(1)),
        |b| b.ejection(Ejection::new().consecutive_failures((1 << 19) - 1)),
        |b| b.ejection(Ejection::new().max_ejected_ratio(0.0)),
        |b| b.ejection(Ejection::new().max_ejected_ratio(1.0)),
        |b| b.ejection(Ejection::new().base(MS).max(MS)),
        |b| b.ejection(Ejection::new().base(YEAR).max(YEAR)),
        |b| b.abandoned_after(NS),
        |b| b.abandoned_after(YEAR),
        |b| b.abandoned_after(None),
        |b| b.outage_retry(10 * MS),
        |b| b.outage_retry(YEAR),
        |b| b.outage_retry(None),
        |b| b.hedge_delay(None),
        |b| b.fail_fast_when_down(true),
        |b| b.wait_timeout(NS),
        |b| b.wait_timeout(YEAR),
        |b| b.wait_timeout(None),
        |b| b.max_waiters(1),
        |b| b.max_waiters(usize::MAX),
        |b| b.idle_timeout(NS),
        |b| b.idle_timeout(YEAR),
        |b| b.idle_timeout(None),
        |b| b.max_lifetime(NS),
        |b| b.max_lifetime(YEAR),
        |b| b.max_lifetime(None),
        |b| b.max_lifetime_jitter_ratio(0.0),
        |b| b.max_lifetime_jitter_ratio(1.0),
        |b| b.maintenance(false),
        |b| b.runtime(tokio::runtime::Handle::current()),
    ];
    for (number, build) in bounds.iter().enumerate() {
        let pool = build(builder()).server("a:1").build().unwrap_or_else(|error| panic!("bound {number}: {error}"));
        let conn = pool.acquire().await.unwrap_or_else(|error| panic!("bound {number}: {error}"));
        assert_eq!(pool.status().servers[0].open, 1, "bound {number}");
        conn.release();
        assert_eq!(pool.status().servers[0].in_use, 0, "bound {number}");
        pool.close().await;
    }
    let as_many = builder().max_conns_per_server(4).min_idle_per_server(4).server("a:1").build();
    as_many.expect("each connection may be an idle one");
    // Settings of a server.
    let servers = [
        Server::new("a:1").max_conns(1),
        Server::new("a:1").max_conns(16_777_215),
        Server::new("a:1").max_rps(1e-6),
        Server::new("a:1").max_rps(1e9).burst(u32::MAX),
        Server::new("a:1").burst(1),
        Server::new("a:1").weight(65_535).tier(15),
    ];
    for server in servers {
        let pool = builder().server(server.clone()).build().unwrap_or_else(|error| panic!("{server:?}: {error}"));
        pool.acquire().await.unwrap_or_else(|error| panic!("{server:?}: {error}")).release();
    }
}

#[tokio::test]
async fn server_settings_override_builder_settings() {
    let builder = builder().max_conns_per_server(3).max_rps(100.0).burst(7);
    let pool = builder.server("a:1").server(Server::new("b:1").max_conns(4).max_rps(5.0)).build();
    let servers = pool.expect("the settings are in range").status().servers;
    assert_eq!((servers[0].max_conns, servers[0].max_rps), (3, Some(100.0)));
    assert_eq!((servers[1].max_conns, servers[1].max_rps), (4, Some(5.0)));
}

#[tokio::test]
async fn defaults_match_documented_table() {
    let builder = builder();
    let shown = format!("{builder:?}");
    for part in [
        "max_conns: 10",
        "max_rps: None",
        "burst: None",
        "max_idle_per_server: None",
        "max_concurrent_connects_per_server: 8",
        "connect_timeout: 5s",
        "initial: 100ms",
        "max: 5s",
        "multiplier: 1.5",
        "spread_ratio: 0.5",
        "consecutive_failures: 5",
        "max_ejected_ratio: 0.5",
        "base: 1s",
        "max: 30s",
        "enforce: true",
        "abandoned_after: Some(300ms)",
        "outage_retry: Some(1s)",
        "fail_fast_when_down: false",
        "hedge_delay: None",
        "wait_timeout: Some(30s)",
        "max_waiters: 10000",
        "idle_timeout: Some(300s)",
        "max_lifetime: Some(1800s)",
        "max_lifetime_jitter_ratio: 0.2",
        "maintenance: true",
        "servers: []",
        "runtime: None",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn default_durations_apply() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]));
    rig.connector.set_default(Connect::Never);
    let error = rig.pool.acquire().await.expect_err("no attempt ends");
    let AcquireError::Timeout { waited, reason } = error else { panic!("{error:?}") };
    assert_eq!(waited, Duration::from_secs(30));
    // The second attempt is the hedge of the first.
    let log = rig.connector.connect_log();
    assert!(log[0].0 != log[1].0 && log[1].1 - log[0].1 == 100 * MS, "{log:?}");
    // After the connect timeout the server is down.
    for server in reason.servers() {
        let Reason::Down { cause: Some(cause), .. } = &server.reason else { panic!("{server:?}") };
        assert!(matches!(**cause, Failure::ConnectTimeout { after } if after == Duration::from_secs(5)), "{cause}");
    }
    // The first backoff lies in 100 ms ± 50 %.
    let rig = Rig::paused(|builder| builder.server("a:1"));
    refuse_one(&rig, "a:1").await;
    let ServerState::Down { failures: 1, retry_after } = rig.pool.status().servers[0].state else {
        panic!("one refused attempt takes the server down")
    };
    assert!(retry_after >= 50 * MS && retry_after <= 151 * MS, "{retry_after:?}");
}

#[tokio::test(start_paused = true)]
async fn default_counts_apply() {
    let rig = Rig::paused(|builder| builder.server("a:1").wait_timeout(None));
    rig.connector.set_default(Connect::Slow(MS));
    let callers: Vec<_> = (0..10_012)
        .map(|_| {
            let pool = rig.pool.clone();
            tokio::spawn(async move {
                let error = pool.acquire().await.map(std::mem::forget).err();
                matches!(error, Some(AcquireError::QueueFull { waiters: 10_000 }))
            })
        })
        .collect();
    // It takes several turns to poll all callers.
    while rig.connector.total_counts().in_flight < 8 {
        settle().await;
    }
    assert_eq!(rig.connector.total_counts().in_flight, 8);
    assert_eq!(rig.pool.status().waiters, 10_000);
    sleep(10 * MS).await;
    assert_eq!((rig.connector.total_counts().open, rig.pool.status().waiters), (10, 9_990));
    let mut rejected = 0;
    for caller in callers.into_iter().filter(|caller| caller.is_finished()) {
        rejected += usize::from(caller.await.expect("the task does not panic"));
    }
    assert_eq!(rejected, 12);
}

#[tokio::test(start_paused = true)]
async fn default_burst_is_one_plus_ten_milliseconds_of_rate() {
    for (rps, burst) in [(1.0, 2), (99.0, 2), (100.0, 2), (1_000.0, 11), (250.0, 4)] {
        let rig = Rig::paused(|builder| builder.server(Server::new("a:1").max_rps(rps)));
        rig.pool.acquire().await.expect("the server accepts").release();
        // Fills the bucket.
        advance(Duration::from_secs(10)).await;
        let mut served = 0;
        while let Ok(conn) = rig.pool.try_acquire() {
            conn.release();
            served += 1;
        }
        assert_eq!(served, burst, "at {rps} a second");
    }
}

#[tokio::test(start_paused = true)]
async fn zero_timeout_takes_idle_connection_and_unlimited_timeout_waits() {
    let rig = Rig::paused(|builder| builder.server("a:1").max_conns_per_server(1));
    rig.pool.acquire().await.expect("the server accepts").release();
    let conn = rig.pool.acquire_timeout(Duration::ZERO).await.expect("the connection is idle");
    let error = rig.pool.acquire_timeout(Duration::ZERO).await.expect_err("the connection is in use");
    assert!(matches!(error, AcquireError::Timeout { waited: Duration::ZERO, .. }), "{error:?}");
    let started = rig.clock.now();
    tokio::spawn(async move {
        sleep(Duration::from_secs(1_000)).await;
        conn.release();
    });
    rig.pool.acquire_timeout(Duration::MAX).await.expect("the connection was returned").release();
    assert_eq!((rig.clock.now() - started).as_secs(), 1_000);
}
