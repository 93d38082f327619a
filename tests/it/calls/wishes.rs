//! `acquire_with`.

use std::pin::pin;

use connring::test_util::Connect;
use connring::{AcquireError, AcquireOptions, ServerState, TryAcquireError};

use super::*;
use crate::support::{advance_smoothly, open, poll_once};

fn options() -> AcquireOptions {
    AcquireOptions::new()
}

#[tokio::test]
async fn avoided_server_is_used_only_if_no_other_serves() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b", "c"]));
    fill(&rig).await;
    for _ in 0..4 {
        let conn = rig.pool.acquire_with(options().avoid(["a", "b", "x"])).await.expect("c serves");
        assert_eq!(server_of(&conn), "c");
        conn.release();
    }
    for server in ["b", "c"] {
        rig.pool.disable(server, None).expect("it is registered");
    }
    let conn = rig.pool.acquire_with(options().avoid(["a"])).await.expect("only a serves");
    assert_eq!(server_of(&conn), "a");
}

#[tokio::test]
async fn callers_that_prefer_a_server_have_the_others_probed() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
    rig.connector.next_connects("a", [Connect::Refuse]);
    rig.pool.warm_up(Duration::from_secs(1)).await;
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Down { .. }));
    for _ in 0..20 {
        advance_smoothly(&rig, Duration::from_millis(100)).await;
        rig.pool.acquire_with(options().prefer("b")).await.expect("b serves").release();
    }
    assert_eq!((rig.pool.status().servers[0].state, rig.connector.counts("a").attempts), (ServerState::Up, 2));
}

#[tokio::test]
async fn waiter_that_avoids_a_server_is_overtaken_by_the_next_that_accepts_it() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).max_conns_per_server(1));
    let held = open(&rig, 2).await;
    let [of_a, of_b] = <[Conn; 2]>::try_from(held).expect("two are open");
    assert_eq!(server_of(&of_a), "a");
    let mut avoids = pin!(rig.pool.acquire_with(options().avoid(["a"])));
    assert!(poll_once(avoids.as_mut()).await);
    let mut plain = pin!(rig.pool.acquire());
    assert!(poll_once(plain.as_mut()).await);
    of_a.release();
    assert!(poll_once(avoids.as_mut()).await);
    let of_a = plain.await.expect("it accepts a");
    assert_eq!(server_of(&of_a), "a");
    // Without anybody behind it, what it does not accept stays idle.
    of_a.release();
    assert_eq!((rig.pool.status().servers[0].idle, rig.pool.status().waiters), (1, 1));
    let plain = rig.pool.acquire().await.expect("a caller that comes later takes it");
    of_b.release();
    assert_eq!(server_of(&avoids.await.expect("it accepts b")), "b");
    plain.release();
}

#[tokio::test]
async fn waiter_accepts_the_avoided_server_once_no_other_serves() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).max_conns_per_server(1));
    let mut held = open(&rig, 2).await;
    let mut avoids = pin!(rig.pool.acquire_with(options().avoid(["a"])));
    assert!(poll_once(avoids.as_mut()).await);
    held.remove(0).release();
    assert!(poll_once(avoids.as_mut()).await);
    rig.pool.disable("b", None).expect("it is registered");
    settle().await;
    assert_eq!(server_of(&avoids.await.expect("a is the last that serves")), "a");
}

#[tokio::test]
async fn attempts_for_a_waiter_go_to_servers_that_it_accepts() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b", "c"]));
    for _ in 0..3 {
        let conn = rig.pool.acquire_with(options().avoid(["a", "b"])).await.expect("c accepts");
        assert_eq!(server_of(&conn), "c");
        conn.discard();
    }
    assert_eq!(rig.connector.total_counts().attempts, 3);
    // A connection of another attempt does not end its wait.
    rig.connector.set_default(Connect::Slow(10 * MS));
    let mut plain = pin!(rig.pool.acquire());
    assert!(poll_once(plain.as_mut()).await);
    let mut avoids = pin!(rig.pool.acquire_with(options().avoid(["a", "b"])));
    assert!(poll_once(avoids.as_mut()).await);
    settle().await;
    advance_smoothly(&rig, 50 * MS).await;
    assert_eq!(server_of(&avoids.await.expect("c accepts")), "c");
    plain.await.expect("the servers accept").release();
}

