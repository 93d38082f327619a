//! Costs and states of a pool that no caller sees: locks taken, lists loaded, bits of the up set, wake-ups.

mod choosing;

use std::future::{Future, poll_fn};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::task::{coop::unconstrained, yield_now};
use tokio::time::timeout;

use crate::builder::Builder;
use crate::clock::Clock;
use crate::conn::PooledConn;
use crate::connector::scripted::{Connect, RoundTrip, ScriptedConnector};
use crate::connector::{AfterUse, Connector, Ended};
use crate::core::Shared;
use crate::ejection::Ejection;
use crate::pool::Pool;
use crate::raw::{Health, ServerSet, Serving, Time};
use crate::server::{Server, ServerRecord};
use crate::servers::{drop_closed_lists, thread_number};
use crate::sync::{Arc, LOCKS_TAKEN};

const SERVERS: usize = 1_000;

fn shared<C: Connector>(pool: &Pool<C>) -> &Arc<Shared<C>> {
    &pool.shared
}

fn numbers(set: &ServerSet) -> Vec<usize> {
    set.iter_from(0).collect()
}

fn pool(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Rig {
    let clock = Clock::manual();
    let connector = ScriptedConnector::new(clock.clone());
    let builder = Pool::builder(connector.clone()).clock(clock.clone());
    Rig { pool: build(builder).build().expect("in range"), connector, clock }
}

struct Rig {
    pool: Pool<ScriptedConnector>,
    connector: ScriptedConnector,
    clock: Clock,
}

/// A pool of a thousand servers with one connection each, all in use, in the order of the servers. One reported failure
/// ejects a server, up to the last.
async fn thousand() -> (Rig, Vec<PooledConn<ScriptedConnector>>) {
    let rig = pool(|builder| {
        let builder = builder.ejection(Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0));
        builder.max_conns_per_server(1).servers((0..SERVERS).map(|number| number.to_string()))
    });
    let mut held = Vec::new();
    for _ in 0..SERVERS {
        held.push(rig.pool.acquire().await.expect("all accept"));
    }
    held.sort_by_key(|conn| conn.address().parse::<usize>().expect("addresses are numbers"));
    (rig, held)
}

#[tokio::test]
async fn a_server_that_goes_down_leaves_the_up_set_and_no_list_is_published() {
    let (rig, mut held) = thousand().await;
    let before = shared(&rig.pool).servers.list().version;
    let alive = held.pop().expect("a thousand");
    held.into_iter().for_each(|conn| conn.fail("broken"));
    let list = shared(&rig.pool).servers.list();
    assert_eq!((list.version, list.len, numbers(&list.up)), (before, SERVERS, vec![SERVERS - 1]));
    drop(alive);
}

#[tokio::test]
async fn an_acquire_looks_at_no_server_outside_the_up_set() {
    let (rig, held) = thousand().await;
    held.into_iter().for_each(PooledConn::release);
    // All have an idle connection and would serve, but one alone is in the set.
    let list = shared(&rig.pool).servers.list();
    for number in (0..SERVERS).filter(|&number| number != 500) {
        list.up.refresh(number, || false);
    }
    for _ in 0..2 * SERVERS {
        let conn = rig.pool.try_acquire().expect("one is up");
        assert_eq!(conn.address(), "500");
        conn.release();
    }
    // Nor does a pass that finds nothing go on to the others.
    let _held = rig.pool.try_acquire().expect("one is up");
    for _ in 0..100 {
        assert!(rig.pool.try_acquire().is_err());
    }
    assert_eq!(rig.connector.total_counts().reuse_checks, 2 * SERVERS as u64 + 1);
}

#[tokio::test]
async fn a_due_probe_costs_no_server_its_turn() {
    let rig = pool(|builder| builder.max_conns_per_server(1).servers(["a", "b"]));
    let held = [rig.pool.acquire().await.expect("it accepts"), rig.pool.acquire().await.expect("it accepts")];
    held.into_iter().for_each(PooledConn::release);
    let addresses = [(); 4].map(|()| {
        shared(&rig.pool).notifier.signals.set_probe_due(true);
        let conn = rig.pool.try_acquire().expect("both are idle");
        let address = conn.address().to_owned();
        conn.release();
        address
    });
    assert!(addresses.windows(2).all(|turns| turns[0] != turns[1]), "{addresses:?}");
}

