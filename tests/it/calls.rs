//! Calls beside acquire and release: disable, enable and drain; warm-up; a followed stream; acquires with wishes.

mod disable;
mod drain;
mod follow;
mod owned;
mod warm_up;
mod wishes;

use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{Pool, PooledConn, ServerState};

use crate::support::{Rig, server_of, settle};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Conn = PooledConn<ScriptedConnector>;

fn state(rig: &Rig, server: usize) -> ServerState {
    rig.pool.status().servers[server].state
}

/// Opens one connection to each of the pool's servers and releases them.
async fn fill(rig: &Rig) {
    let mut held: Vec<Conn> = Vec::new();
    for _ in rig.pool.status().servers {
        held.push(rig.pool.acquire().await.expect("the servers accept"));
    }
    held.into_iter().for_each(PooledConn::release);
    settle().await;
}

/// Acquires a connection of that server; the others are released.
pub(crate) async fn acquire_of(rig: &Rig, server: &str) -> Conn {
    let mut others = Vec::new();
    loop {
        let conn = rig.pool.acquire().await.expect("a server serves");
        if server_of(&conn) == server {
            others.into_iter().for_each(PooledConn::release);
            return conn;
        }
        others.push(conn);
    }
}

/// The servers of the next acquires, each released at once.
async fn served_by(pool: &Pool<ScriptedConnector>, acquires: usize) -> Vec<String> {
    let mut servers = Vec::new();
    for _ in 0..acquires {
        let conn = pool.acquire().await.expect("a server serves");
        servers.push(server_of(&conn));
        conn.release();
    }
    servers
}
