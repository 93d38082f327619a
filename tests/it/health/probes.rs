//! Probes of down servers.

use std::pin::pin;

use connring::AcquireOptions;

use super::events::record;
use super::*;

#[tokio::test]
async fn probe_is_single_flight_among_waiters() {
    let rig = Rig::manual(|b| steady(b).max_conns_per_server(64));
    downed(&rig).await;
    let waiters: Vec<_> = (0..64).map(|_| waiting(&rig)).collect();
    pass(&rig, MINUTE - SECOND, async || {}).await;
    assert_eq!(rig.connector.counts("a").attempts, 1);
    rig.connector.on_connect("a", Connect::Slow(SECOND * 3));
    pass(&rig, SECOND * 3, async || {}).await;
    assert_eq!((rig.connector.counts("a").attempts, state(&rig)), (2, ServerState::Probing { failures: 1 }));
    pass(&rig, SECOND, async || {}).await;
    assert_eq!((rig.connector.counts("a").attempts, state(&rig)), (2, ServerState::Recovering));
    let (mut served, waiters): (Vec<_>, Vec<_>) = waiters.into_iter().partition(JoinHandle::is_finished);
    assert_eq!(served.len(), 1, "the probe's connection serves alone");
    served.remove(0).await.expect("the caller was served").release();
    settle().await;
    assert!(rig.connector.counts("a").attempts > 2, "the server is up: attempts start for the other waiters");
    waiters.iter().for_each(JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn probe_is_single_flight_among_threads() {
    for _ in 0..20 {
        let rig = Rig::manual(|b| steady(b).max_conns_per_server(64).connect_timeout(MINUTE * 10));
        rig.connector.next_connects("a", [Connect::Refuse]);
        assert!(rig.pool.acquire_now().await.is_err());
        while rig.pool.status().servers[0].connecting > 0 {
            yield_now().await;
        }
        rig.connector.on_connect("a", Connect::Never);
        rig.clock.advance(MINUTE);
        let start = Arc::new(Barrier::new(64));
        let mut callers = JoinSet::new();
        for caller in 0..64 {
            let (pool, start) = (rig.pool.clone(), Arc::clone(&start));
            callers.spawn(async move {
                start.wait().await;
                for _ in 0..8 {
                    if caller % 2 == 0 {
                        assert!(pool.try_acquire().is_err());
                    } else {
                        // The caller waits for the probe, which hangs.
                        assert!(poll_once(pin!(pool.acquire_now())).await);
                    }
                }
            });
        }
        callers.join_all().await;
        while rig.connector.counts("a").in_flight == 0 {
            let _ = rig.pool.try_acquire();
            yield_now().await;
        }
        let server = rig.pool.status().servers.remove(0);
        assert_eq!((server.state, server.connecting, server.open), (ServerState::Probing { failures: 1 }, 1, 1));
        assert_eq!(rig.connector.counts("a").attempts, 2);
    }
}

/// Three servers serve all callers, the fourth refuses each attempt.
async fn fourth_of_four(
    maintenance: bool,
    load: impl AsyncFn(&Pool<ScriptedConnector>) -> Option<PooledConn<ScriptedConnector>>,
) {
    let rig = Rig::paused(|b| {
        b.servers(["a", "b", "c", "d"])
            .backoff(SECOND, SECOND * 5)
            .backoff_spread_ratio(0.0)
            .max_conns_per_server(8)
            .maintenance(maintenance)
    });
    rig.connector.on_connect("d", Connect::Refuse);
    let end = rig.clock.now() + SECOND * 18;
    while rig.clock.now() < end {
        let held = [load(&rig.pool).await, load(&rig.pool).await, load(&rig.pool).await];
        tokio::time::sleep(MILLISECOND).await;
        held.into_iter().flatten().for_each(PooledConn::release);
    }
    let attempts = rig.connector.connect_times("d");
    assert_eq!(attempts.len(), 6, "{attempts:?}");
    for (attempts, expected_ms) in attempts.windows(2).zip([1_000, 1_500, 2_250, 3_375, 5_000]) {
        let (interval, expected) = (attempts[1] - attempts[0], Duration::from_millis(expected_ms));
        assert!((expected..expected + MILLISECOND * 10).contains(&interval), "{interval:?} is not {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn due_server_is_probed_while_others_serve_all_callers() {
    for maintenance in [false, true] {
        fourth_of_four(maintenance, async |pool| pool.acquire().await.ok()).await;
        fourth_of_four(maintenance, async |pool| pool.acquire_now().await.ok()).await;
        fourth_of_four(maintenance, async |pool| pool.try_acquire().ok()).await;
    }
}

#[tokio::test]
async fn probe_waits_for_end_of_running_attempt() {
    for connect in [Connect::Slow(MINUTE * 2), Connect::SlowRefuse(MINUTE * 2)] {
        let rig = Rig::manual(|b| {
            two(b).max_concurrent_connects_per_server(1).connect_timeout(MINUTE * 10).hedge_delay(MINUTE * 10)
        });
        let [mut of_a, of_b] = acquired_of_each(&rig, 1).await;
        of_b.into_iter().for_each(PooledConn::release);
        rig.connector.next_connects("a", [connect]);
        acquired(&rig).await.release();
        acquired(&rig).await.release();
        settle().await;
        assert_eq!(rig.connector.counts("a").in_flight, 1, "a caller that was served elsewhere starts it");
        of_a.remove(0).fail_for("broken", MINUTE);
        pass(&rig, MINUTE * 2, async || rig.pool.try_acquire().map_or((), PooledConn::release)).await;
        assert_eq!(rig.connector.connect_times("a").len(), 2, "one attempt at a time");
        pass(&rig, MINUTE * 3, async || rig.pool.try_acquire().map_or((), PooledConn::release)).await;
        let probed = rig.connector.connect_times("a")[2];
        assert!(probed <= MINUTE * 7 / 2 + SECOND, "{probed:?}");
        assert_eq!(state(&rig), ServerState::Up);
    }
}

/// Returns connections of "a" and "b", which are full. Server "a" is ejected for a minute with its only permit in use.
async fn ejected_without_permit(rig: &Rig) -> [PooledConn<ScriptedConnector>; 2] {
    let [mut of_a, mut of_b] = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        let conn = acquired(rig).await;
        if conn.address() == "a" { of_a.push(conn) } else { of_b.push(conn) }
    }
    rig.pool.set_servers(["a", "b"].map(|address| Server::new(address).max_conns(1))).expect("in range");
    of_a.remove(0).fail_for("broken", MINUTE);
    [of_a.remove(0), of_b.remove(0)]
}

fn two_and_one(b: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    let servers = [Server::new("a").max_conns(2), Server::new("b").max_conns(1)];
    let b = b.servers(servers).backoff(MINUTE, MINUTE * 5).wait_timeout(None).idle_timeout(None).max_lifetime(None);
    ejects_at_once(b, MINUTE)
}

#[tokio::test]
async fn probe_waits_for_free_permit() {
    let rig = Rig::manual(two_and_one);
    let [second, _of_b] = ejected_without_permit(&rig).await;
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 2, async || {}).await;
    assert_eq!((rig.connector.counts("a").attempts, ejected_for(&rig)), (2, Some(Duration::ZERO)));
    drop(second);
    settle().await;
    assert_eq!(rig.connector.counts("a").attempts, 3, "the probe starts immediately");
    waiter.await.expect("the caller was served").release();
}

#[tokio::test]
async fn acquire_now_does_not_wait_for_a_permit_of_a_server_that_is_due() {
    let rig = Rig::manual(two_and_one);
    let _held = ejected_without_permit(&rig).await;
    rig.clock.advance(MINUTE * 2);
    settle().await;
    let pool = rig.pool.clone();
    let caller = tokio::spawn(async move { pool.acquire_now().await.is_err() });
    settle().await;
    assert!(caller.is_finished() && caller.await.expect("no panic"));
}

/// The connection has rested since before the ejection, and holds the only permit.
#[tokio::test]
async fn idle_connection_of_older_outage_makes_room_for_probe() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(2));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 2).await;
    of_a.remove(0).release();
    of_a.remove(0).fail_for("broken", MINUTE);
    rig.pool.set_servers(["a", "b"].map(|address| Server::new(address).max_conns(1))).expect("in range");
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((server.open, server.idle), (1, 1));
    let waiter = waiting(&rig);
    pass(&rig, MINUTE - SECOND, async || {}).await;
    assert_eq!((rig.connector.counts("a").attempts, waiter.is_finished()), (2, false));
    pass(&rig, SECOND * 2, async || {}).await;
    assert_eq!((rig.connector.counts("a").attempts, rig.connector.counts("a").open), (3, 1));
    assert_eq!(waiter.await.expect("the caller was served").address(), "a");
}

