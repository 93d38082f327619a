//! `disable` and `enable`.

use std::pin::pin;

use connring::test_util::Connect;
use connring::{AcquireError, Reason, Server, ServerError, ServerState, TryAcquireError};

use super::*;
use crate::support::{advance_smoothly, ejects_at_once, open, poll_once, refuse_one};

const DISABLED: ServerState = ServerState::Disabled { ends_in: None };

#[tokio::test]
async fn disabled_server_gets_no_callers_and_no_attempts_until_enabled() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
    fill(&rig).await;
    rig.pool.disable("a", None).expect("it is registered");
    assert_eq!((state(&rig, 0), state(&rig, 1)), (DISABLED, ServerState::Up));
    assert_eq!(served_by(&rig.pool, 4).await, ["b"; 4]);
    let held = [(); 5].map(|()| rig.pool.try_acquire());
    assert_eq!(held.iter().filter(|taken| taken.is_ok()).count(), 1, "the idle connection of a stays");
    settle().await;
    let more = rig.pool.acquire().await.expect("b accepts");
    assert_eq!((server_of(&more), rig.connector.counts("a").attempts), ("b".into(), 1));
    assert_eq!(rig.pool.status().servers[0].idle, 1);
    rig.pool.enable("a").expect("it is registered");
    assert_eq!(state(&rig, 0), ServerState::Up);
    assert_eq!(server_of(&rig.pool.try_acquire().expect("it serves again")), "a");
}

/// By the idle timeout, by the lifetime, by the server.
#[tokio::test]
async fn idle_connections_of_a_disabled_server_end_as_all_do_and_its_uses_are_counted() {
    let minute = Duration::from_secs(60);
    for end in ["idle timeout", "lifetime", "server"] {
        let rig = Rig::manual(|builder| {
            let builder = builder.servers(["a", "b"]).max_lifetime(None).idle_timeout(None);
            match end {
                "idle timeout" => builder.idle_timeout(minute / 12),
                "lifetime" => builder.max_lifetime(minute / 12),
                _ => builder,
            }
        });
        let held = open(&rig, 4).await;
        rig.pool.disable("a", None).expect("it is registered");
        held.into_iter().for_each(PooledConn::release);
        assert_eq!(rig.pool.status().servers[0].idle, 2, "{end}");
        if end == "server" {
            rig.connector.kill_connections("a");
        }
        advance_smoothly(&rig, minute / 6).await;
        let server = rig.pool.status().servers.remove(0);
        assert_eq!((server.state, server.idle, server.totals.checkouts), (DISABLED, 0, 2), "{end}");
    }
    let rig = Rig::manual(|builder| builder.server("a"));
    for _ in 0..6 {
        rig.pool.acquire().await.expect("it accepts").release();
    }
    rig.pool.disable("a", None).expect("it is registered");
    advance_smoothly(&rig, minute / 20).await;
    assert_eq!(rig.pool.status().totals.checkouts, 6);
}

#[tokio::test]
async fn disabled_servers_are_no_last_resort() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
    fill(&rig).await;
    for server in ["a", "b"] {
        rig.pool.disable(server, None).expect("it is registered");
    }
    let Err(TryAcquireError::Unavailable(counts)) = rig.pool.try_acquire() else { panic!("both are disabled") };
    assert_eq!((counts.disabled, counts.down, counts.retry_after), (2, 0, None));
    assert_eq!(counts.to_string(), "all servers are disabled");
    let error = rig.pool.acquire().await.expect_err("waiting is pointless");
    let AcquireError::Unavailable(reason) = error else { panic!("{error}") };
    assert!(matches!(reason.servers()[0].reason, Reason::Disabled { ends_in: None }));
    assert_eq!(reason.servers()[0].to_string(), "a: disabled");
    assert!(matches!(rig.pool.acquire_now().await, Err(AcquireError::Unavailable(_))));
    assert_eq!(rig.connector.total_counts().attempts, 2);
}

#[tokio::test]
async fn disabled_server_is_no_last_resort_beside_one_that_is_down() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).max_conns_per_server(1));
    rig.pool.disable("b", None).expect("it is registered");
    refuse_one(&rig, "a").await;
    rig.pool.enable("b").expect("it is registered");
    rig.pool.acquire().await.expect("b accepts").release();
    rig.pool.disable("b", None).expect("it is registered");
    let Err(TryAcquireError::Unavailable(counts)) = rig.pool.try_acquire() else { panic!("none serves") };
    assert_eq!((counts.disabled, counts.down), (1, 1));
}

