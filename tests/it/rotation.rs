//! Strict rotation, the shares of servers that cannot serve, and the last resort.

use std::collections::BTreeMap;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{AcquireError, Builder, PooledConn, Server, ServerState, TryAcquireError};

use crate::support::{Rig, ejects_at_once, open, server_of, settle};

/// A backoff that does not end within a test.
const LONG: Duration = Duration::from_secs(3_600);

type Conn = PooledConn<ScriptedConnector>;

/// A pool whose servers stay down for the rest of the test. One report ejects a server.
fn rig(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Rig {
    Rig::paused(|builder| build(ejects_at_once(builder.backoff(LONG, LONG).outage_retry(None), LONG)))
}

fn release(held: Vec<Conn>) {
    held.into_iter().for_each(Conn::release);
}

/// Splits off the connections to one server.
fn split(held: Vec<Conn>, address: &str) -> (Vec<Conn>, Vec<Conn>) {
    held.into_iter().partition(|conn| server_of(conn) == address)
}

/// Acquires and releases `times` times in one task. Returns the servers, in order.
async fn rotate(rig: &Rig, times: usize) -> Vec<String> {
    let mut order = Vec::new();
    for _ in 0..times {
        let conn = rig.pool.acquire().await.expect("a server serves the caller");
        order.push(server_of(&conn));
        conn.release();
        // Lets attempts in the background proceed.
        tokio::task::yield_now().await;
    }
    order
}

fn shares(order: &[String]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for server in order {
        *shares.entry(server.as_str()).or_default() += 1;
    }
    shares
}

/// Asserts that the three servers other than `absent` serve a third of the acquires each, within 2 %.
async fn assert_thirds(rig: &Rig, absent: &str) {
    let order = rotate(rig, 6_000).await;
    let shares = shares(&order);
    assert_eq!(shares.len(), 3, "{shares:?}");
    for (server, share) in shares {
        assert_ne!(server, absent);
        assert!((1_960..=2_040).contains(&share), "{server} served {share} of 6000");
    }
}

#[tokio::test(start_paused = true)]
async fn rotation_is_strict_for_one_caller() {
    let rig = rig(|builder| builder.servers(["a", "b", "c", "d", "e"]).max_conns_per_server(1));
    release(open(&rig, 5).await);
    let order = rotate(&rig, 500).await;
    assert_eq!(shares(&order[..5]).len(), 5, "{:?}", &order[..5]);
    for (turn, server) in order.iter().enumerate() {
        assert_eq!(*server, order[turn % 5], "at turn {turn}");
    }
}

#[tokio::test(start_paused = true)]
async fn share_of_down_server_is_spread_evenly() {
    let rig = rig(|builder| builder.servers(["a", "b", "c", "d"]).max_conns_per_server(2));
    // Server "b" keeps an idle connection, which it could serve callers with.
    let (mut to_b, others) = split(open(&rig, 8).await, "b");
    to_b.remove(0).fail("broken");
    release(to_b);
    release(others);
    assert_eq!(rig.pool.status().servers[1].idle, 1);
    assert_thirds(&rig, "b").await;
    assert!(matches!(rig.pool.status().servers[1].state, ServerState::Ejected { .. }));
}

#[tokio::test(start_paused = true)]
async fn share_of_rate_limited_server_is_spread_evenly() {
    let slow = Server::new("b").max_rps(0.001).burst(1);
    let rig = rig(|builder| builder.server("a").server(slow).servers(["c", "d"]).max_conns_per_server(1));
    release(open(&rig, 4).await);
    assert_eq!(rig.pool.status().servers[1].idle, 1);
    assert_thirds(&rig, "b").await;
}

#[tokio::test(start_paused = true)]
async fn share_of_full_server_is_spread_evenly() {
    let rig = rig(|builder| builder.servers(["a", "b", "c", "d"]).max_conns_per_server(1));
    let (to_b, others) = split(open(&rig, 4).await, "b");
    release(others);
    assert_thirds(&rig, "b").await;
    assert_eq!(rig.connector.counts("b").attempts, 1);
    release(to_b);
}

#[tokio::test(start_paused = true)]
async fn load_spreads_beyond_first_connected_server() {
    let rig = rig(|builder| builder.servers(["a", "b", "c", "d"]));
    let order = rotate(&rig, 40).await;
    assert_eq!(shares(&order[..2]).len(), 1, "the second acquire reuses the idle connection");
    let order = rotate(&rig, 400).await;
    let even = BTreeMap::from([("a", 100), ("b", 100), ("c", 100), ("d", 100)]);
    assert_eq!(shares(&order), even);
    // One caller needs one connection to each server.
    assert_eq!(rig.connector.total_counts().attempts, 4);
}

#[tokio::test(start_paused = true)]
async fn single_caller_does_not_connect_to_all_servers() {
    let addresses: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    let cold = || rig(|builder| builder.servers(addresses.iter().map(String::as_str)));

    let acquiring = cold();
    let conn = acquiring.pool.acquire().await.expect("all servers accept");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(acquiring.connector.total_counts().attempts, 1);
    conn.release();
    // From here on each pass starts one attempt, or none if it begins at the server that has an idle connection.
    for passes in 1..=10 {
        rotate(&acquiring, 1).await;
        settle().await;
        let attempts = acquiring.connector.total_counts().attempts;
        assert!((passes..=1 + passes).contains(&attempts), "{attempts} attempts after {passes} passes");
    }

    let acquiring_now = cold();
    acquiring_now.pool.acquire_now().await.expect("all servers accept").release();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(acquiring_now.connector.total_counts().attempts, 1);

    let trying = cold();
    assert!(matches!(trying.pool.try_acquire(), Err(TryAcquireError::Unavailable(_))));
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(trying.connector.total_counts().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_reused_in_fifo_order() {
    let rig = rig(|builder| builder.server("a").max_conns_per_server(3));
    let mut held = open(&rig, 3).await;
    held.rotate_left(1);
    let returned: Vec<_> = held.iter().map(|conn| conn.id()).collect();
    release(held);
    let mut checked_out = Vec::new();
    for _ in 0..6 {
        let conn = rig.pool.acquire().await.expect("a connection is idle");
        checked_out.push(conn.id());
        conn.release();
    }
    assert_eq!(checked_out, [&returned[..], &returned[..]].concat());
}

#[tokio::test(start_paused = true)]
async fn single_up_server_of_a_thousand_serves_without_checks_at_others() {
    let addresses: Vec<_> = (0..1_000).map(|number| number.to_string()).collect();
    let rig = rig(|builder| builder.servers(addresses.iter().map(String::as_str)).max_conns_per_server(2));
    let mut held = open(&rig, 2_000).await;
    held.sort_by_key(|conn| conn.address().parse::<u32>().expect("addresses are numbers"));
    let mut alive = held.split_off(1_998);
    alive.drain(..).for_each(Conn::release);
    // Each of the other servers fails on one connection and keeps the second one idle.
    let mut held = held.into_iter();
    while let (Some(fails), Some(stays)) = (held.next(), held.next()) {
        assert_eq!(server_of(&fails), server_of(&stays));
        stays.release();
        fails.fail("broken");
    }
    assert_eq!(rig.pool.status().servers.iter().filter(|server| server.idle == 1).count(), 999);
    let order = rotate(&rig, 2_000).await;
    assert_eq!(shares(&order), BTreeMap::from([("999", 2_000)]));
    assert_eq!(rig.connector.total_counts().reuse_checks, 2_000);
    assert_eq!(rig.connector.total_counts().attempts, 2_000, "no server gets another attempt");
}

/// Two servers with two connections each. Without maintenance, since its sweeps ask about idle connections, too.
fn down_and_other() -> Rig {
    rig(|builder| builder.servers(["down", "other"]).max_conns_per_server(2).maintenance(false))
}

/// Ejects server "down", which has kept one idle connection since before. Returns the two connections to "other".
async fn one_down(rig: &Rig) -> Vec<Conn> {
    let (mut to_down, to_other) = split(open(rig, 4).await, "down");
    to_down.remove(0).release();
    to_down.remove(0).fail("broken");
    let down = &rig.pool.status().servers[0];
    assert!(matches!(down.state, ServerState::Ejected { .. }));
    assert_eq!((&*down.address, down.idle), ("down", 1));
    to_other
}

/// Asserts that no call checks out the idle connection of server "down".
async fn assert_not_served(rig: &Rig) {
    assert!(matches!(rig.pool.try_acquire(), Err(TryAcquireError::Unavailable(_))));
    assert!(matches!(rig.pool.acquire_now().await, Err(AcquireError::Unavailable(_))));
    let waited = rig.pool.acquire_timeout(Duration::from_secs(5)).await;
    assert!(matches!(waited, Err(AcquireError::Timeout { .. })), "{waited:?}");
    assert_eq!(rig.connector.counts("down").reuse_checks, 0);
}

/// Asserts that each call checks out the idle connection of server "down".
async fn assert_served_as_the_last_resort(rig: &Rig) {
    for _ in 0..3 {
        let conn = rig.pool.try_acquire().expect("a last-resort connection is idle");
        assert_eq!(server_of(&conn), "down");
        conn.release();
        let conn = rig.pool.acquire_now().await.expect("a last-resort connection is idle");
        assert_eq!(server_of(&conn), "down");
        conn.release();
        let conn = rig.pool.acquire().await.expect("a last-resort connection is idle");
        assert_eq!(server_of(&conn), "down");
        conn.release();
    }
}

/// Server "other" refuses its next connection, and attempts at server "down" hang.
fn connecting_fails(rig: &Rig) {
    rig.connector.on_connect("other", Connect::Refuse);
    rig.connector.on_connect("down", Connect::Never);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_of_down_servers_are_last_resort() {
    let rig = down_and_other();
    let mut to_other = one_down(&rig).await;
    connecting_fails(&rig);
    to_other.remove(0).discard();
    let conn = rig.pool.acquire().await.expect("a last-resort connection is idle");
    assert_eq!(server_of(&conn), "down");
    assert!(matches!(rig.pool.status().servers[1].state, ServerState::Down { .. }));
    conn.release();
    release(to_other);
    let order = rotate(&rig, 10).await;
    assert_eq!(shares(&order), BTreeMap::from([("down", 5), ("other", 5)]));
    assert_eq!(rig.connector.counts("other").attempts, 3, "it gets no attempt during its backoff");
}

#[tokio::test(start_paused = true)]
async fn rate_limited_server_prevents_last_resort() {
    let limited = Server::new("other").max_rps(0.001).burst(2);
    let rig = rig(|builder| builder.server("down").server(limited).max_conns_per_server(2).maintenance(false));
    let mut to_other = one_down(&rig).await;
    to_other.remove(0).release();
    assert_not_served(&rig).await;
    rig.pool.deregister("other").expect("the server is registered");
    assert_served_as_the_last_resort(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn full_server_prevents_last_resort() {
    let rig = down_and_other();
    let mut to_other = one_down(&rig).await;
    assert_not_served(&rig).await;
    connecting_fails(&rig);
    to_other.remove(0).discard();
    let conn = rig.pool.acquire().await.expect("the last server goes down");
    assert_eq!(server_of(&conn), "down");
    conn.release();
    assert_served_as_the_last_resort(&rig).await;
}

#[tokio::test(start_paused = true)]
async fn running_attempt_prevents_last_resort() {
    let rig = down_and_other();
    let to_other = one_down(&rig).await;
    let took = Duration::from_secs(1);
    rig.connector.on_connect("other", Connect::Slow(took));
    to_other.into_iter().for_each(Conn::discard);
    let started = rig.clock.now();
    let conn = rig.pool.acquire().await.expect("the attempt succeeds");
    assert_eq!(server_of(&conn), "other");
    assert!(rig.clock.now() - started >= took);
    // The same holds for `acquire_now`.
    conn.discard();
    let conn = rig.pool.acquire_now().await.expect("the attempt succeeds");
    assert_eq!(server_of(&conn), "other");
    assert_eq!(rig.connector.counts("down").reuse_checks, 0);
    // When the attempt fails and takes server "other" down, the caller gets the last resort.
    conn.discard();
    rig.connector.on_connect("other", Connect::SlowRefuse(took));
    rig.connector.on_connect("down", Connect::Never);
    let started = rig.clock.now();
    let conn = rig.pool.acquire().await.expect("a last-resort connection is idle");
    assert_eq!(server_of(&conn), "down");
    assert!(rig.clock.now() - started >= took);
}

#[tokio::test(start_paused = true)]
async fn waiter_gets_last_resort_when_last_server_goes_down() {
    let rig = down_and_other();
    let mut to_other = one_down(&rig).await;
    let pool = rig.pool.clone();
    let waiter = tokio::spawn(async move { pool.acquire().await.expect("a last-resort connection is idle") });
    settle().await;
    // The other server is up, though full.
    assert_eq!((rig.pool.status().waiters, waiter.is_finished()), (1, false));
    let failed_at = rig.clock.now();
    connecting_fails(&rig);
    to_other.remove(0).discard();
    let conn = waiter.await.expect("the task does not panic");
    assert_eq!(server_of(&conn), "down");
    assert_eq!(rig.clock.now(), failed_at);
}

#[tokio::test(start_paused = true)]
async fn connection_of_down_server_that_answered_serves_callers_that_find_nothing_else() {
    let rig = down_and_other();
    let (mut to_down, mut to_other) = split(open(&rig, 4).await, "down");
    to_down.remove(0).fail("broken");
    let pool = rig.pool.clone();
    let waiter = tokio::spawn(async move { pool.acquire().await.expect("an answered connection is idle") });
    settle().await;
    assert!(!waiter.is_finished());
    // It comes back well after the ejection.
    to_down.remove(0).release();
    let conn = waiter.await.expect("the task does not panic");
    assert_eq!(server_of(&conn), "down");
    conn.release();
    assert_served_as_the_last_resort(&rig).await;
    // The other server comes first.
    to_other.remove(0).release();
    for _ in 0..10 {
        let conn = rig.pool.try_acquire().expect("a connection is idle");
        assert_eq!(server_of(&conn), "other");
        conn.release();
    }
    assert!(matches!(rig.pool.status().servers[0].state, ServerState::Ejected { .. }));
}

/// One more than fit into a word of the up set.
#[tokio::test(start_paused = true)]
async fn last_of_sixty_five_servers_serves() {
    let rig = rig(|builder| builder.servers((0..65).map(|number| number.to_string())).max_conns_per_server(1));
    let order: Vec<_> = open(&rig, 65).await.iter().map(server_of).collect();
    assert_eq!(shares(&order).len(), 65);
}