/// Both hold the only permits, and the caller wants neither.
#[tokio::test]
async fn connection_that_has_answered_since_the_ejection_makes_no_room_for_probe() {
    let rig = Rig::manual(|b| two(b).max_conns_per_server(3));
    let [mut of_a, _of_b] = acquired_of_each(&rig, 3).await;
    let works = of_a.remove(0);
    of_a.remove(0).release();
    of_a.remove(0).fail_for("broken", MINUTE);
    let id = works.id();
    works.release();
    rig.pool.set_servers(["a", "b"].map(|address| Server::new(address).max_conns(2))).expect("in range");
    let pool = rig.pool.clone();
    let fresh = tokio::spawn(async move { pool.acquire_with(AcquireOptions::new().fresh()).await });
    pass(&rig, MINUTE * 2, async || {}).await;
    fresh.await.expect("it does not panic").expect("a probe made its connection").release();
    assert_eq!((state(&rig), rig.pool.status().servers[0].idle), (ServerState::Up, 2), "the old one was closed");
    let ids = [(); 2].map(|()| rig.pool.try_acquire().expect("it is idle").id());
    assert!(ids.contains(&id), "the working one was closed");
}

#[test]
fn probe_without_permit_does_not_loop() {
    let (done, finished) = mpsc::channel();
    // Tokio advances its paused clock only when no task can run, so a task that loops would block this thread for ever.
    thread::spawn(move || {
        let paused = runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime can be built");
        paused.block_on(async {
            let rig = Rig::paused(two_and_one);
            let [second, _of_b] = ejected_without_permit(&rig).await;
            let waiter = waiting(&rig);
            tokio::time::sleep(MINUTE * 10).await;
            assert_eq!((rig.connector.counts("a").attempts, ejected_for(&rig)), (2, Some(Duration::ZERO)));
            drop(second);
            waiter.await.expect("the caller was served").release();
        });
        done.send(()).expect("the receiver is alive");
    });
    finished.recv_timeout(MINUTE).expect("no task loops");
}

