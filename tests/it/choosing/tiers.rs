//! Tiers: which are in use, spilling, and the bound of ejections.

use connring::AcquireOptions;

use super::*;

fn of(address: &str, tier: u32) -> Server {
    Server::new(address).tier(tier)
}

/// Two servers of the first tier, two of the second one and one of the last.
fn five(builder: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    builder.servers([of("a", 0), of("b", 0), of("c", 1), of("d", 1), of("e", 15)]).max_conns_per_server(2)
}

fn standby(rig: &Rig) -> Vec<String> {
    let servers = rig.pool.status().servers;
    servers.iter().filter(|server| server.standby).map(|server| server.address.to_string()).collect()
}

/// The servers of the next acquires, each of which is returned.
async fn used(rig: &Rig, times: usize) -> BTreeMap<String, usize> {
    let mut used = BTreeMap::new();
    for _ in 0..times {
        let conn = rig.pool.acquire().await.expect("a server serves");
        *used.entry(server_of(&conn)).or_default() += 1;
        conn.release();
        settle().await;
    }
    used
}

fn names(used: &BTreeMap<String, usize>) -> Vec<&str> {
    used.keys().map(String::as_str).collect()
}

#[tokio::test(start_paused = true)]
async fn best_tier_that_serves_is_used_alone() {
    let rig = rig(five);
    assert_eq!(
        (names(&used(&rig, 20).await), standby(&rig)),
        (vec!["a", "b"], vec!["c".into(), "d".into(), "e".into()])
    );
    take_of(&rig, "a").fail("broken");
    assert_eq!(names(&used(&rig, 20).await), ["b"]);
    take_of(&rig, "b").fail_for("broken", SECOND * 5);
    assert_eq!((names(&used(&rig, 20).await), standby(&rig)), (vec!["c", "d"], vec!["e".to_owned()]));
    take_of(&rig, "c").fail("broken");
    take_of(&rig, "d").fail("broken");
    assert_eq!((names(&used(&rig, 20).await), standby(&rig)), (vec!["e"], vec![]));
    // The best tier comes back.
    while rig.pool.status().servers[1].state != ServerState::Up {
        used(&rig, 1).await;
        sleep(SECOND).await;
    }
    assert_eq!((names(&used(&rig, 20).await), standby(&rig)), (vec!["b"], vec!["e".to_owned()]));
    assert_eq!(rig.connector.counts("e").attempts, 1, "a standby server is not connected to");
}

#[tokio::test(start_paused = true)]
async fn tier_that_is_not_the_first_may_be_the_best() {
    let rig = rig(|builder| builder.servers([of("a", 3), of("b", 7)]));
    assert_eq!(names(&used(&rig, 5).await), ["a"]);
    rig.pool.register(of("c", 2)).expect("it is new");
    assert_eq!((names(&used(&rig, 5).await), standby(&rig)), (vec!["c"], vec!["a".into(), "b".into()]));
    rig.pool.deregister("c").expect("it is registered");
    rig.pool.deregister("a").expect("it is registered");
    assert_eq!((names(&used(&rig, 5).await), standby(&rig)), (vec!["b"], vec![]));
}

