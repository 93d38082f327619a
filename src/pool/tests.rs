//! What a pass costs, counted rather than timed: servers looked at when most are dead, locks taken when all goes well.
//! And what of a server and of the ring no caller sees.

use std::hint::black_box;
use std::time::Duration;

use tokio::time::timeout;

use super::Pool;
use crate::clock::Clock;
use crate::conn::PooledConn;
use crate::connector::scripted::ScriptedConnector;
use crate::server::{List, Seats, Turn, near};
use crate::sync::{Arc, LOCKS_TAKEN};

const SERVERS: usize = 1_000;

/// A pool of a thousand servers with one connection each, all out, in the order of the servers.
async fn thousand() -> (Pool<ScriptedConnector>, ScriptedConnector, Vec<PooledConn<ScriptedConnector>>) {
    let clock = Clock::manual();
    let connector = ScriptedConnector::new(clock.clone());
    let builder = Pool::builder(connector.clone()).clock(clock).max_conns_per_server(1);
    let pool = builder.servers((0..SERVERS).map(|number| number.to_string())).build().expect("in range");
    let mut held = Vec::new();
    for _ in 0..SERVERS {
        held.push(pool.acquire().await.expect("all accept"));
    }
    held.sort_by_key(|conn| conn.address().parse::<usize>().expect("addresses are numbers"));
    (pool, connector, held)
}

#[tokio::test]
async fn the_list_that_a_pass_goes_over_leaves_out_the_dead() {
    let (pool, _connector, mut held) = thousand().await;
    let alive = held.pop().expect("a thousand");
    held.into_iter().for_each(|conn| conn.fail("broken"));
    let list = pool.ring.list.load();
    let up: Vec<_> = list.up.iter().map(|turn| &*turn.server.address).collect();
    assert_eq!((list.servers.len(), up), (SERVERS, vec![alive.address()]));
}

#[tokio::test]
async fn a_pass_goes_over_no_other_servers_than_that_list_has() {
    let (pool, connector, held) = thousand().await;
    held.into_iter().for_each(PooledConn::release);
    // All have an idle connection and would serve if they were touched, but one alone is said to be up.
    let list = pool.ring.list.load_full();
    let up: Box<[_]> = Box::new([Turn { server: Arc::clone(&list.servers[500]), bucket: None }]);
    let list = List::new(Arc::clone(&list.servers), Vec::new(), false);
    pool.ring.publish(Arc::new(List { seats: Seats::of(&up), up, ..list }));
    for _ in 0..2 * SERVERS {
        let conn = pool.try_acquire().expect("one is up");
        assert_eq!(conn.address(), "500");
        conn.release();
    }
    // Nor does a pass that finds nothing go on to the others.
    let _held = pool.try_acquire().expect("one is up");
    for _ in 0..100 {
        assert!(pool.try_acquire().is_err());
    }
    assert_eq!(connector.total_counts().reuse_checks, 2 * SERVERS as u64 + 1);
}

/// The locks of the crate's own, which are all taken through `sync::lock`; those that tokio takes are not seen.
#[tokio::test]
async fn hot_cycles_take_no_lock() {
    for (upkeep, max_rps) in [(true, None), (true, Some(1e9)), (false, None), (false, Some(1e9))] {
        let clock = Clock::system();
        let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).maintenance(upkeep);
        let builder = max_rps.into_iter().fold(builder, |builder, rps| builder.max_rps(rps));
        let pool = builder.server("a").max_conns_per_server(1).build().expect("in range");
        let held = pool.acquire().await.expect("it accepts");
        // What takes locks is seen to: the line, and the dial just now.
        let before = LOCKS_TAKEN.get();
        assert!(before > 0);
        assert!(pool.acquire_timeout(Duration::from_millis(1)).await.is_err());
        let waited = LOCKS_TAKEN.get();
        assert!(waited > before);
        held.release();
        for _ in 0..10_000 {
            black_box(pool.try_acquire().expect("it is idle")).release();
            black_box(pool.acquire().await.expect("it is idle")).release();
            black_box(pool.acquire_now().await.expect("it is idle")).release();
        }
        assert_eq!(LOCKS_TAKEN.get(), waited, "upkeep {upkeep}, limit {max_rps:?}");
    }
}

