//! Callers that were served and look at their connection much later.

use connring::{Builder, CloseReason};

use super::*;
use crate::limits::poll_at_most;
use crate::support::{advance_smoothly, ejects_at_once};

/// A caller that is served and looks much later: its connection is checked like an idle one.
#[tokio::test]
async fn connection_that_its_waiter_takes_late_is_checked() {
    let rig = Rig::manual(|builder| builder.server("a").wait_timeout(None));
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await, "it waits");
    settle().await;
    assert_eq!(rig.connector.counts("a").open, 1, "it was served");
    rig.connector.kill_connections("a");
    rig.clock.advance(SECOND);
    settle().await;
    let conn = poll_at_most(64, waiter).await.expect("another one is opened");
    assert!(conn.is_alive());
    assert_eq!(rig.pool.status().totals.connects, 2);
}

/// The server goes down and recovers while the caller does not look.
#[tokio::test]
async fn connection_that_its_waiter_takes_after_an_outage_closes() {
    let build = |builder: Builder<ScriptedConnector>| {
        ejects_at_once(builder.server("a").server("b").max_conns_per_server(2).wait_timeout(None), SECOND)
    };
    let rig = Rig::manual(build);
    let conns = open(&rig, 4).await;
    let (mut of_a, _of_b): (Vec<_>, Vec<_>) = conns.into_iter().partition(|conn| conn.address() == "a");
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await, "it waits");
    of_a.remove(0).release();
    of_a.remove(0).fail_for("broken", SECOND);
    let is_up = || rig.pool.status().servers[0].state == ServerState::Up;
    assert!(!is_up());
    for _ in 0..40 {
        advance_smoothly(&rig, SECOND / 10).await;
        rig.pool.try_acquire().into_iter().for_each(PooledConn::release);
    }
    assert!(is_up(), "{:?}", rig.pool.status());
    waiter.await.expect("another one is idle").release();
    assert_eq!(rig.pool.status().totals.closes(CloseReason::Outage), 1);
}
