//! How servers are chosen: weights, connections in use, and tiers.

mod least_in_use;
mod tiers;
mod weights;

use std::collections::BTreeMap;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{
    AcquireError, Builder, Ejection, LoadBalancing, PooledConn, Reason, Server, ServerState, TryAcquireError,
};
use tokio::time::sleep;

use crate::support::{Rig, ejects_at_once, open, poll_once, server_of, settle};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// A backoff that does not end within a test.
const LONG: Duration = Duration::from_secs(3_600);

type Conn = PooledConn<ScriptedConnector>;

/// A pool whose servers stay down for the rest of the test. One report ejects a server.
fn rig(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Rig {
    Rig::paused(|builder| {
        build(ejects_at_once(builder.backoff(LONG, LONG).outage_retry(None).idle_timeout(None), LONG))
    })
}

fn release(held: Vec<Conn>) {
    held.into_iter().for_each(Conn::release);
}

/// Checks out and returns `times` times in one task. Returns the servers, in order.
fn turns(rig: &Rig, times: usize) -> Vec<String> {
    let turn = || {
        let conn = rig.pool.try_acquire().expect("a connection is idle");
        let server = server_of(&conn);
        conn.release();
        server
    };
    (0..times).map(|_| turn()).collect()
}

fn shares(order: &[String]) -> BTreeMap<&str, usize> {
    let mut shares = BTreeMap::new();
    for server in order {
        *shares.entry(server.as_str()).or_default() += 1;
    }
    shares
}

/// Opens all connections that the servers allow, and returns them.
async fn fill(rig: &Rig) {
    let room = rig.pool.status().servers.iter().filter(|server| !server.standby).map(|server| server.max_conns).sum();
    let room: u32 = room;
    release(open(rig, room as usize).await);
}

/// Takes a connection of one server, without returning the others in between.
fn take_of(rig: &Rig, address: &str) -> Conn {
    let mut others = Vec::new();
    loop {
        let conn = rig.pool.try_acquire().expect("a connection is idle");
        if server_of(&conn) == address {
            release(others);
            return conn;
        }
        others.push(conn);
    }
}
