#![doc = include_str!("../README.md")]

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use connring::{AfterUse, Connector, Ended, Server};
use deadpool::managed::{Manager, Metrics, RecycleError};

pub use deadpool;

/// Connects by a manager of deadpool.
///
/// | asked by connring | answered by the manager |
/// |---|---|
/// | [`connect`](Connector::connect) | `create` |
/// | [`after_use`](Connector::after_use) | [`AfterUse::Recycle`] for what was released; what was dropped closes (see [`reuse_dropped`](Self::reuse_dropped)) |
/// | [`recycle`](Connector::recycle): after each release | `recycle` |
/// | [`check`](Connector::check): in probes, and every [`idle_check_interval`](connring::Builder::idle_check_interval) | `recycle` |
/// | the drop of a connection, and [`DeadpoolConn::into_inner`] | `detach` |
///
/// Deadpool asks `recycle` when a connection is wanted again, and one call cleans up after the last user and shows that
/// the server lives. Here the first happens right after the use, in a task, so that no caller waits for it while other
/// connections are idle. The second is left to the checks. A failed recycle closes the connection and counts as a
/// failure of its server.
///
/// A manager knows one server and a pool has many, so a closure makes the manager of a server. It is called for each
/// connect; the manager stays with its connection and is dropped with it. So nothing is left of a server that was
/// removed, and one whose address or tags change gets a manager with the new ones. Where connections should share a
/// manager (the statement caches of deadpool-postgres are cleared by it), return clones of one [`Arc`].
pub struct DeadpoolConnector<M: Manager> {
    make: Box<Make<M>>,
    reuse_dropped: bool,
}

/// Makes the manager of a server.
type Make<M> = dyn Fn(&Server) -> Result<Arc<M>, <M as Manager>::Error> + Send + Sync;

impl<M: Manager> DeadpoolConnector<M> {
    /// A connector whose managers `make` makes. It must not block. An error of it is a failed connect.
    pub fn new(make: impl Fn(&Server) -> Result<Arc<M>, M::Error> + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), reuse_dropped: false }
    }

    /// Whether a connection that its caller drops is recycled and reused, as deadpool does it. Default: `false`, it
    /// closes: only [`release`](connring::PooledConn::release) makes it reusable.
    ///
    /// Only where `recycle` detects the rest of an answer, or the client matches answers to requests by itself, as a
    /// multiplexed one does. With any other client a request that is cut short leaves its answer to the next caller.
    #[must_use]
    pub fn reuse_dropped(mut self, on: bool) -> Self {
        self.reuse_dropped = on;
        self
    }
}

impl<M: Manager> fmt::Debug for DeadpoolConnector<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadpoolConnector").field("reuse_dropped", &self.reuse_dropped).finish_non_exhaustive()
    }
}

impl<M> Connector for DeadpoolConnector<M>
where
    M: Manager<Type: 'static, Error: Error + Sync + 'static> + 'static,
{
    type Conn = DeadpoolConn<M>;
    type Error = ManagerError<M::Error>;

    async fn connect(&self, server: &Server) -> Result<DeadpoolConn<M>, Self::Error> {
        let manager = (self.make)(server).map_err(ManagerError::Failed)?;
        let conn = manager.create().await.map_err(ManagerError::Failed)?;
        Ok(DeadpoolConn { conn: Some(conn), metrics: Metrics::default(), manager })
    }

    fn after_use(&self, _: &mut DeadpoolConn<M>, ended: Ended) -> AfterUse {
        if self.reuse_dropped || ended == Ended::Released { AfterUse::Recycle } else { AfterUse::Close }
    }

    #[allow(clippy::disallowed_methods, reason = "the metrics of deadpool hold an instant")]
    async fn recycle(&self, conn: &mut DeadpoolConn<M>) -> Result<(), Self::Error> {
        self.check(conn).await?;
        conn.metrics.recycle_count += 1;
        conn.metrics.recycled = Some(Instant::now());
        Ok(())
    }

    async fn check(&self, conn: &mut DeadpoolConn<M>) -> Result<(), Self::Error> {
        let DeadpoolConn { conn, metrics, manager } = conn;
        let Some(conn) = conn else { return Ok(()) };
        manager.recycle(conn, metrics).await.map_err(ManagerError::from)
    }
}

/// Why a manager opened no connection, or did not recycle one.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError<E: Error + 'static> {
    /// The manager's own error.
    #[error("the manager failed")]
    Failed(#[source] E),
    /// Its reason not to recycle a connection.
    #[error("the manager did not recycle the connection: {0}")]
    NotRecycled(Cow<'static, str>),
}

impl<E: Error + 'static> From<RecycleError<E>> for ManagerError<E> {
    fn from(error: RecycleError<E>) -> Self {
        match error {
            RecycleError::Backend(error) => Self::Failed(error),
            RecycleError::Message(reason) => Self::NotRecycled(reason),
        }
    }
}

/// A connection with the manager that made it. It dereferences to the manager's `Type`.
///
/// A checked out one is `PooledConn<DeadpoolConnector<M>>`, so that `&mut **conn` is the manager's type.
pub struct DeadpoolConn<M: Manager> {
    /// Empty once it was taken out.
    conn: Option<M::Type>,
    metrics: Metrics,
    manager: Arc<M>,
}

/// Why the expects cannot fail.
const NOT_TAKEN: &str = "only `into_inner`, which consumes it, and the drop take the connection out";

impl<M: Manager> DeadpoolConn<M> {
    /// The manager's connection alone, after `detach`: for one that was [detached](connring::PooledConn::detach).
    pub fn into_inner(mut this: Self) -> M::Type {
        this.detach().expect(NOT_TAKEN)
    }

    fn detach(&mut self) -> Option<M::Type> {
        let mut conn = self.conn.take()?;
        self.manager.detach(&mut conn);
        Some(conn)
    }
}

impl<M: Manager> Drop for DeadpoolConn<M> {
    fn drop(&mut self) {
        self.detach();
    }
}

impl<M: Manager> Deref for DeadpoolConn<M> {
    type Target = M::Type;

    fn deref(&self) -> &M::Type {
        self.conn.as_ref().expect(NOT_TAKEN)
    }
}

impl<M: Manager> DerefMut for DeadpoolConn<M> {
    fn deref_mut(&mut self) -> &mut M::Type {
        self.conn.as_mut().expect(NOT_TAKEN)
    }
}

impl<M: Manager<Type: fmt::Debug>> fmt::Debug for DeadpoolConn<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
