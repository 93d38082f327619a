//! Waiters with wishes among others: each comes in its turn.

use connring::{AcquireOptions, Builder, CloseReason, Reason};

use super::*;
use crate::calls::acquire_of;

const MS: Duration = Duration::from_millis(1);

fn with_wish(rig: &Rig, options: AcquireOptions) -> Caller {
    let mut caller = Caller::new(rig, |pool| async move { pool.acquire_with(options).await });
    caller.assert_waits();
    caller
}

fn fresh(rig: &Rig) -> Caller {
    with_wish(rig, AcquireOptions::new().fresh())
}

/// One new connection each, then it closes.
async fn assert_is_served_fresh(rig: &Rig, caller: &mut Caller, connect: Duration) {
    caller.assert_waits();
    rig.clock.advance(connect);
    settle().await;
    let conn = caller.served();
    assert_eq!(PooledConn::info(&conn).uses(), 0);
    conn.release();
    settle().await;
}

#[tokio::test]
async fn waiters_that_accept_what_comes_back_do_not_overtake_one_for_a_new_connection() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(2).wait_timeout(None));
    let mut held = open(&rig, 2).await;
    let mut new = fresh(&rig);
    let mut others: Vec<_> = (0..4).map(|_| Caller::joined(&rig)).collect();
    rig.connector.set_default(Connect::Slow(10 * MS));
    held.remove(0).release();
    settle().await;
    let counts = rig.connector.counts("a");
    assert_eq!((counts.in_flight, counts.attempts), (1, 3), "the first that comes back makes room");
    assert_eq!(others[0].wakes(), 0);
    for other in &mut others[..3] {
        // While its connection is opened, the others use the other one.
        held.remove(0).release();
        settle().await;
        held.push(other.served());
    }
    assert_eq!(rig.connector.counts("a").attempts, 3, "one order at a time");
    assert_is_served_fresh(&rig, &mut new, 10 * MS).await;
    others.remove(3).served().release();
}

#[tokio::test]
async fn waiters_for_new_connections_have_an_order_each() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(2).wait_timeout(None));
    let held = open(&rig, 2).await;
    let mut new = [fresh(&rig), fresh(&rig)];
    rig.connector.set_default(Connect::Slow(10 * MS));
    held.into_iter().for_each(PooledConn::release);
    settle().await;
    assert_eq!(rig.connector.counts("a").in_flight, 2);
    rig.clock.advance(10 * MS);
    settle().await;
    let ids = new.each_mut().map(|caller| caller.served().id());
    assert_eq!(ids, [3, 4]);
}

fn one_a_second(max_conns: u32) -> Rig {
    let rig = Rig::manual(|builder| {
        builder.server(Server::new("a").max_rps(1.0).burst(1).max_conns(max_conns)).wait_timeout(None)
    });
    rig.clock.advance(SECOND);
    rig
}

#[tokio::test]
async fn token_is_kept_for_a_waiter_for_a_new_connection() {
    for max_conns in [1, 2] {
        let rig = one_a_second(max_conns);
        rig.pool.acquire().await.expect("it accepts").release();
        let mut new = fresh(&rig);
        let mut others = [Caller::joined(&rig), Caller::joined(&rig)];
        rig.connector.set_default(Connect::Slow(10 * MS));
        rig.clock.advance(SECOND);
        settle().await;
        assert_eq!(rig.connector.counts("a").in_flight, 1, "it may begin when its token is there");
        let made_room = rig.pool.status().totals.closes(CloseReason::MadeRoom);
        assert_eq!(made_room, u64::from(max_conns == 1));
        assert_is_served_fresh(&rig, &mut new, 10 * MS).await;
        others[0].assert_waits();
        rig.clock.advance(SECOND - MS);
        settle().await;
        others[0].assert_waits();
        rig.clock.advance(2 * MS);
        settle().await;
        others[0].served().release();
        others[1].assert_waits();
    }
}

#[tokio::test]
async fn connection_that_comes_back_leaves_the_token_to_the_order() {
    let rig = one_a_second(2);
    let held = rig.pool.acquire().await.expect("it accepts");
    let mut new = fresh(&rig);
    rig.connector.set_default(Connect::Slow(10 * MS));
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(rig.connector.counts("a").in_flight, 1);
    let mut other = Caller::joined(&rig);
    held.release();
    settle().await;
    assert_eq!(other.wakes(), 0);
    assert_is_served_fresh(&rig, &mut new, 10 * MS).await;
    other.assert_waits();
}

