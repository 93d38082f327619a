//! Connects that fail by the client's fault, that take long, or that bring connections that do not last.

use std::error::Error;
use std::io;
use std::time::Duration;

use connring::test_util::{Connect, Reuse};
use connring::{AcquireError, PooledConn, Reason, Server, ServerError, ServerState, connect_fn};
use tokio::time::{Instant, sleep};

use crate::support::{Rig, open, settle};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_client_out_of_descriptors_is_the_cause_and_connecting_resumes() {
    let rig = Rig::paused(|builder| builder.server("a").backoff(SECOND, SECOND).backoff_spread_ratio(0.0));
    rig.connector.set_default(Connect::LocalFault);
    let error = rig.pool.acquire_timeout(Duration::from_millis(500)).await.expect_err("out of descriptors");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(500)));
    let AcquireError::Timeout { ref reason, .. } = error else { panic!("{error:?}") };
    let Reason::Paused { failures: 1, .. } = reason.servers()[0].reason else { panic!("{reason:?}") };
    assert_eq!(reason.counts().paused, 1);
    let cause = error.source().and_then(Error::source).expect("the connector's error");
    assert!(cause.to_string().starts_with("out of descriptors"), "{cause}");
    let status = &rig.pool.status().servers[0];
    assert_eq!(status.state, ServerState::Up);
    assert!(status.connecting_paused.is_some());
    assert!(status.connect_error.as_deref().is_some_and(|text| text.contains("out of descriptors")), "{status:?}");
    rig.connector.set_default(Connect::Ok);
    rig.pool.acquire().await.expect("it accepts").release();
    let status = &rig.pool.status().servers[0];
    assert_eq!((status.connecting_paused, &status.connect_error), (None, &None));
}