#[tokio::test(start_paused = true)]
async fn changed_tier_counts_at_once() {
    let rig = rig(|builder| builder.servers([of("a", 0), of("b", 1)]));
    assert_eq!(names(&used(&rig, 5).await), ["a"]);
    rig.pool.set_servers([of("a", 1), of("b", 0)]).expect("in range");
    assert_eq!((names(&used(&rig, 5).await), standby(&rig)), (vec!["b"], vec!["a".to_owned()]));
    rig.pool.update(of("b", 1)).expect("in range");
    assert_eq!(names(&used(&rig, 10).await), ["a", "b"]);
    rig.pool.update(of("a", 2)).expect("in range");
    assert_eq!((names(&used(&rig, 5).await), rig.pool.status().servers[0].tier), (vec!["b"], 2));
    rig.pool.update(of("b", 15)).expect("in range");
    assert_eq!(names(&used(&rig, 5).await), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn full_tier_lets_callers_wait_unless_it_spills() {
    for spills in [false, true] {
        let rig = rig(|builder| five(builder).spill_when_full(spills).max_conns_per_server(1));
        let mut held = open(&rig, 2).await;
        assert!(rig.pool.try_acquire().is_err(), "nothing is idle");
        let mut waits = std::pin::pin!(rig.pool.acquire());
        let is_pending = poll_once(waits.as_mut()).await;
        settle().await;
        if spills {
            let conn = waits.await.expect("the next tier serves");
            assert!(["c", "d"].contains(&&*server_of(&conn)));
            conn.release();
            // From its idle connection.
            held.push(rig.pool.try_acquire().expect("the next tier has an idle connection"));
            held.push(rig.pool.acquire().await.expect("the next tier serves"));
            held.push(rig.pool.acquire().await.expect("the last tier serves"));
            let servers: Vec<_> = held.iter().map(server_of).collect();
            assert_eq!(servers[4], "e", "{servers:?}");
            // Room in the first tier: the others are standby again.
            release(held);
            assert_eq!(names(&used(&rig, 20).await), ["a", "b"]);
        } else {
            assert!(is_pending);
            assert_eq!(rig.connector.total_counts().attempts, 2);
            let error = rig.pool.acquire_timeout(MS).await.expect_err("two are full");
            let AcquireError::Timeout { reason, .. } = error else { panic!("{error:?}") };
            let counts = reason.counts();
            assert_eq!((counts.full, counts.standby, counts.down), (2, 3, 0));
            assert!(matches!(reason.servers()[2].reason, Reason::Standby { tier: 1 }), "{reason:?}");
            assert_eq!(reason.servers()[2].to_string(), "c: standby (tier: 1)");
            assert_eq!(reason.to_string(), "no server can serve: 2 full, 3 standby; 1 waiter in the queue");
            held.remove(0).release();
            assert_eq!(server_of(&waits.await.expect("it is served in turn")).len(), 1);
        }
    }
}

/// A pool whose first tier is up, with all connections in use, while connecting to it pauses.
async fn paused() -> (Rig, Vec<Conn>) {
    let rig = rig(|builder| builder.servers([of("a", 0), of("b", 1)]).max_conns_per_server(4));
    let held = open(&rig, 1).await;
    // It has answered: it stays up when a connect is refused.
    release(held);
    let held = vec![rig.pool.try_acquire().expect("one is idle")];
    rig.connector.on_connect("a", Connect::Refuse);
    (rig, held)
}

#[tokio::test(start_paused = true)]
async fn tier_whose_connecting_pauses_spills() {
    let (rig, mut held) = paused().await;
    // The attempt at "a" fails, and the waiter is served by "b".
    held.push(rig.pool.acquire().await.expect("the next tier serves"));
    let status = rig.pool.status();
    assert_eq!((server_of(&held[1]), status.servers[0].state), ("b".to_owned(), ServerState::Up));
    assert!(status.servers[0].connecting_paused.is_some() && status.servers[1].standby);
    held.remove(1).release();
    assert_eq!(shares(&turns(&rig, 10)), BTreeMap::from([("b", 10)]));
    // An idle connection of the better tier comes first.
    held.remove(0).release();
    assert_eq!(shares(&turns(&rig, 10)), BTreeMap::from([("a", 10)]));
}

#[tokio::test(start_paused = true)]
async fn connection_that_returns_to_standby_server_serves_waiters_only_if_its_tier_spills() {
    let rig = rig(|builder| builder.servers([of("a", 0), of("b", 1)]).max_conns_per_server(1).spill_when_full(true));
    let of_a = rig.pool.acquire().await.expect("it accepts");
    let of_b = rig.pool.acquire().await.expect("the next tier serves");
    assert_eq!((server_of(&of_a), server_of(&of_b)), ("a".to_owned(), "b".to_owned()));
    let mut waits = std::pin::pin!(rig.pool.acquire());
    assert!(poll_once(waits.as_mut()).await);
    of_b.release();
    let of_b = waits.await.expect("it returned");
    assert_eq!(server_of(&of_b), "b");
    // "a" gets a permit, whose attempt hangs: a caller waits for it, and not for the next tier.
    rig.pool.update(of("a", 0).max_conns(2)).expect("in range");
    rig.connector.on_connect("a", Connect::Never);
    let mut waits = std::pin::pin!(rig.pool.acquire());
    assert!(poll_once(waits.as_mut()).await);
    rig.pool.update(of("a", 0).max_conns(9)).expect("in range");
    of_b.release();
    settle().await;
    assert!(poll_once(waits.as_mut()).await, "the better tier has room");
    drop(of_a);
}

#[tokio::test(start_paused = true)]
async fn ejections_of_a_tier_are_bounded_only_while_no_worse_one_serves() {
    let rig = rig(|builder| {
        let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(0.5).base(LONG).max(LONG);
        five(builder).ejection(ejection).max_conns_per_server(1)
    });
    let fail = async |address: &str| {
        release(
            open(&rig, rig.pool.status().servers.iter().filter(|s| s.state == ServerState::Up && !s.standby).count())
                .await,
        );
        take_of(&rig, address).fail("broken");
        let servers = rig.pool.status().servers;
        servers.iter().find(|server| *server.address == *address).expect("it is registered").state != ServerState::Up
    };
    assert!(fail("a").await && fail("b").await, "the second tier serves");
    assert!(fail("d").await && fail("c").await, "the last tier serves");
    assert!(!fail("e").await, "no server would be left");
    let rig2 = Rig::paused(|builder| {
        let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(0.5).base(LONG).max(LONG);
        builder.servers([of("a", 0), of("c", 1), of("d", 1)]).ejection(ejection).max_conns_per_server(1)
    });
    // The best tier out of the way, the worst one keeps half of its servers.
    rig2.pool.acquire().await.expect("it accepts").fail("broken");
    let held = open(&rig2, 2).await;
    held.into_iter().for_each(|conn| conn.fail("broken"));
    let up = rig2.pool.status().servers.iter().filter(|server| server.state == ServerState::Up).count();
    assert_eq!(up, 1);
}

#[tokio::test(start_paused = true)]
async fn no_caller_sees_an_empty_set_while_tiers_change() {
    let rig = rig(|builder| builder.servers([of("a", 0), of("b", 1)]).max_conns_per_server(1));
    release(open(&rig, 1).await);
    for _ in 0..50 {
        rig.pool.set_servers([of("a", 1), of("b", 0)]).expect("in range");
        assert_eq!(names(&used(&rig, 1).await), ["b"]);
        rig.pool.set_servers([of("a", 0), of("b", 1)]).expect("in range");
        assert_eq!(names(&used(&rig, 1).await), ["a"]);
        assert!(!matches!(rig.pool.try_acquire(), Err(TryAcquireError::Unavailable(counts)) if counts.down > 0));
    }
}

/// Callers and waiters that spill.
#[tokio::test]
async fn standby_servers_take_turns() {
    for waits in [false, true] {
        let rig = rig(|builder| {
            let standby = ["c", "d", "e"].map(|name| Server::new(name).tier(1).max_conns(8));
            let builder = builder.servers(["a", "b"]).servers(standby);
            builder.spill_when_full(true).max_conns_per_server(1)
        });
        let mut served = BTreeMap::<String, usize>::new();
        let _held = open(&rig, 2).await;
        // One idle connection at each, and more callers than the first tier has connections.
        let first = open(&rig, 3).await;
        release(first);
        for _ in 0..60 {
            let conn = match waits {
                false => rig.pool.try_acquire().expect("each has an idle connection"),
                true => rig.pool.acquire().await.expect("each accepts"),
            };
            *served.entry(server_of(&conn)).or_default() += 1;
            conn.release();
        }
        let least = served.values().min().copied().unwrap_or_default();
        assert!(served.len() == 3 && least >= 15, "{served:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn answered_connection_of_down_server_serves_only_if_its_tier_is_in_use_or_spills() {
    for spills in [false, true] {
        let rig = rig(|builder| builder.server(of("b", 1)).max_conns_per_server(2).spill_when_full(spills));
        let mut of_b = open(&rig, 2).await;
        rig.pool.register(of("a", 0).max_conns(1)).expect("it is new");
        let _of_a = rig.pool.acquire().await.expect("it accepts");
        of_b.remove(0).fail("broken");
        // It answers, although its server was ejected.
        release(of_b);
        let is_served = rig.pool.try_acquire().map(Conn::release).is_ok();
        assert_eq!(is_served, spills, "the better tier is full");
        assert_eq!(rig.pool.acquire_timeout(MS).await.is_ok(), spills);
    }
}

#[tokio::test(start_paused = true)]
async fn waiter_uses_next_tier_as_soon_as_attempt_has_filled_the_first_one() {
    let rig = rig(|builder| {
        let builder = builder.servers([of("a", 0).max_conns(2), of("b", 1)]).spill_when_full(true);
        builder.max_concurrent_connects_per_server(1).hedge_delay(LONG)
    });
    rig.connector.next_connects("a", [Connect::Slow(MS), Connect::Never]);
    let spawn = || {
        let pool = rig.pool.clone();
        tokio::spawn(async move { pool.acquire().await })
    };
    let calls = [(); 3].map(|()| spawn());
    sleep(MS * 5).await;
    assert_eq!(calls.each_ref().map(|call| call.is_finished()), [true, true, false]);
    calls.iter().for_each(|call| call.abort());
}

/// Of a server each, with one connection at most.
fn two_tiers() -> Rig {
    rig(|builder| builder.servers([of("a", 0), of("b", 1)]).max_conns_per_server(1).spill_when_full(true))
}

#[tokio::test(start_paused = true)]
async fn attempt_that_fills_a_tier_lets_the_next_one_serve_at_once() {
    for options in [AcquireOptions::new(), AcquireOptions::new().avoid(["c"])] {
        let rig = two_tiers();
        let mut held = open(&rig, 2).await;
        held.pop().expect("that of b").release();
        held.pop().expect("that of a").discard();
        rig.connector.on_connect("a", Connect::Never);
        let mut caller = std::pin::pin!(rig.pool.acquire_with(options));
        assert!(!poll_once(caller.as_mut()).await);
        assert_eq!(rig.connector.counts("a").attempts, 1, "it has not begun");
    }
}

#[tokio::test(start_paused = true)]
async fn connection_that_comes_back_to_a_tier_that_is_spilled_to_serves_a_waiter_at_once() {
    let rig = two_tiers();
    let mut held = open(&rig, 2).await;
    let mut waiter = std::pin::pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    held.pop().expect("that of b").release();
    assert!(!poll_once(waiter.as_mut()).await, "the background task has not run since");
}