#[tokio::test]
async fn preferred_server_serves_first_if_it_can() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b", "c"]));
    fill(&rig).await;
    for _ in 0..4 {
        let conn = rig.pool.acquire_with(options().prefer("b")).await.expect("b serves");
        assert_eq!(server_of(&conn), "b");
        conn.release();
    }
    let _of_b = rig.pool.acquire_with(options().prefer("b")).await.expect("b serves");
    let other = rig.pool.acquire_with(options().prefer("b")).await.expect("others serve");
    assert_ne!(server_of(&other), "b");
    other.release();
    assert_eq!(rig.connector.counts("b").attempts, 1);
    rig.pool.disable("a", None).expect("it is registered");
    for name in ["a", "x"] {
        assert_ne!(server_of(&rig.pool.acquire_with(options().prefer(name)).await.expect("c serves")), "a");
    }
}

#[tokio::test]
async fn fresh_acquire_gets_a_new_connection_beside_idle_ones() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(2));
    rig.pool.acquire().await.expect("a accepts").release();
    let conn = rig.pool.acquire_with(options().fresh()).await.expect("a accepts");
    assert_eq!((PooledConn::info(&conn).uses(), conn.id()), (0, 2));
    assert_eq!(rig.pool.status().servers[0].idle, 1);
}

#[tokio::test]
async fn fresh_acquire_makes_room_at_a_full_server_by_its_oldest_idle_connection() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(2));
    open(&rig, 2).await.into_iter().for_each(PooledConn::release);
    let conn = rig.pool.acquire_with(options().fresh()).await.expect("a accepts");
    assert_eq!(conn.id(), 3);
    let counts = rig.connector.counts("a");
    assert_eq!((counts.open, counts.max_open, counts.attempts), (2, 2, 3));
    let left = rig.pool.try_acquire().expect("the other one stays");
    assert_eq!(left.id(), 2, "the oldest is closed");
    assert_eq!(rig.pool.status().totals.closes(connring::CloseReason::MadeRoom), 1);
}

#[tokio::test]
async fn fresh_waiter_takes_no_connection_that_comes_back() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(1));
    let held = rig.pool.acquire().await.expect("a accepts");
    let mut fresh = Box::pin(rig.pool.acquire_with(options().fresh()));
    assert!(poll_once(fresh.as_mut()).await);
    rig.connector.set_default(Connect::Slow(10 * MS));
    held.release();
    settle().await;
    // It makes room for its attempt.
    let counts = rig.connector.counts("a");
    assert_eq!((counts.attempts, counts.open, counts.in_flight), (2, 1, 1), "the idle one made room");
    assert!(matches!(rig.pool.try_acquire(), Err(TryAcquireError::Unavailable(counts)) if counts.waiters == 1));
    rig.clock.advance(10 * MS);
    settle().await;
    // Served, but dropped before it took its connection, which is as good as any then.
    drop(fresh);
    rig.pool.try_acquire().expect("the connection is idle").release();
    assert_eq!(rig.connector.counts("a").attempts, 2);
}

#[tokio::test]
async fn timeouts_are_those_of_the_options_or_of_the_builder() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(1).wait_timeout(SECOND));
    let _held = rig.pool.acquire().await.expect("a accepts");
    for (options, timeout) in [(options(), SECOND), (options().timeout(20 * MS).fresh(), 20 * MS)] {
        let mut waiter = pin!(rig.pool.acquire_with(options));
        assert!(poll_once(waiter.as_mut()).await);
        rig.clock.advance(timeout - MS);
        assert!(poll_once(waiter.as_mut()).await);
        rig.clock.advance(MS);
        assert!(matches!(waiter.await, Err(AcquireError::Timeout { waited, .. }) if waited == timeout));
    }
    let mut unbounded = pin!(rig.pool.acquire_with(options().timeout(None)));
    assert!(poll_once(unbounded.as_mut()).await);
    rig.clock.advance(1_000 * SECOND);
    assert!(poll_once(unbounded.as_mut()).await);
    assert!(poll_once(pin!(rig.pool.close())).await, "one is in use");
    assert!(matches!(unbounded.await, Err(AcquireError::Closed)));
    assert!(matches!(rig.pool.acquire_with(options().fresh()).await, Err(AcquireError::Closed)));
}