#[tokio::test]
async fn token_is_kept_at_the_server_of_the_order_alone() {
    let rig = Rig::manual(|builder| {
        builder.servers(["a", "b"].map(|address| Server::new(address).max_rps(1.0).burst(1))).wait_timeout(None)
    });
    rig.clock.advance(SECOND);
    let held = open(&rig, 2).await;
    let _new = fresh(&rig);
    rig.connector.set_default(Connect::Slow(10 * MS));
    rig.clock.advance(SECOND);
    settle().await;
    let has_order = |conn: &PooledConn<ScriptedConnector>| rig.connector.counts(conn.address()).in_flight > 0;
    let (at_order, elsewhere): (Vec<_>, Vec<_>) = held.into_iter().partition(has_order);
    assert_eq!((at_order.len(), elsewhere.len()), (1, 1));
    let mut behind = Caller::joined(&rig);
    elsewhere.into_iter().for_each(PooledConn::release);
    behind.served().release();
}

#[tokio::test]
async fn no_room_is_made_where_no_further_attempt_may_start() {
    let rig = Rig::manual(|builder| {
        let builder = builder.server("a").max_conns_per_server(2).wait_timeout(None);
        builder.max_concurrent_connects_per_server(1)
    });
    let held = open(&rig, 2).await;
    let mut new = [fresh(&rig), fresh(&rig)];
    rig.connector.set_default(Connect::Slow(10 * MS));
    for conn in held {
        conn.release();
        settle().await;
    }
    let counts = || {
        let status = rig.pool.status();
        let (idle, made_room) = (status.servers[0].idle, status.totals.closes(CloseReason::MadeRoom));
        (rig.connector.counts("a").in_flight, idle, made_room)
    };
    assert_eq!(counts(), (1, 1, 1));
    rig.clock.advance(10 * MS);
    settle().await;
    let _first = new[0].served();
    // Its place among the attempts is free a tenth of the connect time later.
    rig.clock.advance(MS);
    settle().await;
    assert_eq!(counts(), (1, 0, 2));
}

#[tokio::test]
async fn order_that_fails_keeps_no_token() {
    let rig = one_a_second(2);
    rig.pool.acquire().await.expect("it accepts").release();
    let mut new = fresh(&rig);
    let mut other = Caller::joined(&rig);
    rig.connector.set_default(Connect::SlowRefuse(10 * MS));
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(rig.connector.counts("a").in_flight, 1);
    other.assert_waits();
    rig.clock.advance(10 * MS);
    settle().await;
    other.served().release();
    new.assert_waits();
}

#[tokio::test]
async fn waiters_that_avoid_servers_have_an_attempt_each() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).wait_timeout(None));
    rig.connector.set_default(Connect::Slow(10 * MS));
    let mut avoiding = ["a", "b"].map(|name| with_wish(&rig, AcquireOptions::new().avoid([name])));
    settle().await;
    assert_eq!(["a", "b"].map(|name| rig.connector.counts(name).in_flight), [1, 1]);
    rig.clock.advance(10 * MS);
    settle().await;
    let served = avoiding.each_mut().map(|caller| server_of(&caller.served()));
    assert_eq!(served, ["b", "a"]);
}

#[tokio::test]
async fn error_says_which_servers_the_caller_avoids_and_which_connect() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).max_conns_per_server(1));
    acquire_of(&rig, "a").await.release();
    rig.connector.set_default(Connect::Never);
    let options = AcquireOptions::new().avoid(["a"]).timeout(10 * MS);
    let mut caller = with_wish(&rig, options);
    rig.clock.advance(10 * MS);
    let Poll::Ready(Err(AcquireError::Timeout { reason, .. })) = caller.poll() else { panic!("its time is over") };
    let reasons = reason.servers();
    assert!(matches!(reasons[0].reason, Reason::Avoided), "{:?}", reasons[0]);
    assert!(matches!(reasons[1].reason, Reason::Empty { connecting: 1 }), "{:?}", reasons[1]);
    assert_eq!((reason.counts().avoided, reason.counts().empty, reason.counts().full), (1, 1, 0));
    let text = "no server can serve: 1 without an idle connection, 1 avoided by the caller";
    assert_eq!(reason.to_string(), text);
}

fn made_room(rig: &Rig) -> u64 {
    rig.pool.status().totals.closes(CloseReason::MadeRoom)
}