#[tokio::test]
async fn due_server_is_not_probed_without_callers() {
    let rig = Rig::manual(steady);
    downed(&rig).await;
    pass(&rig, MINUTE * 30, async || {}).await;
    assert_eq!((rig.connector.counts("a").attempts, state(&rig)), (1, down(1, Duration::ZERO)));
}

fn current_thread() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

#[test]
fn probe_of_dead_runtime_is_repeated_on_next_runtime() {
    let rig = Rig::manual(steady);
    let first = current_thread();
    first.block_on(async {
        downed(&rig).await;
        rig.clock.advance(MINUTE);
        settle().await;
        rig.connector.next_connects("a", [Connect::Never]);
        assert!(rig.pool.try_acquire().is_err());
        settle().await;
        assert_eq!(state(&rig), ServerState::Probing { failures: 1 });
    });
    drop(first);
    assert_eq!(state(&rig), down(1, MINUTE), "the probe is neither pending nor counted");
    rig.connector.on_connect("a", Connect::Refuse);
    current_thread().block_on(async {
        let waiter = waiting(&rig);
        pass(&rig, MINUTE * 6, async || {}).await;
        let seconds: Vec<_> = rig.connector.connect_times("a").iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [0, 60, 120, 210, 345]);
        waiter.abort();
    });
}

#[test]
fn server_is_not_probed_on_dead_runtime() {
    let rig = Rig::manual(steady);
    current_thread().block_on(downed(&rig));
    let (recorder, guard) = record();
    for _ in 0..60 {
        rig.clock.advance(MINUTE);
        for _ in 0..10 {
            assert!(rig.pool.try_acquire().is_err());
        }
        assert_eq!(state(&rig), down(1, Duration::ZERO));
    }
    drop(guard);
    assert_eq!((rig.connector.counts("a").attempts, recorder.take().len()), (1, 0));
    current_thread().block_on(async {
        let waiter = waiting(&rig);
        pass(&rig, MINUTE * 2, async || {}).await;
        waiter.await.expect("the next caller's runtime took over").release();
    });
    assert_eq!((rig.connector.counts("a").attempts, state(&rig)), (2, ServerState::Up));
}