#[tokio::test]
async fn a_caller_waits_for_a_probe_that_is_taken_and_not_started() {
    let rig = pool(|builder| builder.server("a"));
    rig.connector.on_connect("a", Connect::Refuse);
    rig.pool.acquire_now().await.expect_err("the server refuses");
    rig.clock.advance(Duration::from_secs(60));
    let due_times = &shared(&rig.pool).due_times;
    let waits = async || {
        let mut caller = pin!(rig.pool.acquire_now());
        poll_fn(|cx| Poll::Ready(caller.as_mut().poll(cx).is_pending())).await
    };
    // As the background task does it, on another thread.
    let number = due_times.pop(shared(&rig.pool).clock.time()).expect("its pause is over");
    assert!(waits().await, "before it is ready");
    due_times.add_ready(number);
    assert_eq!(due_times.pop_ready(), Some(number));
    assert!(waits().await, "before its attempt begins");
}

#[tokio::test]
async fn a_last_resort_is_looked_for_among_servers_with_open_connections() {
    let (rig, mut held) = thousand().await;
    let open = || numbers(&shared(&rig.pool).servers.list().open);
    assert_eq!(open().len(), SERVERS);
    // The others go down, by reports, and the last one with a connection that it keeps.
    let idle = held.remove(500);
    held.into_iter().for_each(|conn| conn.fail("broken"));
    shared(&rig.pool).servers.list().up.refresh(500, || false);
    assert!(rig.pool.try_acquire().is_err(), "it is in use");
    assert_eq!(open(), [500], "a look took out the others");
    idle.release();
    assert_eq!(rig.pool.try_acquire().expect("it is a last resort").address(), "500");
}

#[tokio::test]
async fn a_waiter_is_served_among_servers_with_open_connections() {
    let (rig, mut held) = thousand().await;
    let last = held.pop().expect("a thousand");
    drop(held);
    let waits = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.acquire_timeout(Duration::from_millis(1)).await.map(PooledConn::release) }
    });
    waits.await.expect("no panic").expect("it is connected to another");
    let open = numbers(&shared(&rig.pool).servers.list().open);
    assert!(open.len() <= 2, "the pass for the waiter took out the servers without connections: {open:?}");
    drop(last);
}

/// The locks of the crate's own, which are all taken through `sync::lock`; those that tokio takes are not seen.
#[tokio::test]
async fn hot_cycles_take_no_lock() {
    for (maintenance, max_rps) in [(true, None), (true, Some(1e9)), (false, None), (false, Some(1e9))] {
        // Its time stands still: the background task, which locks, never ticks on this thread.
        let clock = Clock::manual();
        let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).maintenance(maintenance);
        let builder = max_rps.into_iter().fold(builder, |builder, rps| builder.max_rps(rps));
        let pool = builder.server("a").max_conns_per_server(1).build().expect("in range");
        let held = pool.acquire().await.expect("it accepts");
        // The count sees the locks of the wait queue.
        let before = LOCKS_TAKEN.get();
        assert!(before > 0);
        assert!(pool.acquire_timeout(Duration::ZERO).await.is_err());
        assert!(LOCKS_TAKEN.get() > before);
        held.release();
        if !maintenance {
            // Without a tick a release takes the slow way once, and keeps the list.
            pool.try_acquire().expect("it is idle").release();
        }
        let waited = LOCKS_TAKEN.get();
        // Without the budget, whose end would let the background task run: it takes locks.
        unconstrained(async {
            for _ in 0..10_000 {
                black_box(pool.try_acquire().expect("it is idle")).release();
                black_box(pool.acquire().await.expect("it is idle")).release();
                black_box(pool.acquire_now().await.expect("it is idle")).release();
            }
        })
        .await;
        assert_eq!(LOCKS_TAKEN.get(), waited, "maintenance {maintenance}, limit {max_rps:?}");
    }
}

#[tokio::test]
async fn a_thread_keeps_the_current_list() {
    // More pools than there are indexes: all of them are used.
    for _ in 0..100 {
        let rig = pool(|builder| builder.server("a"));
        let kept = || {
            let shared = shared(&rig.pool);
            shared.servers.with_current_list(shared.signals.list_version(), |list, thread| (list.len, thread))
        };
        assert_eq!(kept(), None);
        rig.pool.acquire().await.expect("it accepts").release();
        assert_eq!(kept(), Some((1, thread_number())));
        rig.pool.register("b").expect("it is not there");
        assert_eq!(kept(), None, "another list is current");
        rig.pool.try_acquire().expect("one is idle").release();
        assert_eq!(kept(), Some((2, thread_number())));
    }
}

