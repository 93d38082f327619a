//! What a caller and its connector learn about a connection: its server, age, idle time and use count.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::{Clock, ConnInfo, Connector, Pool, PooledConn, Server};

const SECOND: Duration = Duration::from_secs(1);

/// Keeps the servers that `connect` was given, and the facts that `is_reusable` was given.
#[derive(Clone, Default)]
struct Witness {
    connected: Arc<Mutex<Vec<Server>>>,
    asked: Arc<Mutex<Vec<ConnInfo>>>,
}

impl Connector for Witness {
    type Conn = ();
    type Error = std::io::Error;

    async fn connect(&self, server: &Server) -> Result<(), std::io::Error> {
        self.connected.lock().expect("no panic").push(server.clone());
        Ok(())
    }

    fn is_reusable(&self, (): &mut (), info: &ConnInfo) -> bool {
        self.asked.lock().expect("no panic").push(info.clone());
        true
    }
}

/// Server, age, idle time and use count.
fn facts(info: &ConnInfo) -> (Server, Duration, Duration, u64) {
    (info.server().clone(), info.age(), info.idle(), info.uses())
}

fn pool(witness: &Witness, server: Server) -> (Pool<Witness>, Clock) {
    let clock = Clock::manual();
    let builder = Pool::builder(witness.clone()).clock(clock.clone()).maintenance(false).idle_timeout(None);
    (builder.server(server).build().expect("in range"), clock)
}

#[tokio::test]
async fn time_in_use_does_not_count() {
    let witness = Witness::default();
    let server = Server::new("a").max_conns(1);
    let (pool, clock) = pool(&witness, server.clone());
    let conn = pool.acquire().await.expect("it accepts");
    clock.advance(SECOND);
    let new = (server.clone(), Duration::ZERO, Duration::ZERO, 0);
    assert_eq!(facts(&PooledConn::info(&conn)), new);
}

#[tokio::test]
async fn uses_count_the_checkouts_before_this_one() {
    let witness = Witness::default();
    let server = Server::new("a").max_conns(1);
    let (pool, clock) = pool(&witness, server.clone());
    pool.acquire().await.expect("it accepts").release();
    for uses in 1..=3_u32 {
        clock.advance(SECOND * uses);
        let conn = pool.try_acquire().expect("it is idle");
        let age = (1..=uses).map(|seconds| SECOND * seconds).sum();
        let expected = (server.clone(), age, SECOND * uses, u64::from(uses));
        assert_eq!(facts(&PooledConn::info(&conn)), expected);
        assert_eq!(witness.asked.lock().expect("no panic").last().map(facts), Some(expected));
        let info = PooledConn::info(&conn);
        conn.release();
        assert_eq!(info.uses(), u64::from(uses), "it is a snapshot");
    }
}

#[tokio::test]
async fn a_checkout_that_finds_no_token_is_no_use() {
    let witness = Witness::default();
    let (pool, clock) = pool(&witness, Server::new("a").max_conns(1).max_rps(1.0).burst(1));
    pool.acquire().await.expect("it accepts").release();
    pool.try_acquire().expect_err("the token is spent");
    clock.advance(SECOND);
    assert_eq!(PooledConn::info(&pool.try_acquire().expect("there is a token")).uses(), 1);
}

#[tokio::test]
async fn a_connection_keeps_the_settings_of_its_server() {
    let witness = Witness::default();
    let [old, new] = [1, 2].map(|conns| Server::new("a").max_conns(conns));
    let (pool, _clock) = pool(&witness, old.clone());
    let first = pool.acquire().await.expect("it accepts");
    pool.set_servers([new.clone()]).expect("in range");
    let second = pool.acquire().await.expect("it accepts");
    assert_eq!(PooledConn::info(&first).server(), &old, "as it was when the connection was opened");
    assert_eq!(PooledConn::info(&second).server(), &new);
    assert_eq!(*witness.connected.lock().expect("no panic"), [old, new]);
    assert_eq!(PooledConn::info(&first).server().name(), "a");
}
