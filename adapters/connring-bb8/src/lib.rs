#![doc = include_str!("../README.md")]

use std::error::Error;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bb8::ManageConnection;
use connring::{AfterUse, ConnInfo, Connector, Ended, Server};

pub use bb8;

/// Connects by a manager of bb8.
///
/// | asked by connring | answered by the manager |
/// |---|---|
/// | [`connect`](Connector::connect) | `connect` |
/// | [`check`](Connector::check): in probes, and every [`idle_check_interval`](connring::Builder::idle_check_interval) | `is_valid` |
/// | [`is_reusable`](Connector::is_reusable): at each checkout and in sweeps | not `has_broken` |
/// | [`after_use`](Connector::after_use) | closes what `has_broken`, and what was dropped (see [`reuse_dropped`](Self::reuse_dropped)) |
///
/// A manager knows one server and a pool has many, so a closure makes the manager of a server. It is called for each
/// connect; the manager stays with its connection and is dropped with it. So nothing is left of a server that was
/// removed, and one whose address or tags change gets a manager with the new ones. Where connections should share a
/// manager, return clones of one [`Arc`].
pub struct Bb8Connector<M: ManageConnection> {
    make: Box<Make<M>>,
    reuse_dropped: bool,
}

/// Makes the manager of a server.
type Make<M> = dyn Fn(&Server) -> Result<Arc<M>, <M as ManageConnection>::Error> + Send + Sync;

impl<M: ManageConnection> Bb8Connector<M> {
    /// A connector whose managers `make` makes. It must not block. An error of it is a failed connect.
    ///
    /// # Examples
    ///
    /// Connections that share the manager of their server:
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use std::sync::Arc;
    ///
    /// use bb8_redis::RedisConnectionManager;
    /// use bb8_redis::redis::{ErrorKind, RedisError};
    /// use connring_bb8::Bb8Connector;
    ///
    /// # fn main() -> Result<(), RedisError> {
    /// let mut managers = HashMap::new();
    /// for address in ["10.0.0.1:6379", "10.0.0.2:6379"] {
    ///     managers.insert(address, Arc::new(RedisConnectionManager::new(format!("redis://{address}"))?));
    /// }
    /// let unknown = || RedisError::from((ErrorKind::InvalidClientConfig, "unknown server"));
    /// let connector = Bb8Connector::new(move |server| managers.get(server.address()).cloned().ok_or_else(unknown));
    /// # let _ = connector;
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(make: impl Fn(&Server) -> Result<Arc<M>, M::Error> + Send + Sync + 'static) -> Self {
        Self { make: Box::new(make), reuse_dropped: false }
    }

    /// Whether a connection that its caller drops is reused, as bb8 does it, unless `has_broken`. Default: `false`, it
    /// closes: only [`release`](connring::PooledConn::release) makes it reusable.
    ///
    /// Only for clients that match answers to requests by themselves, such as a multiplexed one. With any other client
    /// a request that is cut short leaves its answer to the next caller. A transaction that was begun, or a database
    /// that was selected, stays in either case.
    #[must_use]
    pub fn reuse_dropped(mut self, on: bool) -> Self {
        self.reuse_dropped = on;
        self
    }
}

impl<M: ManageConnection> fmt::Debug for Bb8Connector<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bb8Connector").field("reuse_dropped", &self.reuse_dropped).finish_non_exhaustive()
    }
}

impl<M> Connector for Bb8Connector<M>
where
    M: ManageConnection,
    M::Error: Error + Sync,
{
    type Conn = Bb8Conn<M>;
    type Error = M::Error;

    async fn connect(&self, server: &Server) -> Result<Bb8Conn<M>, M::Error> {
        let manager = (self.make)(server)?;
        let conn = manager.connect().await?;
        Ok(Bb8Conn { conn, manager })
    }

    fn is_reusable(&self, conn: &mut Bb8Conn<M>, _: &ConnInfo) -> bool {
        !conn.manager.has_broken(&mut conn.conn)
    }

    async fn check(&self, conn: &mut Bb8Conn<M>) -> Result<(), M::Error> {
        conn.manager.is_valid(&mut conn.conn).await
    }

    fn after_use(&self, conn: &mut Bb8Conn<M>, ended: Ended) -> AfterUse {
        if conn.manager.has_broken(&mut conn.conn) {
            AfterUse::Close
        } else if self.reuse_dropped {
            AfterUse::Reuse
        } else {
            AfterUse::of(ended)
        }
    }
}

/// A connection with the manager that made it. It dereferences to the manager's connection.
///
/// A checked out one is `PooledConn<Bb8Connector<M>>`, so that `&mut **conn` is the manager's connection.
pub struct Bb8Conn<M: ManageConnection> {
    conn: M::Connection,
    manager: Arc<M>,
}

impl<M: ManageConnection> Bb8Conn<M> {
    /// The manager's connection alone, for one that was [detached](connring::PooledConn::detach).
    pub fn into_inner(this: Self) -> M::Connection {
        this.conn
    }
}

impl<M: ManageConnection> Deref for Bb8Conn<M> {
    type Target = M::Connection;

    fn deref(&self) -> &M::Connection {
        &self.conn
    }
}

impl<M: ManageConnection> DerefMut for Bb8Conn<M> {
    fn deref_mut(&mut self) -> &mut M::Connection {
        &mut self.conn
    }
}

impl<M: ManageConnection<Connection: fmt::Debug>> fmt::Debug for Bb8Conn<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.conn.fmt(f)
    }
}
