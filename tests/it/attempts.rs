//! Connect attempts: they never delay other callers, are hedged and bounded, and outlive callers that leave.

mod hedges;

use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector, ScriptedError};
use connring::{AcquireError, Failure, PooledConn, Server, ServerState};
use tokio::task::JoinSet;

use crate::support::{Rig, server_of, settle};

const HEDGE: Duration = Duration::from_millis(100);
/// tokio's timers tick in milliseconds.
const TICK: Duration = Duration::from_millis(2);

type Conn = PooledConn<ScriptedConnector>;
type Acquired = Result<Conn, AcquireError<ScriptedError>>;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[track_caller]
fn assert_at(at: Duration, expected: Duration) {
    assert!(at >= expected && at <= expected + TICK, "at {at:?} instead of {expected:?}");
}

/// The two calls that start connect attempts.
#[derive(Debug, Clone, Copy)]
enum Call {
    Acquire,
    AcquireNow,
}

const CALLS: [Call; 2] = [Call::Acquire, Call::AcquireNow];

impl Call {
    async fn call(self, rig: &Rig) -> Acquired {
        match self {
            Self::Acquire => rig.pool.acquire().await,
            Self::AcquireNow => rig.pool.acquire_now().await,
        }
    }
}

/// Polls once, and returns whether the future is ready.
async fn poll_once(future: impl Future) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await
}

/// The failure among the sources of an error.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Failure<ScriptedError>> {
    let source = error.source()?;
    source.downcast_ref().or_else(|| cause(source))
}

fn connect_log(rig: &Rig) -> Vec<(String, Duration)> {
    rig.connector.connect_log().into_iter().map(|(address, at)| (address.to_string(), at)).collect()
}

#[tokio::test(start_paused = true)]
async fn hanging_attempt_does_not_delay_checkout_of_idle_connection() {
    let rig = Rig::paused(|builder| builder.server("live").connect_timeout(Duration::from_secs(2)));
    rig.pool.acquire().await.expect("the server accepts").release();
    rig.connector.on_connect("dead", Connect::Never);
    rig.pool.register("dead").expect("the server is not registered");
    let started = rig.clock.now();
    for _ in 0..100 {
        for call in CALLS {
            let conn = call.call(&rig).await.expect("a connection is idle");
            assert_eq!(server_of(&conn), "live");
            conn.release();
        }
        rig.pool.try_acquire().expect("a connection is idle").release();
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.clock.now(), started);
    // Exactly one attempt runs at the hanging server.
    assert_eq!((rig.connector.counts("dead").attempts, rig.connector.counts("dead").in_flight), (1, 1));
    // Its timeout does not delay callers either.
    tokio::time::sleep(Duration::from_secs(2) + TICK).await;
    let ended = rig.clock.now();
    assert!(matches!(rig.pool.status().servers[1].state, ServerState::Down { failures: 1, .. }));
    rig.pool.acquire().await.expect("a connection is idle").release();
    assert_eq!(rig.clock.now(), ended);
}

#[tokio::test(start_paused = true)]
async fn release_serves_waiters_behind_hanging_attempt() {
    let rig = Rig::paused(|builder| builder.server("live").max_conns_per_server(1));
    let conn = rig.pool.acquire().await.expect("the server accepts");
    rig.connector.on_connect("dead", Connect::Never);
    rig.pool.register("dead").expect("the server is not registered");
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let (pool, clock) = (rig.pool.clone(), rig.clock.clone());
        callers.spawn(async move {
            pool.acquire().await.expect("the live server serves the waiter").release();
            clock.now()
        });
    }
    tokio::time::sleep(ms(30)).await;
    assert!(rig.connector.counts("dead").in_flight > 0);
    assert_eq!(rig.pool.status().waiters, 10);
    let released = rig.clock.now();
    conn.release();
    assert_eq!(callers.join_all().await, [released; 10]);
}