#[tokio::test(start_paused = true)]
async fn the_cause_is_named_while_the_attempt_after_the_pause_hangs() {
    let rig = Rig::paused(|builder| builder.server("a"));
    rig.connector.next_connects("a", [Connect::LocalFault]);
    rig.connector.set_default(Connect::Never);
    let error = rig.pool.acquire_timeout(SECOND).await.expect_err("it hangs");
    let cause = error.source().and_then(Error::source).expect("why connecting paused");
    assert!(cause.to_string().starts_with("out of descriptors"), "{cause}");
    assert_eq!(error.retry_after(), Some(Duration::from_millis(1)), "it is tried now");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_a_later_fault_of_the_client_are_both_named() {
    let rig = Rig::paused(|builder| builder.server("a"));
    rig.connector.next_connects("a", [Connect::Refuse]);
    rig.connector.set_default(Connect::LocalFault);
    let error = rig.pool.acquire_timeout(5 * SECOND).await.expect_err("it refused, then out of descriptors");
    let AcquireError::Timeout { reason, .. } = error else { panic!("{error:?}") };
    let Reason::Down { cause: Some(cause), connect_error: Some(later), .. } = &reason.servers()[0].reason else {
        panic!("{reason:?}")
    };
    let text = |error: &dyn Error| error.source().expect("the connector's error").to_string();
    assert!(text(&**cause).contains("refused"), "{cause:?}");
    assert!(text(&**later).contains("out of descriptors"), "{later:?}");
}

#[tokio::test(start_paused = true)]
async fn acquire_now_at_a_cold_pool_serves_all_within_the_maximum() {
    let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(100));
    rig.connector.set_default(Connect::Slow(Duration::from_millis(50)));
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let pool = rig.pool.clone();
            tokio::spawn(async move { pool.acquire_now().await })
        })
        .collect();
    let mut held = Vec::new();
    for caller in callers {
        held.push(caller.await.expect("no panic").expect("no limit is met"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_makes_no_hedges_to_its_own_server() {
    for used_for in [0, 1, 3] {
        let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(100));
        rig.connector.set_default(Connect::Slow(Duration::from_millis(250)));
        let callers: Vec<_> = (0..50)
            .map(|_| {
                let pool = rig.pool.clone();
                tokio::spawn(async move {
                    let conn = pool.acquire().await.expect("it accepts");
                    sleep(Duration::from_millis(used_for)).await;
                    conn.release();
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("no panic");
        }
        let attempts = rig.connector.connect_log().len();
        assert!((8..=10).contains(&attempts), "{attempts} attempts, where a use takes {used_for} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_refused_right_after_its_connect_is_a_failed_connect() {
    let rig = Rig::paused(|builder| builder.servers(["a", "b"]));
    rig.connector.set_reuse("a", Reuse::No);
    let start = Instant::now();
    while start.elapsed() < 10 * SECOND {
        // Asks for a connection to a, which is idle when the next caller comes.
        rig.pool.acquire().await.expect("b serves").release();
        sleep(Duration::from_millis(10)).await;
    }
    let connects = rig.connector.connect_times("a").len();
    assert!((3..60).contains(&connects), "{connects} connects in 10 s");
    assert!(rig.connector.connect_times("b").len() <= 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_classify_counts_as_a_failed_connect() {
    struct Panics;
    impl connring::Connector for Panics {
        type Conn = ();
        type Error = std::io::Error;
        async fn connect(&self, _: &Server) -> std::io::Result<()> {
            CONNECTS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Err(std::io::ErrorKind::ConnectionRefused.into())
        }
        fn classify(&self, _: &std::io::Error) -> connring::ConnectFault {
            panic!("a bug of the user's");
        }
    }
    static CONNECTS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let pool = connring::Pool::builder(Panics).clock(connring::Clock::tokio()).server("a").build().expect("in range");
    assert!(pool.acquire_timeout(10 * SECOND).await.is_err());
    let connects = CONNECTS.load(std::sync::atomic::Ordering::Relaxed);
    assert!((5..100).contains(&connects), "{connects} connects in 10 s");
    assert!(matches!(pool.status().servers[0].state, ServerState::Down { .. } | ServerState::Probing { .. }));
}

#[tokio::test]
async fn a_stall_of_the_client_is_not_counted_against_the_connect() {
    let rig = Rig::manual(|builder| builder.server("a").connect_timeout(SECOND).wait_timeout(None));
    rig.connector.set_default(Connect::Never);
    let waits = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.acquire().await.map(PooledConn::release) }
    });
    settle().await;
    // The process was frozen: no server is to blame for these ten seconds.
    rig.clock.advance(10 * SECOND);
    settle().await;
    assert_eq!(rig.pool.status().servers[0].state, ServerState::Up);
    assert_eq!(rig.pool.status().servers[0].connecting, 1, "the attempt goes on");
    for _ in 0..10 {
        rig.clock.advance(Duration::from_millis(100));
        settle().await;
    }
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Down { .. }));
    waits.abort();
}

#[tokio::test(start_paused = true)]
async fn connections_that_their_server_closed_go_within_seconds() {
    let rig = Rig::paused(|builder| builder.server("a"));
    open(&rig, 10).await.into_iter().for_each(PooledConn::release);
    rig.connector.kill_connections("a");
    sleep(3 * SECOND).await;
    assert_eq!(rig.connector.counts("a").open, 0);
    assert_eq!(rig.pool.status().servers[0].state, ServerState::Up);
}

#[tokio::test(start_paused = true)]
async fn a_connection_past_its_lifetime_closes_when_it_is_released() {
    let rig = Rig::paused(|builder| builder.server("a").max_lifetime(SECOND).max_lifetime_jitter_ratio(0.0));
    let conn = rig.pool.acquire().await.expect("it accepts");
    sleep(2 * SECOND).await;
    conn.release();
    assert_eq!(rig.connector.counts("a").open, 0);
}

#[tokio::test]
async fn blanks_around_an_address_are_refused_at_build() {
    let connector = || connect_fn(|_: Server| async { Ok::<_, std::io::Error>(()) });
    let error = connring::Pool::builder(connector()).servers("a:1, b:1".split(',')).build().expect_err("a blank");
    assert_eq!(error.to_string(), "server \" b:1\" has blanks around its address or name");
    let pool = connring::Pool::builder(connector()).server("a:1").build().expect("in range");
    assert_eq!(pool.register("b:1\n"), Err(ServerError::Blanks { text: "b:1\n".into() }));
    assert_eq!(pool.set_servers(["c:1", " d:1"]), Err(ServerError::Blanks { text: " d:1".into() }));
    assert_eq!(pool.status().servers.len(), 1, "nothing changed");
}

/// IPv6 is off: the system says so, and each attempt fails.
#[tokio::test(start_paused = true)]
async fn a_server_of_an_address_family_that_is_off_is_down_with_the_cause_and_others_serve() {
    let connector = connect_fn(|server: Server| async move {
        let is_off = server.address().starts_with('[');
        if is_off { Err(io::Error::from(io::ErrorKind::AddrNotAvailable)) } else { Ok(()) }
    });
    let builder = connring::Pool::builder(connector).clock(connring::Clock::tokio()).seed(0);
    let pool = builder.servers(["[::1]:6379", "b:6379"]).max_conns_per_server(1).build().expect("in range");
    for _ in 0..10 {
        pool.acquire().await.expect("the other one serves").release();
        assert_eq!(pool.status().servers[1].state, ServerState::Up);
    }
    assert!(matches!(pool.status().servers[0].state, ServerState::Down { .. }), "{:?}", pool.status());
    let _held = pool.acquire().await.expect("the other one serves");
    let error = pool.acquire_now().await.expect_err("it is down, and the other one is full");
    let cause = error.source().and_then(Error::source).expect("the connector's error");
    assert_eq!(cause.downcast_ref::<io::Error>().expect("that of the system").kind(), io::ErrorKind::AddrNotAvailable);
    let AcquireError::Unavailable(reason) = &error else { panic!("{error:?}") };
    assert!(matches!(reason.servers()[0].reason, Reason::Down { .. }), "{error:?}");
    assert!(error.retry_after().is_some());
}