#[tokio::test]
async fn a_thread_drops_the_list_of_a_pool_that_was_closed() {
    let rig = pool(|builder| builder.server("a"));
    rig.pool.acquire().await.expect("it accepts").release();
    let generation = Arc::downgrade(&shared(&rig.pool).servers.list().entry(0).expect("it is registered").generation);
    assert!(generation.upgrade().is_some());
    // Another thread closes the pool: this one drops its list when it keeps another.
    let clone = rig.pool.clone();
    drop(rig);
    std::thread::spawn(move || drop(clone)).join().expect("no panic");
    assert!(generation.upgrade().is_some());
    let other = pool(|builder| builder.server("b"));
    other.pool.acquire().await.expect("it accepts").release();
    yield_now().await;
    assert!(generation.upgrade().is_none());
    // A thread that closes a pool drops its list at once.
    let generation = Arc::downgrade(&shared(&other.pool).servers.list().entry(0).expect("it is registered").generation);
    drop(other);
    yield_now().await;
    drop_closed_lists();
    assert!(generation.upgrade().is_none());
}

#[tokio::test]
async fn a_changed_maximum_begins_a_generation_and_keeps_the_connections() {
    let rig = pool(|builder| builder.server(Server::new("a").max_conns(2)).idle_timeout(None).max_lifetime(None));
    let held = [rig.pool.acquire().await.expect("it accepts"), rig.pool.acquire().await.expect("it accepts")];
    let [out, idle] = held;
    idle.release();
    let first = shared(&rig.pool).servers.list().entry(0).expect("it is registered").generation.clone();
    rig.pool.set_servers([Server::new("a").max_conns(10)]).expect("in range");
    let second = shared(&rig.pool).servers.list().entry(0).expect("it is registered").generation.clone();
    assert!(first.idle.is_closed() && first.idle.is_empty() && first.why_over().is_none());
    assert_eq!(second.idle.len(), 1, "the idle connection moved");
    out.release();
    assert_eq!((first.idle.len(), second.idle.len()), (0, 2), "and so did the one that came back");
    // Lowered, it closes what is over, and no more.
    rig.pool.set_servers([Server::new("a").max_conns(1)]).expect("in range");
    assert_eq!((rig.pool.status().servers[0].open, rig.pool.status().servers[0].idle), (1, 1));
    assert_eq!(rig.connector.counts("a").connected, 2);
}

#[test]
fn the_end_of_an_epoch_ends_what_waits_for_it_and_nothing_else() {
    let rig = pool(|builder| builder.servers(["a", "b"]));
    let generation = |number| shared(&rig.pool).servers.list().generation(number).expect("it is registered");
    let (a, b) = (generation(0), generation(1));
    let (mut a_over, mut b_over) = (pin!(a.over()), pin!(b.over()));
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(a_over.as_mut().poll(cx).is_pending() && b_over.as_mut().poll(cx).is_pending());
    rig.pool.reset_server("a").expect("it is registered");
    assert!(a_over.poll(cx).is_ready() && b_over.as_mut().poll(cx).is_pending());
    assert!(a.why_over().is_some() && generation(0).why_over().is_none());
    rig.pool.deregister("b").expect("it is registered");
    assert!(b_over.poll(cx).is_ready());
    rig.pool.register("b").expect("it was removed");
    assert!(b.why_over().is_some() && generation(1).why_over().is_none());
}

/// The recycle sets the time since when the connection is idle, here to that of the next tick.
#[tokio::test]
async fn a_return_after_a_recycle_is_noted_again() {
    const TICK: Duration = Duration::from_millis(100);
    let rig = pool(|builder| builder.server("a"));
    let advance = async |time| {
        rig.clock.advance(time);
        for _ in 0..20 {
            yield_now().await;
        }
    };
    advance(TICK * 10).await;
    for _ in 0..2 {
        rig.pool.acquire().await.expect("it accepts").release();
    }
    let conn = rig.pool.acquire().await.expect("it is idle");
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Recycle);
    rig.connector.set_recycle("a", RoundTrip::Slow(TICK / 2));
    conn.release();
    advance(Duration::ZERO).await;
    advance(TICK).await;
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Reuse);
    let tick = shared(&rig.pool).signals.tick().expect("it is kept");
    let answered = || shared(&rig.pool).servers.list().generation(0).is_some_and(|a| a.server.answered.is_since(tick));
    assert!(!answered());
    rig.pool.acquire().await.expect("it is idle").release();
    assert!(answered());
}