#[tokio::test(start_paused = true)]
async fn young_attempts_never_exceed_waiters() {
    const CALLERS: usize = 3;
    let addresses: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    let rig = Rig::paused(|builder| {
        let builder = builder.servers(addresses.iter().map(String::as_str));
        builder.hedge_delay(HEDGE).connect_timeout(Duration::from_secs(60))
    });
    rig.connector.set_default(Connect::Never);
    let spawn = || {
        let pool = rig.pool.clone();
        tokio::spawn(async move { pool.acquire().await })
    };
    let mut callers = std::collections::VecDeque::from([(); CALLERS].map(|()| spawn()));
    let started = rig.clock.now();
    for step in 1..=1_000_u64 {
        tokio::time::sleep(ms(1)).await;
        // Events that make the pool settle: a new server, and a caller that is replaced while its attempt runs.
        if step % 10 == 0 {
            rig.pool.register(format!("extra {step}")).expect("the server is not registered");
        }
        if step % 70 == 0 {
            callers.pop_front().expect("three callers wait").abort();
            settle().await;
            callers.push_back(spawn());
        }
        settle().await;
        assert_eq!(rig.pool.status().waiters, CALLERS);
        let now = rig.clock.now();
        let young = rig.connector.connect_log().iter().filter(|(_, at)| *at + HEDGE > now).count();
        assert!(young <= CALLERS, "{young} young attempts for {CALLERS} waiters after {:?}", now - started);
    }
    // Hedging works: one attempt for each caller in each hedge delay.
    let in_flight = rig.connector.total_counts().in_flight as usize;
    assert!((CALLERS * 9..=CALLERS * 11).contains(&in_flight), "{in_flight} attempts in flight");
}

