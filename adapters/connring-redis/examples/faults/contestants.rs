//! The pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bb8_redis::{RedisConnectionManager, bb8};
use connring::{Pool, PooledConn};
use connring_redis::RedisConnector;
use deadpool::managed::{Manager, Metrics, RecycleResult};
use deadpool_redis::redis::aio::MultiplexedConnection;
use redis::{RedisError, cmd};

use crate::in_time;

const CONNS: u32 = 32;
/// The longest wait for a connection.
const WAIT: Duration = Duration::from_secs(1);
/// The longest connect, and the longest check.
const CONNECT: Duration = Duration::from_millis(500);

/// An answer.
pub(crate) struct Reply {
    pub(crate) text: String,
    /// Which server sent it.
    pub(crate) server: usize,
}

pub(crate) trait Contestant: Send + Sync + 'static {
    const NAME: &str;
    fn over(addresses: &[String]) -> Self;
    /// Sends an `ECHO` to a server of the pool's choice.
    fn echo(&self, text: &str) -> impl Future<Output = Result<Reply, ()>> + Send;
    /// How many attempts at a server there were.
    fn connects(&self, server: usize) -> u64;
}

pub(crate) struct Connring(Pool<RedisConnector>);

impl Contestant for Connring {
    const NAME: &str = "connring";

    fn over(addresses: &[String]) -> Self {
        let servers = addresses
            .iter()
            .enumerate()
            .map(|(number, address)| connring::Server::named(number.to_string(), address.clone()));
        let builder = Pool::builder(RedisConnector::new()).servers(servers).max_conns_per_server(CONNS);
        Self(builder.wait_timeout(WAIT).connect_timeout(CONNECT).build().expect("a pool"))
    }

    async fn echo(&self, text: &str) -> Result<Reply, ()> {
        let mut conn = self.0.acquire().await.map_err(drop)?;
        let server = PooledConn::info(&conn).server().name().parse().map_err(drop)?;
        match in_time(cmd("ECHO").arg(text).query_async(&mut *conn)).await {
            Some(Ok(text)) => {
                conn.release();
                Ok(Reply { text, server })
            }
            Some(Err(error)) => {
                conn.broken(error);
                Err(())
            }
            None => {
                conn.fail("no answer in time");
                Err(())
            }
        }
    }

    fn connects(&self, server: usize) -> u64 {
        let totals = &self.0.status().servers[server].totals;
        totals.connects + totals.connect_failures + totals.connect_timeouts
    }
}

/// A manager of one server that counts.
pub(crate) struct Counted<M> {
    manager: M,
    connects: Arc<AtomicU64>,
}

/// One pool for each server, used in turn.
pub(crate) struct InTurn<P> {
    pools: Vec<(P, Arc<AtomicU64>)>,
    next: AtomicUsize,
}

impl<P> InTurn<P> {
    fn new<M>(managers: impl Iterator<Item = M>, pool: impl Fn(Counted<M>) -> P) -> Self {
        let counted = |manager| {
            let connects = Arc::default();
            (pool(Counted { manager, connects: Arc::clone(&connects) }), connects)
        };
        Self { pools: managers.map(counted).collect(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> (usize, &P) {
        let server = self.next.fetch_add(1, Ordering::Relaxed) % self.pools.len();
        (server, &self.pools[server].0)
    }

    fn connects(&self, server: usize) -> u64 {
        self.pools[server].1.load(Ordering::Relaxed)
    }
}

async fn echo(conn: &mut MultiplexedConnection, text: &str, server: usize) -> Result<Reply, ()> {
    let answer = in_time(cmd("ECHO").arg(text).query_async(conn)).await;
    answer.and_then(Result::ok).map(|text| Reply { text, server }).ok_or(())
}

fn url(address: &String) -> String {
    format!("redis://{address}/")
}

pub(crate) struct Deadpool(InTurn<deadpool::managed::Pool<Counted<deadpool_redis::Manager>>>);

impl Manager for Counted<deadpool_redis::Manager> {
    type Type = MultiplexedConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<MultiplexedConnection, RedisError> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.manager.create().await
    }

    async fn recycle(&self, conn: &mut MultiplexedConnection, metrics: &Metrics) -> RecycleResult<RedisError> {
        self.manager.recycle(conn, metrics).await
    }
}

impl Contestant for Deadpool {
    const NAME: &str = "deadpool-redis";

    fn over(addresses: &[String]) -> Self {
        let managers = addresses.iter().map(|address| deadpool_redis::Manager::new(url(address)).expect("an address"));
        Self(InTurn::new(managers, |manager| {
            let builder = deadpool::managed::Pool::builder(manager).max_size(CONNS as usize);
            let builder = builder.runtime(deadpool::Runtime::Tokio1).wait_timeout(Some(WAIT));
            builder.create_timeout(Some(CONNECT)).recycle_timeout(Some(CONNECT)).build().expect("a pool")
        }))
    }

    async fn echo(&self, text: &str) -> Result<Reply, ()> {
        let (server, pool) = self.0.next();
        let mut conn = pool.get().await.map_err(drop)?;
        echo(&mut conn, text, server).await
    }

    fn connects(&self, server: usize) -> u64 {
        self.0.connects(server)
    }
}

pub(crate) struct Bb8(InTurn<bb8::Pool<Counted<RedisConnectionManager>>>);

impl bb8::ManageConnection for Counted<RedisConnectionManager> {
    type Connection = MultiplexedConnection;
    type Error = RedisError;

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.manager.connect().await
    }

    async fn is_valid(&self, conn: &mut MultiplexedConnection) -> Result<(), RedisError> {
        self.manager.is_valid(conn).await
    }

    fn has_broken(&self, conn: &mut MultiplexedConnection) -> bool {
        self.manager.has_broken(conn)
    }
}

impl Contestant for Bb8 {
    const NAME: &str = "bb8-redis";

    fn over(addresses: &[String]) -> Self {
        let managers = addresses.iter().map(|address| RedisConnectionManager::new(url(address)).expect("an address"));
        Self(InTurn::new(managers, |manager| {
            bb8::Pool::builder().max_size(CONNS).connection_timeout(WAIT).build_unchecked(manager)
        }))
    }

    async fn echo(&self, text: &str) -> Result<Reply, ()> {
        let (server, pool) = self.0.next();
        let mut conn = pool.get().await.map_err(drop)?;
        echo(&mut conn, text, server).await
    }

    fn connects(&self, server: usize) -> u64 {
        self.0.connects(server)
    }
}