#[tokio::test]
async fn the_same_rate_again_is_the_same_bucket() {
    let rig = pool(|builder| builder.server(Server::new("a").max_rps(10.0)));
    let bucket = || shared(&rig.pool).servers.list().entry(0).expect("it is registered").server().bucket();
    let before = bucket().expect("there is a rate");
    rig.pool.set_servers([Server::new("a").max_rps(10.0).max_conns(3)]).expect("in range");
    assert!(bucket().is_some_and(|same| Arc::ptr_eq(&same, &before)));
    rig.pool.set_servers([Server::new("a").max_rps(11.0)]).expect("in range");
    assert!(bucket().is_some_and(|other| !Arc::ptr_eq(&other, &before)));
}

#[tokio::test]
async fn only_maintenance_keeps_the_tick() {
    for (maintenance, tick) in [(true, Some(Time::ZERO)), (false, None)] {
        let rig = pool(|builder| builder.server("a").maintenance(maintenance));
        let signals = &shared(&rig.pool).notifier.signals;
        assert_eq!((signals.is_running(), signals.tick()), (true, tick));
    }
}

#[tokio::test]
async fn a_change_wakes_the_background_task_only_for_waiters() {
    // On a runtime of its own that is not driven, so that the task does not take the wake-up.
    let idle = tokio::runtime::Builder::new_current_thread().build().expect("it needs no driver");
    let rig = pool(|builder| builder.server("a").runtime(idle.handle().clone()));
    let notifier = &shared(&rig.pool).notifier;
    let woken = || timeout(Duration::ZERO, notifier.woken());
    // Building the pool may have woken it.
    let _ = woken().await;
    notifier.wake_if_waiters();
    assert!(woken().await.is_err());
    let mut ticket = shared(&rig.pool).queue.join(1, true, None, None).expect("there is room");
    notifier.wake_if_waiters();
    assert!(woken().await.is_ok());
    shared(&rig.pool).queue.leave(&mut ticket);
    drop(rig);
    idle.shutdown_background();
}

/// While the process is frozen, or its runtime's thread computes, the tick stands still.
#[tokio::test]
async fn exact_times_find_a_connection_that_is_too_old_after_a_stall() {
    for (exact, found) in [(false, true), (true, false)] {
        let rig = pool(|builder| builder.server("a").idle_timeout(Duration::from_secs(1)).exact_times(exact));
        rig.pool.acquire().await.expect("it accepts").release();
        // The background task does not run in between.
        rig.clock.advance(Duration::from_millis(2_500));
        let conn = rig.pool.try_acquire();
        assert_eq!(conn.is_ok(), found, "exact times: {exact}");
    }
}

/// A change of tier, and an ejection that its tier refuses, count a server out for a moment.
#[tokio::test]
async fn a_count_that_is_too_low_for_a_moment_is_no_outage() {
    let rig = pool(|builder| builder.servers(["a", "b"]).fail_fast_when_down(true).max_conns_per_server(1));
    let held = [rig.pool.acquire().await.expect("it accepts"), rig.pool.acquire().await.expect("it accepts")];
    let serving = &shared(&rig.pool).servers.serving;
    let others: [Health; 2] = std::array::from_fn(|_| Health::new(0));
    let count = |is_in: bool| others.iter().for_each(|other| assert!(other.set_removed(serving, !is_in, Time::ZERO)));
    others.iter().for_each(|other| assert!(other.set_removed(&Serving::default(), false, Time::ZERO)));
    count(false);
    assert_eq!(serving.serving(), 0);
    let mut waiter = std::pin::pin!(rig.pool.acquire());
    let mut poll = || waiter.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert!(poll().is_pending(), "both servers are up, and full");
    count(true);
    held.into_iter().for_each(PooledConn::release);
    assert!(poll().is_ready());
}

#[test]
fn state_of_a_server_takes_six_cache_lines() {
    assert_eq!(size_of::<ServerRecord<ScriptedConnector>>(), 6 * 64);
}