#[tokio::test(start_paused = true)]
async fn attempt_outlives_its_caller() {
    for call in CALLS {
        let rig = Rig::paused(|builder| builder.server("a"));
        rig.connector.on_connect("a", Connect::Slow(ms(50)));
        let left = tokio::time::timeout(ms(20), call.call(&rig)).await;
        assert!(left.is_err(), "{call:?}");
        assert_eq!(rig.connector.counts("a").in_flight, 1, "{call:?}");
        tokio::time::sleep(ms(30) + TICK).await;
        let server = &rig.pool.status().servers[0];
        assert_eq!((server.idle, server.open, server.in_use), (1, 1, 0), "{call:?}");
        rig.pool.try_acquire().expect("the attempt's connection is idle").release();
        assert_eq!(rig.connector.counts("a").attempts, 1, "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn abandoned_attempt_serves_next_waiter() {
    for call in CALLS {
        let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(1));
        rig.connector.on_connect("a", Connect::Slow(ms(50)));
        let mut first = Box::pin(call.call(&rig));
        assert!(!poll_once(first.as_mut()).await);
        let pool = rig.pool.clone();
        let next = tokio::spawn(async move { pool.acquire().await.expect("the attempt succeeds") });
        settle().await;
        drop(first);
        let conn = next.await.expect("the task does not panic");
        assert_at(rig.clock.now(), ms(50));
        assert_eq!((&*server_of(&conn), rig.connector.counts("a").attempts), ("a", 1), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn deregister_and_close_end_running_attempts() {
    for call in CALLS {
        for close in [false, true] {
            // Removed before the attempt's task has run, and while it runs.
            for begun in [false, true] {
                let case = format!("{call:?}, close: {close}, begun: {begun}");
                let rig = Rig::paused(|builder| builder.server("a"));
                rig.connector.on_connect("a", Connect::Slow(ms(50)));
                let mut caller = Box::pin(call.call(&rig));
                assert!(!poll_once(caller.as_mut()).await, "{case}");
                assert_eq!(rig.pool.status().servers[0].connecting, 1, "{case}");
                if begun {
                    tokio::time::sleep(ms(10)).await;
                    assert_eq!(rig.connector.counts("a").open, 1, "{case}");
                }
                let removed = rig.clock.now();
                if close {
                    rig.pool.close().await;
                } else {
                    rig.pool.deregister("a").expect("the server is registered");
                }
                let error = caller.await.expect_err("no server is left");
                match error {
                    AcquireError::Closed => assert!(close, "{case}"),
                    AcquireError::NoServers => assert!(!close, "{case}"),
                    error => panic!("{case}: {error}"),
                }
                settle().await;
                assert_eq!(rig.connector.counts("a").open, 0, "{case}");
                assert_eq!(rig.clock.now(), removed, "{case}");
                tokio::time::sleep(ms(100)).await;
                assert_eq!((rig.connector.counts("a").connected, rig.connector.counts("a").open), (0, 0), "{case}");
                assert_eq!(rig.pool.status().servers.len(), 0, "{case}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_never_exceed_max_concurrent_connects_per_server() {
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(100).max_concurrent_connects_per_server(3).hedge_delay(HEDGE)
    });
    let took = Duration::from_secs(1);
    rig.connector.on_connect("a", Connect::Slow(took));
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let pool = rig.pool.clone();
        callers.spawn(async move { pool.acquire().await.expect("the server accepts") });
    }
    let mut most = 0;
    for _ in 0..7_710 {
        let in_flight = rig.connector.counts("a").in_flight;
        most = most.max(in_flight);
        assert!(in_flight <= 3);
        tokio::time::sleep(ms(1)).await;
    }
    // The limit is fully used: seven rounds of three, each of the connect time and a tenth, serve twenty callers.
    assert_eq!(most, 3);
    let status = rig.pool.status();
    assert_eq!((status.waiters, status.servers[0].in_use), (0, 20));
    assert_eq!(callers.join_all().await.len(), 20);

    // Callers of `acquire_now` wait in the same queue for attempts that can still start.
    tokio::time::sleep(2 * took).await;
    let idle = rig.pool.status().servers[0].idle;
    assert_eq!(rig.connector.counts("a").in_flight, 0);
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let pool = rig.pool.clone();
        callers.spawn(async move { pool.acquire_now().await.is_ok() });
    }
    settle().await;
    assert_eq!(callers.len(), 20);
    let done = std::iter::from_fn(|| callers.try_join_next()).map(|answer| answer.expect("the task does not panic"));
    assert_eq!(done.filter(|served| *served).count(), idle);
    assert_eq!((callers.len(), rig.connector.counts("a").in_flight), (20 - idle, 3));
    assert!(callers.join_all().await.iter().all(|served| *served));
}

#[tokio::test(start_paused = true)]
async fn each_server_has_at_most_one_balance_attempt() {
    let rig = Rig::paused(|builder| builder.server("a"));
    rig.pool.acquire().await.expect("the server accepts").release();
    for address in ["b", "c"] {
        rig.connector.on_connect(address, Connect::Slow(ms(50)));
        rig.pool.register(address).expect("the server is not registered");
    }
    for _ in 0..100 {
        rig.pool.acquire().await.expect("a connection is idle").release();
        rig.pool.try_acquire().expect("a connection is idle").release();
        settle().await;
        assert!(["b", "c"].iter().all(|address| rig.connector.counts(address).in_flight <= 1));
    }
    assert_eq!(["b", "c"].map(|address| rig.connector.counts(address).attempts), [1, 1]);
    tokio::time::sleep(ms(50) + TICK).await;
    // Each server has one connection. While it is in use, its server is empty and gets another balance attempt.
    let held = [(); 3].map(|()| rig.pool.try_acquire().expect("a connection is idle"));
    let (to_a, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|conn| server_of(conn) == "a");
    assert_eq!((to_a.len(), others.len()), (1, 2));
    to_a.into_iter().for_each(Conn::release);
    for _ in 0..100 {
        rig.pool.acquire().await.expect("a connection is idle").release();
        settle().await;
    }
    assert_eq!(["a", "b", "c"].map(|address| rig.connector.counts(address).attempts), [1, 2, 2]);
    drop(others);
}

#[tokio::test(start_paused = true)]
async fn acquire_now_tries_next_server_immediately_after_failure() {
    for failure in [Connect::Refuse, Connect::Panic, Connect::LocalFault] {
        let rig = Rig::paused(|builder| builder.servers(["a", "b"]));
        rig.connector.on_connect("a", failure.clone());
        let started = rig.clock.now();
        let conn = rig.pool.acquire_now().await.expect("the second server accepts");
        assert_eq!(server_of(&conn), "b", "{failure:?}");
        assert_eq!(connect_log(&rig), ["a", "b"].map(|address| (address.to_owned(), started)), "{failure:?}");
    }
    // It finds the only server that accepts among many.
    let addresses: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    let rig = Rig::paused(|builder| builder.servers(addresses.iter().map(String::as_str)));
    rig.connector.set_default(Connect::Refuse);
    rig.connector.on_connect("13", Connect::Ok);
    let started = rig.clock.now();
    let conn = rig.pool.acquire_now().await.expect("one server accepts");
    assert_eq!((&*server_of(&conn), rig.clock.now()), ("13", started));
    assert!(addresses.iter().all(|address| rig.connector.counts(address).attempts <= 1));
}

#[tokio::test(start_paused = true)]
async fn acquire_now_reports_cause_when_all_attempts_fail() {
    let rig = Rig::paused(|builder| builder.servers(["a", "b", "c"]));
    rig.connector.set_default(Connect::SlowRefuse(ms(10)));
    let error = rig.pool.acquire_now().await.expect_err("all servers refuse");
    assert_at(rig.clock.now(), ms(30));
    assert_eq!(rig.connector.total_counts().attempts, 3, "one attempt per server");
    assert!(matches!(&error, AcquireError::Unavailable(reason) if reason.counts().down == 3), "{error}");
    assert!(error.retry_after().is_some_and(|after| after > Duration::ZERO));
    let refused = cause(&error).and_then(Error::source).and_then(|source| source.downcast_ref::<ScriptedError>());
    assert_eq!(refused, Some(&ScriptedError::Refused { address: "a".into() }));
}

#[tokio::test(start_paused = true)]
async fn connect_timeout_takes_server_down() {
    for call in CALLS {
        let after = Duration::from_secs(1);
        let rig = Rig::paused(|builder| {
            let builder = builder.servers(["a"]).connect_timeout(after).hedge_delay(Duration::from_secs(10));
            builder.backoff(Duration::from_secs(60), Duration::from_secs(60)).wait_timeout(ms(1_500))
        });
        rig.connector.on_connect("a", Connect::Never);
        let mut caller = Box::pin(call.call(&rig));
        assert!(!poll_once(caller.as_mut()).await, "{call:?}");
        tokio::time::sleep(after - ms(1)).await;
        assert_eq!(rig.pool.status().servers[0].state, ServerState::Up, "{call:?}");
        tokio::time::sleep(TICK).await;
        let server = &rig.pool.status().servers[0];
        assert!(matches!(server.state, ServerState::Down { failures: 1, .. }), "{call:?}: {:?}", server.state);
        assert_eq!((server.open, rig.connector.counts("a").open), (0, 0), "{call:?}");
        let error = caller.await.expect_err("no attempt succeeds");
        let failure = cause(&error);
        let is_timeout = matches!(failure, Some(Failure::ConnectTimeout { after: reported }) if *reported == after);
        assert!(is_timeout, "{call:?}: {failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_attempt_does_not_start_further_attempts_at_its_server() {
    for call in CALLS {
        let rig = Rig::paused(|builder| builder.server("a").hedge_delay(HEDGE));
        rig.connector.on_connect("a", Connect::Slow(10 * HEDGE));
        call.call(&rig).await.expect("the server accepts eventually").release();
        assert_eq!(rig.connector.counts("a").attempts, 1, "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_spread_evenly_over_servers_with_free_permits() {
    let rig = Rig::paused(|builder| {
        let full = ["full-1", "full-2"].map(|address| Server::new(address).max_conns(1));
        builder.servers(full).servers(["a", "b", "c"])
    });
    for free in ["a", "b", "c"] {
        rig.connector.on_connect(free, Connect::Never);
    }
    for _ in 0..14 {
        let pool = rig.pool.clone();
        tokio::spawn(async move { pool.acquire().await });
    }
    settle().await;
    assert_eq!(
        ["full-1", "full-2", "a", "b", "c"].map(|address| rig.connector.counts(address).attempts),
        [1, 1, 4, 4, 4]
    );
}