#[tokio::test]
async fn time_of_disabling_ends_it_and_wakes_waiters() {
    let rig = Rig::manual(|builder| builder.server("a"));
    fill(&rig).await;
    rig.pool.disable("a", Some(SECOND)).expect("it is registered");
    assert_eq!(state(&rig, 0), ServerState::Disabled { ends_in: Some(SECOND) });
    let error = rig.pool.acquire_timeout(500 * MS).await.expect_err("the time ends after the deadline");
    assert_eq!(error.retry_after(), Some(SECOND));
    let AcquireError::Unavailable(reason) = error else { panic!("waiting is pointless") };
    assert_eq!(reason.servers()[0].reason.to_string(), "disabled (for 1s)");
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    advance_smoothly(&rig, 950 * MS).await;
    assert!(poll_once(waiter.as_mut()).await);
    advance_smoothly(&rig, 50 * MS).await;
    assert_eq!(state(&rig, 0), ServerState::Up);
    waiter.await.expect("it serves again").release();
    assert_eq!(rig.connector.total_counts().attempts, 1, "its idle connection stayed");
}

#[tokio::test]
async fn later_order_supersedes_earlier_one() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let disable = |time| rig.pool.disable("a", time).expect("it is registered");
    disable(Some(SECOND));
    disable(Some(3 * SECOND));
    advance_smoothly(&rig, 2 * SECOND).await;
    assert_eq!(state(&rig, 0), ServerState::Disabled { ends_in: Some(SECOND) });
    disable(None);
    advance_smoothly(&rig, 2 * SECOND).await;
    assert_eq!(state(&rig, 0), DISABLED, "without end");
    disable(Some(SECOND));
    rig.pool.enable("a").expect("it is registered");
    disable(Some(5 * SECOND));
    advance_smoothly(&rig, 2 * SECOND).await;
    assert_eq!(state(&rig, 0), ServerState::Disabled { ends_in: Some(3 * SECOND) });
    advance_smoothly(&rig, 3 * SECOND).await;
    assert_eq!(state(&rig, 0), ServerState::Up);
    disable(Some(Duration::MAX));
    assert_eq!(state(&rig, 0), DISABLED);
    rig.pool.enable("a").expect("it is registered");
    rig.pool.enable("a").expect("enabling twice changes nothing");
    assert_eq!(state(&rig, 0), ServerState::Up);
}

#[tokio::test]
async fn changed_settings_keep_server_disabled_and_removal_ends_it() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]));
    fill(&rig).await;
    let held = acquire_of(&rig, "a").await;
    rig.pool.disable("a", None).expect("it is registered");
    rig.pool.update(Server::new("a").max_conns(3)).expect("the settings are in range");
    assert_eq!(state(&rig, 0), DISABLED);
    rig.pool.set_servers(["b", "a", "c"]).expect("the settings are in range");
    assert_eq!(state(&rig, 0), DISABLED);
    rig.pool.reset();
    assert_eq!(state(&rig, 0), DISABLED);
    rig.pool.deregister("a").expect("it is registered");
    rig.pool.register("a").expect("it is not registered");
    assert_eq!(state(&rig, 0), ServerState::Up, "its record lives on, as a connection is in use");
    rig.pool.disable("a", None).expect("it is registered");
    rig.pool.set_servers(["b"]).expect("the settings are in range");
    rig.pool.set_servers(["a"]).expect("the settings are in range");
    drop(held);
    rig.pool.try_acquire().expect_err("none is idle");
    let Err(TryAcquireError::Unavailable(counts)) = rig.pool.try_acquire() else { panic!("nothing is idle") };
    assert_eq!((counts.disabled, counts.empty), (0, 1));
}

#[tokio::test]
async fn health_goes_on_beneath() {
    let rig = Rig::manual(|builder| ejects_at_once(builder.servers(["a", "b"]), SECOND));
    fill(&rig).await;
    let held = acquire_of(&rig, "a").await;
    rig.pool.disable("a", None).expect("it is registered");
    // Not capped: b may be ejected only while another server serves, and a may be disabled in any case.
    held.fail("broken");
    assert_eq!(state(&rig, 0), DISABLED);
    rig.pool.enable("a").expect("it is registered");
    assert!(matches!(state(&rig, 0), ServerState::Ejected { .. }), "{:?}", state(&rig, 0));
}

#[tokio::test]
async fn server_that_is_down_is_not_probed_while_disabled_and_at_once_when_enabled() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(1).wait_timeout(None));
    refuse_one(&rig, "a").await;
    rig.pool.disable("a", None).expect("it is registered");
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    advance_smoothly(&rig, 20 * SECOND).await;
    assert_eq!(rig.connector.counts("a").attempts, 1);
    rig.pool.enable("a").expect("it is registered");
    settle().await;
    assert_eq!(rig.connector.counts("a").attempts, 2);
    waiter.await.expect("it is back").release();
}