#[tokio::test]
async fn a_thread_remembers_the_list_that_counts() {
    // More than there are slots: all of them are used.
    for _ in 0..100 {
        let clock = Clock::manual();
        let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock);
        let pool = builder.server("a").build().expect("in range");
        let remembered = || pool.ring.with_seats(|Seats { seats, .. }, near| (seats.len(), near));
        assert_eq!(remembered(), None);
        pool.acquire().await.expect("it accepts").release();
        assert_eq!(remembered(), Some((1, near())));
        pool.register("b").expect("it is not there");
        assert_eq!(remembered(), None, "another list counts");
        pool.try_acquire().expect("one is idle").release();
        assert_eq!(remembered(), Some((2, near())));
    }
}

#[tokio::test]
async fn hot_cycles_load_no_list_but_look_at_the_health() {
    for max_rps in [None, Some(1e9)] {
        let clock = Clock::manual();
        let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock);
        let builder = max_rps.into_iter().fold(builder, |builder, rps| builder.max_rps(rps));
        let pool = builder.server("a").build().expect("in range");
        pool.acquire().await.expect("it accepts").release();
        let list = pool.ring.list.load_full();
        // Not published: whoever loads it finds nothing.
        pool.ring.list.store(Arc::new(List::new(Arc::default(), Vec::new(), false)));
        for _ in 0..10 {
            pool.try_acquire().expect("remembered").release();
        }
        pool.ring.list.store(Arc::clone(&list));
        let server = &list.servers[0];
        // The list does not say so yet.
        server.health.dial_failed(server.health.snapshot().generation(), |_| u64::MAX).expect("it was up");
        assert!(pool.try_acquire().is_err());
        assert_eq!(server.idle.len(), 1);
    }
}

#[tokio::test]
async fn a_servers_words_follow_its_dials_its_health_and_its_rate() {
    let clock = Clock::manual();
    let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).max_rps(10.0);
    let pool = builder.server("a").max_concurrent_connects_per_server(2).build().expect("in range");
    let server = Arc::clone(&pool.ring.list.load().servers[0]);
    assert!(server.may_dial(0));
    assert_eq!([server.begin_dial(2), server.begin_dial(2), server.begin_dial(2)], [true, true, false]);
    assert_eq!((server.dialing(), server.may_dial(0)), (2, false));
    server.end_dial();
    assert_eq!((server.dialing(), server.begin_dial(2)), (1, true));
    // The same rate again is the same bucket, which takes tokens back.
    let bucket = server.bucket().expect("there is a rate");
    pool.set_servers(["a"]).expect("in range");
    assert!(server.bucket().is_some_and(|same| Arc::ptr_eq(&same, &bucket)));
    assert_eq!(server.down_until(), None);
    let at_ns = 1_000_000_000;
    server.health.dial_failed(server.health.snapshot().generation(), |_| at_ns).expect("it was up");
    assert_eq!(server.down_until(), Some(at_ns));
}

#[tokio::test]
async fn the_ring_knows_whether_upkeep_runs_and_its_time() {
    for (upkeep, tick) in [(true, Some(7)), (false, None)] {
        let clock = Clock::manual();
        let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).maintenance(upkeep);
        let ring = builder.server("a").build().expect("in range").ring;
        ring.leave_unattended();
        assert_eq!((ring.is_attended(), ring.tick()), (false, None));
        assert!(!ring.attend(7) && ring.is_attended() && ring.attend(7));
        assert_eq!(ring.tick(), tick);
    }
}

#[tokio::test]
async fn a_change_rings_only_for_those_who_wait() {
    let clock = Clock::manual();
    let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock);
    let pool = builder.server("a").build().expect("in range");
    let rang = || timeout(Duration::ZERO, pool.ring.bell.notified());
    // Whatever building it rang.
    let _ = rang().await;
    pool.ring.something_changed();
    assert!(rang().await.is_err());
    let _place = pool.ring.line.join(1).expect("there is room");
    pool.ring.something_changed();
    assert!(rang().await.is_ok());
}
