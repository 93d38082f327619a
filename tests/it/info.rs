//! `ConnInfo`: server, age, idle time and use count, as callers and the connector read them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::{Clock, ConnInfo, Connector, Pool, PooledConn, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Records the arguments of `connect` and of `is_reusable`.
#[derive(Clone, Default)]
struct Witness {
    connected: Arc<Mutex<Vec<Server>>>,
    asked: Arc<Mutex<Vec<ConnInfo>>>,
}

impl Connector for Witness {
    type Conn = ();
    type Error = std::io::Error;

    async fn connect(&self, server: &Server) -> Result<(), std::io::Error> {
        self.connected.lock().expect("the lock is not poisoned").push(server.clone());
        Ok(())
    }

    fn is_reusable(&self, (): &mut (), info: &ConnInfo) -> bool {
        self.asked.lock().expect("the lock is not poisoned").push(info.clone());
        true
    }
}

/// The server, age, idle time and use count of a connection.
fn facts(info: &ConnInfo) -> (Server, Duration, Duration, u64) {
    (info.server().clone(), info.age(), info.idle(), info.uses())
}

fn pool(witness: &Witness, server: Server) -> (Pool<Witness>, Clock) {
    let clock = Clock::manual();
    let builder = Pool::builder(witness.clone()).clock(clock.clone()).maintenance(false).idle_timeout(None);
    (builder.server(server).build().expect("the settings are in range"), clock)
}

#[tokio::test]
async fn age_and_idle_time_exclude_present_checkout() {
    let witness = Witness::default();
    let server = Server::new("a").max_conns(1);
    let (pool, clock) = pool(&witness, server.clone());
    let conn = pool.acquire().await.expect("the server accepts");
    clock.advance(SECOND);
    let new = (server.clone(), Duration::ZERO, Duration::ZERO, 0);
    assert_eq!(facts(&PooledConn::info(&conn)), new);
}

#[tokio::test]
async fn uses_count_earlier_checkouts() {
    let witness = Witness::default();
    let server = Server::new("a").max_conns(1);
    let (pool, clock) = pool(&witness, server.clone());
    pool.acquire().await.expect("the server accepts").release();
    for uses in 1..=3_u32 {
        clock.advance(SECOND * uses);
        let conn = pool.try_acquire().expect("the connection is idle");
        let age = (1..=uses).map(|seconds| SECOND * seconds).sum();
        let expected = (server.clone(), age, SECOND * uses, u64::from(uses));
        assert_eq!(facts(&PooledConn::info(&conn)), expected);
        assert_eq!(witness.asked.lock().expect("the lock is not poisoned").last().map(facts), Some(expected));
        let info = PooledConn::info(&conn);
        conn.release();
        assert_eq!(info.uses(), u64::from(uses), "the info is a snapshot");
    }
}

#[tokio::test]
async fn checkout_without_token_does_not_count_as_use() {
    let witness = Witness::default();
    let (pool, clock) = pool(&witness, Server::new("a").max_conns(1).max_rps(1.0).burst(1));
    pool.acquire().await.expect("the server accepts").release();
    pool.try_acquire().expect_err("the token is spent");
    clock.advance(SECOND);
    assert_eq!(PooledConn::info(&pool.try_acquire().expect("a token is available")).uses(), 1);
}

#[tokio::test]
async fn connection_keeps_server_settings_it_was_opened_with() {
    let witness = Witness::default();
    let [old, new] = [1, 2].map(|conns| Server::new("a").max_conns(conns));
    let (pool, _clock) = pool(&witness, old.clone());
    let first = pool.acquire().await.expect("the server accepts");
    pool.set_servers([new.clone()]).expect("the settings are in range");
    let second = pool.acquire().await.expect("the server accepts");
    assert_eq!(PooledConn::info(&first).server(), &old, "as it was when the connection was opened");
    assert_eq!(PooledConn::info(&second).server(), &new);
    assert_eq!(*witness.connected.lock().expect("the lock is not poisoned"), [old, new]);
    assert_eq!(PooledConn::info(&first).server().name(), "a");
}
