//! What a pass costs when most servers are dead, counted rather than timed.

use super::Pool;
use crate::clock::Clock;
use crate::conn::PooledConn;
use crate::connect::scripted::ScriptedConnector;
use crate::server::List;
use crate::sync::Arc;

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
    held.sort_by_key(|conn| conn.server().parse::<usize>().expect("addresses are numbers"));
    (pool, connector, held)
}

#[tokio::test]
async fn the_list_that_a_pass_goes_over_leaves_out_the_dead() {
    let (pool, _connector, mut held) = thousand().await;
    let alive = held.pop().expect("a thousand");
    held.into_iter().for_each(|conn| conn.fail("broken"));
    let list = pool.ring.list.load();
    let up: Vec<_> = list.up.iter().map(|turn| &*turn.server.address).collect();
    assert_eq!((list.servers.len(), up), (SERVERS, vec![alive.server()]));
}

#[tokio::test]
async fn a_pass_goes_over_no_other_servers_than_that_list_has() {
    let (pool, connector, held) = thousand().await;
    held.into_iter().for_each(PooledConn::release);
    // All have an idle connection and would serve if they were touched, but one alone is said to be up.
    let list = pool.ring.list.load_full();
    let up = vec![Arc::clone(&list.servers[500])];
    pool.ring.publish(Arc::new(List::with_up(Arc::clone(&list.servers), up, Vec::new(), false)));
    for _ in 0..2 * SERVERS {
        let conn = pool.try_acquire().expect("one is up");
        assert_eq!(conn.server(), "500");
        conn.release();
    }
    // Nor does a pass that finds nothing go on to the others.
    let _held = pool.try_acquire().expect("one is up");
    for _ in 0..100 {
        assert!(pool.try_acquire().is_err());
    }
    assert_eq!(connector.total_counts().reuse_checks, 2 * SERVERS as u64 + 1);
}