#[tokio::test]
async fn waiters_go_to_other_servers_when_one_is_disabled() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).max_conns_per_server(1));
    rig.connector.on_connect("a", Connect::Slow(50 * MS));
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await, "an attempt runs at a");
    settle().await;
    rig.pool.disable("a", None).expect("it is registered");
    advance_smoothly(&rig, 50 * MS).await;
    settle().await;
    assert_eq!(server_of(&waiter.await.expect("b accepts")), "b");
    assert_eq!(rig.pool.status().servers[0].idle, 1, "what the attempt opened stays idle");
}

#[tokio::test]
async fn waiters_are_told_when_all_servers_are_disabled() {
    waiters_are_told(|pool| pool.disable("b", None)).await;
    waiters_are_told(|pool| pool.deregister("b")).await;
}

async fn waiters_are_told(end: impl Fn(&Pool<ScriptedConnector>) -> Result<(), ServerError>) {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).max_conns_per_server(1).wait_timeout(None));
    rig.connector.on_connect("b", Connect::Never);
    let held = acquire_of(&rig, "a").await;
    let pool = rig.pool.clone();
    let waiter = tokio::spawn(async move { pool.acquire_timeout(20 * SECOND).await.map(drop) });
    let mut patient = pin!(rig.pool.acquire());
    // They wait for the attempt at b, and for the connection of a to come back.
    assert!(poll_once(patient.as_mut()).await);
    rig.pool.disable("a", None).expect("it is registered");
    settle().await;
    assert!(!waiter.is_finished(), "b may accept");
    end(&rig.pool).expect("it is registered");
    settle().await;
    assert!(waiter.is_finished());
    let told = waiter.await.expect("no panic");
    assert!(matches!(told, Err(AcquireError::Unavailable(_))), "{told:?}");
    // One without a deadline waits for the time when a server is enabled.
    assert!(poll_once(patient.as_mut()).await);
    held.release();
    rig.pool.enable("a").expect("it is registered");
    assert_eq!(server_of(&patient.await.expect("a has a connection")), "a");
}

#[tokio::test]
async fn fail_fast_wakes_waiters_when_last_server_is_disabled() {
    let rig = Rig::manual(|builder| builder.server("a").max_conns_per_server(1).fail_fast_when_down(true));
    let _held = rig.pool.acquire().await.expect("a accepts");
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    rig.pool.disable("a", None).expect("it is registered");
    assert!(matches!(waiter.await, Err(AcquireError::Unavailable(_))));
}

#[tokio::test]
async fn unknown_names_and_closed_pools_are_refused() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let unknown = || Err(ServerError::Unknown { name: "x".into() });
    assert_eq!(rig.pool.disable("x", None), unknown());
    assert_eq!(rig.pool.enable("x"), unknown());
    rig.pool.close().await;
    assert_eq!(rig.pool.disable("a", None), Err(ServerError::Closed));
    assert_eq!(rig.pool.enable("a"), Err(ServerError::Closed));
}

#[test]
fn disabling_needs_no_runtime() {
    let rig = Rig::manual(|builder| builder.server("a"));
    rig.pool.disable("a", Some(SECOND)).expect("it is registered");
    rig.pool.enable("a").expect("it is registered");
    assert_eq!(state(&rig, 0), ServerState::Up);
}

#[tokio::test]
async fn disabled_server_that_is_down_serves_no_waiter_with_a_connection_that_answers() {
    let minute = Duration::from_secs(60);
    let rig = Rig::manual(|builder| ejects_at_once(builder.servers(["a", "b"]).max_conns_per_server(2), minute));
    let (mut of_a, _of_b): (Vec<_>, Vec<_>) = open(&rig, 4).await.into_iter().partition(|conn| conn.address() == "a");
    of_a.remove(0).fail_for("come back later", minute);
    rig.pool.disable("a", None).expect("it is registered");
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    of_a.remove(0).release();
    settle().await;
    assert!(poll_once(waiter.as_mut()).await, "it is disabled");
    rig.pool.enable("a").expect("it is registered");
    settle().await;
    assert_eq!(waiter.await.expect("it has answered since its ejection").address(), "a");
}

#[tokio::test]
async fn acquire_now_does_not_wait_for_an_attempt_at_a_disabled_server() {
    let rig = Rig::manual(|builder| builder.servers(["a", "b"]).max_conns_per_server(1));
    rig.connector.set_default(Connect::Never);
    assert!(rig.pool.try_acquire().is_err());
    settle().await;
    let is_tried = |server: &&str| rig.connector.counts(server).in_flight > 0;
    let tried = ["a", "b"].into_iter().find(is_tried).expect("the caller found it empty");
    rig.connector.set_default(Connect::Ok);
    let _of_other = rig.pool.acquire().await.expect("the other one accepts");
    assert!(poll_once(pin!(rig.pool.acquire_now())).await, "the attempt may serve it");
    rig.pool.disable(tried, None).expect("it is registered");
    assert!(!poll_once(pin!(rig.pool.acquire_now())).await);
}