#[tokio::test]
async fn no_more_connections_make_room_than_attempts_may_run() {
    for connect in [Connect::Never, Connect::Refuse] {
        let rig = Rig::manual(|builder| {
            builder.server("a").max_conns_per_server(8).max_concurrent_connects_per_server(1).wait_timeout(None)
        });
        let held = open(&rig, 8).await;
        held.into_iter().for_each(PooledConn::release);
        let held = open(&rig, 8).await;
        let _new: Vec<_> = (0..8).map(|_| fresh(&rig)).collect();
        let mut others: Vec<_> = (0..8).map(|_| Caller::joined(&rig)).collect();
        rig.connector.set_default(connect);
        held.into_iter().for_each(PooledConn::release);
        settle().await;
        assert_eq!((made_room(&rig), rig.pool.status().servers[0].state), (1, ServerState::Up));
        others[..7].iter_mut().for_each(|caller| caller.served().release());
    }
}

#[tokio::test]
async fn one_connection_makes_room_for_a_waiter_whose_attempt_hangs() {
    let rig = Rig::manual(|builder| {
        builder.server(Server::new("a").max_rps(1_000.0).burst(4)).max_conns_per_server(4).wait_timeout(None)
    });
    open(&rig, 4).await.into_iter().for_each(PooledConn::release);
    rig.connector.set_default(Connect::Never);
    let _new = fresh(&rig);
    let mut served = 0;
    let mut others: Vec<_> = (0..4).map(|_| Caller::joined(&rig)).collect();
    for _ in 0..100 {
        rig.clock.advance(10 * MS);
        settle().await;
        for other in &mut others {
            if let Poll::Ready(conn) = other.poll() {
                conn.expect("it serves").release();
                *other = Caller::new(&rig, |pool| async move { pool.acquire().await });
                served += 1;
            }
        }
    }
    assert_eq!((made_room(&rig), rig.connector.counts("a").attempts), (1, 5), "no hedge to its own server");
    assert!(served > 200, "{served}");
}

#[tokio::test]
async fn token_of_a_waiter_that_leaves_serves_the_next() {
    let build = |builder: Builder<ScriptedConnector>| {
        let limited = Server::new("a").max_rps(1.0).burst(1).max_conns(2);
        builder.server(limited).wait_timeout(None).maintenance(false).hedge_delay(100 * SECOND)
    };
    let rig = Rig::manual(build);
    rig.clock.advance(SECOND);
    rig.pool.acquire().await.expect("it accepts").release();
    let new = fresh(&rig);
    let mut other = Caller::joined(&rig);
    rig.connector.set_default(Connect::Never);
    rig.clock.advance(SECOND);
    settle().await;
    other.assert_waits();
    drop(new);
    settle().await;
    other.served().release();
}

#[tokio::test]
async fn one_order_for_each_token() {
    let rig = one_a_second(4);
    for _ in 0..2 {
        rig.pool.acquire().await.expect("it accepts").release();
        rig.clock.advance(SECOND);
    }
    let mut new: Vec<_> = (0..4).map(|_| fresh(&rig)).collect();
    for (order, caller) in new.iter_mut().enumerate() {
        settle().await;
        assert_eq!(rig.connector.counts("a").attempts, 2 + order as u64);
        rig.clock.advance(2 * SECOND);
        settle().await;
        caller.served().release();
    }
}

#[tokio::test]
async fn avoided_server_serves_where_connecting_to_the_other_pauses_or_hangs() {
    for (connect, waits) in [(Connect::LocalFault, Duration::ZERO), (Connect::Never, 100 * MS)] {
        let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
        rig.connector.on_connect("b", connect);
        acquire_of(&rig, "a").await.release();
        settle().await;
        let mut caller = with_wish(&rig, AcquireOptions::new().avoid(["a"]));
        settle().await;
        rig.clock.advance(waits);
        settle().await;
        assert_eq!(server_of(&caller.served()), "a");
    }
}

#[tokio::test]
async fn order_is_not_late_within_twice_the_usual_connect_time() {
    let build = |builder: Builder<ScriptedConnector>| {
        let limited = Server::new("a").max_rps(1.0).burst(1).max_conns(3);
        builder.server(limited).wait_timeout(None).hedge_delay(5 * MS)
    };
    let rig = Rig::manual(build);
    rig.connector.set_default(Connect::Slow(20 * MS));
    let mut first = Caller::joined(&rig);
    settle().await;
    rig.clock.advance(20 * MS);
    settle().await;
    first.served().release();
    let (mut new, mut other) = (fresh(&rig), Caller::joined(&rig));
    rig.clock.advance(SECOND + MS);
    settle().await;
    rig.clock.advance(10 * MS);
    settle().await;
    other.assert_waits();
    assert_is_served_fresh(&rig, &mut new, 10 * MS).await;
    other.assert_waits();
}
