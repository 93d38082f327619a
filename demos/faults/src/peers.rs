//! deadpool and bb8: one pool for each server, used in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bb8::ManageConnection;
use deadpool::managed::{self, Manager, Metrics, Object, RecycleResult};
use tokio::time::timeout;

use crate::pools::{CONNECT, CONNS, Contestant, PATIENCE, WAIT};
use crate::protocol::{Ask, Protocol, Reply};

/// A manager of one server that counts.
pub(crate) struct Counted<M> {
    manager: M,
    connects: Arc<AtomicU64>,
}

impl<M: Manager> Manager for Counted<M> {
    type Type = M::Type;
    type Error = M::Error;

    async fn create(&self) -> Result<M::Type, M::Error> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.manager.create().await
    }

    async fn recycle(&self, conn: &mut M::Type, metrics: &Metrics) -> RecycleResult<M::Error> {
        self.manager.recycle(conn, metrics).await
    }

    fn detach(&self, conn: &mut M::Type) {
        self.manager.detach(conn);
    }
}

impl<M: ManageConnection> ManageConnection for Counted<M> {
    type Connection = M::Connection;
    type Error = M::Error;

    async fn connect(&self) -> Result<M::Connection, M::Error> {
        self.connects.fetch_add(1, Ordering::Relaxed);
        self.manager.connect().await
    }

    async fn is_valid(&self, conn: &mut M::Connection) -> Result<(), M::Error> {
        self.manager.is_valid(conn).await
    }

    fn has_broken(&self, conn: &mut M::Connection) -> bool {
        self.manager.has_broken(conn)
    }
}

/// One pool for each server.
struct InTurn<P> {
    pools: Vec<(P, Arc<AtomicU64>)>,
    next: AtomicUsize,
}

impl<P> InTurn<P> {
    fn new<M>(addresses: &[String], manager: impl Fn(&str) -> M, pool: impl Fn(Counted<M>) -> P) -> Self {
        let counted = |address: &String| {
            let connects = Arc::default();
            (pool(Counted { manager: manager(address), connects: Arc::clone(&connects) }), connects)
        };
        Self { pools: addresses.iter().map(counted).collect(), next: AtomicUsize::new(0) }
    }

    fn next(&self) -> (usize, &P) {
        let server = self.next.fetch_add(1, Ordering::Relaxed) % self.pools.len();
        (server, self.of(server))
    }

    fn of(&self, server: usize) -> &P {
        &self.pools[server].0
    }

    fn sum(&self, count: impl Fn(&P) -> usize) -> usize {
        self.pools.iter().map(|(pool, _)| count(pool)).sum()
    }

    fn connects(&self, server: usize) -> u64 {
        self.pools[server].1.load(Ordering::Relaxed)
    }
}

pub(crate) struct Deadpool<P: Protocol>(InTurn<managed::Pool<Counted<P::Deadpool>>>);

impl<P: Protocol> Contestant<P> for Deadpool<P>
where
    <P::Deadpool as Manager>::Type: 'static,
    P::Deadpool: 'static,
{
    const NAME: &str = "deadpool";
    type Held = Object<Counted<P::Deadpool>>;

    fn over(addresses: &[String]) -> Self {
        Self(InTurn::new(addresses, P::deadpool, |manager| {
            let builder = managed::Pool::builder(manager).max_size(CONNS as usize);
            let builder = builder.runtime(deadpool::Runtime::Tokio1).wait_timeout(Some(WAIT));
            builder.create_timeout(Some(CONNECT)).recycle_timeout(Some(CONNECT)).build().expect("a pool")
        }))
    }

    async fn request(&self, text: &str) -> Result<Reply, ()> {
        let (server, pool) = self.0.next();
        let mut conn = pool.get().await.map_err(drop)?;
        match timeout(PATIENCE, conn.ask(text)).await {
            Ok(answer) => answer.map(|text| Reply { text, server }).map_err(drop),
            Err(_elapsed) => {
                // Its answer may still come.
                drop(Object::take(conn));
                Err(())
            }
        }
    }

    async fn hold(&self, server: usize) -> Option<Self::Held> {
        self.0.of(server).get().await.ok()
    }

    fn let_go(held: Self::Held) {
        drop(held);
    }

    fn in_use(&self) -> usize {
        self.0.sum(|pool| {
            let status = pool.status();
            status.size - status.available + status.waiting
        })
    }

    fn connects(&self, server: usize) -> u64 {
        self.0.connects(server)
    }
}

pub(crate) struct Bb8<P: Protocol>(InTurn<bb8::Pool<Counted<P::Bb8>>>);

impl<P: Protocol> Contestant<P> for Bb8<P> {
    const NAME: &str = "bb8";
    type Held = bb8::PooledConnection<'static, Counted<P::Bb8>>;

    fn over(addresses: &[String]) -> Self {
        Self(InTurn::new(addresses, P::bb8, |manager| {
            bb8::Pool::builder().max_size(CONNS).connection_timeout(WAIT).build_unchecked(manager)
        }))
    }

    async fn request(&self, text: &str) -> Result<Reply, ()> {
        let (server, pool) = self.0.next();
        let mut conn = pool.get().await.map_err(drop)?;
        let answer = timeout(PATIENCE, conn.ask(text)).await.map_err(drop)?;
        answer.map(|text| Reply { text, server }).map_err(drop)
    }

    async fn hold(&self, server: usize) -> Option<Self::Held> {
        self.0.of(server).get_owned().await.ok()
    }

    fn let_go(held: Self::Held) {
        drop(held);
    }

    fn in_use(&self) -> usize {
        self.0.sum(|pool| {
            let state = pool.state();
            (state.connections - state.idle_connections) as usize
        })
    }

    fn connects(&self, server: usize) -> u64 {
        self.0.connects(server)
    }
}
