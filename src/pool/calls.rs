//! Orders to the pool (disable, enable, drain, warm-up, follow), and the acquires beside the plain ones.

use std::future::Future;
use std::time::Duration;

use futures_core::Stream;

use super::Pool;
use crate::acquire_options::AcquireOptions;
use crate::conn::PooledConn;
use crate::connector::Connector;
use crate::core;
use crate::error::{AcquireError, ServerError};
use crate::follow::{Follow, FollowError};
use crate::reports::{DrainReport, WarmUpReport};
use crate::server::Server;

impl<C: Connector> Pool<C> {
    /// The same as [`acquire`](Pool::acquire), as a future without a lifetime: for tasks, and for types that keep it.
    ///
    /// The future counts as a clone of the pool, which stays open while the future lives.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # use connring::{Pool, Server, connect_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// let pool = Pool::builder(connector).server("10.0.0.1:6379").build()?;
    /// let acquiring = tokio::spawn(pool.acquire_owned());
    /// acquiring.await??.release();
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire_owned(
        &self,
    ) -> impl Future<Output = Result<PooledConn<C>, AcquireError<C::Error>>> + Send + 'static + use<C> {
        let pool = self.clone();
        async move { pool.acquire().await }
    }

    /// The same as [`acquire`](Pool::acquire), with wishes: a timeout of its own, servers to avoid or to prefer, a new
    /// connection.
    ///
    /// A caller that waits is served in its turn, with a connection that it accepts. One that it does not accept goes
    /// to the next waiter that does: only there is a waiter overtaken. [`try_acquire`](Pool::try_acquire) gives way to
    /// it as to any waiter.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Panics
    ///
    /// As [`acquire`](Pool::acquire).
    ///
    /// # Examples
    ///
    /// See [`AcquireOptions`].
    pub async fn acquire_with(&self, options: AcquireOptions) -> Result<PooledConn<C>, AcquireError<C::Error>> {
        core::acquire_with(&self.shared, options).await.map(PooledConn::from)
    }

    /// Takes a server out of rotation, for `time` or until [`enable`](Pool::enable).
    ///
    /// No caller gets a connection of it and no attempt starts at it, also where no other server serves. A waiter that
    /// was served before still gets its connection. Connections in use stay with their callers, and idle ones stay open
    /// for as long as a server's do; [`drain`](Pool::drain) closes them. Its health goes on beneath: failures and good
    /// returns count. Any number of servers may be disabled. If all are, callers with a bounded wait get
    /// [`Unavailable`](crate::AcquireError::Unavailable), unless one is enabled again within it.
    ///
    /// A later call supersedes an earlier one. [`update`](Pool::update) and [`set_servers`](Pool::set_servers) keep a
    /// server disabled; removing it ends that. `time` is any duration; `None` and [`Duration::MAX`] have no end. The
    /// pool's background task enables the server when the time is over.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use connring::{Pool, Server, connect_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// use connring::{PooledConn, ServerState};
    ///
    /// let pool = Pool::builder(connector).servers(["10.0.0.1:6379", "10.0.0.2:6379"]).build()?;
    /// pool.disable("10.0.0.1:6379", None)?;
    /// assert_eq!(pool.status().servers[0].state, ServerState::Disabled { ends_in: None });
    /// for _ in 0..3 {
    ///     let conn = pool.acquire().await?;
    ///     assert_eq!(PooledConn::info(&conn).server().name(), "10.0.0.2:6379");
    ///     conn.release();
    /// }
    /// pool.enable("10.0.0.1:6379")?;
    /// assert_eq!(pool.status().servers[0].state, ServerState::Up);
    /// # Ok(())
    /// # }
    /// ```
    pub fn disable(&self, name: &str, time: Option<Duration>) -> Result<(), ServerError> {
        core::disable(&self.shared, name, time)
    }

    /// Ends [`disable`](Pool::disable) and [`drain`](Pool::drain): callers use the server again as its health allows.
    /// Does nothing if the server is not disabled.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`].
    pub fn enable(&self, name: &str) -> Result<(), ServerError> {
        core::enable(&self.shared, name)
    }

    /// Takes a server out of rotation and waits until none of its connections is open, at most `timeout`.
    ///
    /// [Disables](Pool::disable) the server without end, closes its idle connections, ends its attempts, and closes its
    /// connections in use when they come back. Requests that run are not disturbed. Once this has returned, no caller
    /// is given a connection of the server before [`enable`](Pool::enable). `timeout` is any duration. The wait also
    /// ends if the server is enabled meanwhile, or removed and registered again.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop. Once polled, the server is disabled, and stays so.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`]. A timeout is no error: the [`DrainReport`]
    /// says how many connections are still open.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with the time driver, if it has to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use connring::{Pool, Server, connect_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// let pool = Pool::builder(connector).server("10.0.0.1:6379").build()?;
    /// pool.acquire().await?.release();
    ///
    /// let report = pool.drain("10.0.0.1:6379", Duration::from_secs(30)).await?;
    /// assert!(report.is_drained());
    /// // The server can be restarted now. Then:
    /// pool.enable("10.0.0.1:6379")?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain(&self, name: &str, timeout: Duration) -> Result<DrainReport, ServerError> {
        core::drain(&self.shared, name, timeout).await
    }

    /// Opens connections at every server that has fewer than
    /// [`min_idle_per_server`](crate::Builder::min_idle_per_server), at least one, and waits until they are open or
    /// their attempts have failed, at most `timeout`. Connections in use count.
    ///
    /// For a start without a burst of connects: call it before the first callers come. The attempts run at all servers
    /// at once, within [`max_concurrent_connects_per_server`](crate::Builder::max_concurrent_connects_per_server) of
    /// each. A server that is down, recovering, disabled or paused is not connected to. What is still under way at the
    /// end goes on. `timeout` is any duration.
    ///
    /// It returns no error: the report names the servers that lack connections, with the last connect error. In a
    /// closed pool there are none.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop: attempts go on for the pool. Nothing happens before the first poll.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with the time driver, if it has to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use connring::{Pool, Server, connect_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// let pool = Pool::builder(connector).servers(["10.0.0.1:6379", "10.0.0.2:6379"]).build()?;
    /// let report = pool.warm_up(Duration::from_secs(5)).await;
    /// assert!(report.is_complete(), "{report:?}");
    /// assert!(pool.try_acquire().is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn warm_up(&self, timeout: Duration) -> WarmUpReport {
        core::warm_up(&self.shared, timeout).await
    }

    /// Applies each set of servers that a stream yields, as [`set_servers`](Pool::set_servers) does.
    ///
    /// A set that is refused changes nothing and is an event (`WARN`). It goes on until the stream ends, the pool is
    /// closed or dropped, or the returned handle is stopped or dropped; then the servers stay as they are. It runs on
    /// the pool's runtime, ends with it, and does not keep the pool open. A panic of the stream ends it.
    ///
    /// Until the first set is applied, callers of a pool without servers wait for it, as for anything else:
    /// [`acquire`](Pool::acquire) and the like, but not [`acquire_now`](Pool::acquire_now) and
    /// [`try_acquire`](Pool::try_acquire). If the first set is empty, or following ends before it, they get
    /// [`NoServers`](AcquireError::NoServers), as always afterwards.
    ///
    /// # Errors
    ///
    /// - [`FollowError::NoRuntime`]: the pool was built outside a tokio runtime, had no async caller yet, and this is
    ///   called outside one, too.
    /// - [`FollowError::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::pin::Pin;
    /// # use std::task::{Context, Poll};
    /// # use connring::{Pool, Server, connect_fn};
    /// # struct Discovery(tokio::sync::mpsc::Receiver<Vec<Server>>);
    /// # impl futures_core::Stream for Discovery {
    /// #     type Item = Vec<Server>;
    /// #     fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Vec<Server>>> {
    /// #         self.0.poll_recv(cx)
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// # let (discovered, receiver) = tokio::sync::mpsc::channel(1);
    /// # let discovery = Discovery(receiver);
    /// // `discovery` is a `Stream<Item = Vec<Server>>`.
    /// let pool = Pool::builder(connector).build()?;
    /// let follow = pool.follow(discovery)?;
    /// # discovered.send(vec![Server::new("10.0.0.1:6379")]).await?;
    /// // Waits for the first set.
    /// pool.acquire().await?.release();
    /// assert_eq!(pool.status().servers.len(), 1);
    /// // The servers stay.
    /// follow.stop();
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow<S>(&self, stream: S) -> Result<Follow, FollowError>
    where
        S: Stream<Item: IntoIterator<Item: Into<Server>>> + Send + 'static,
    {
        core::follow(&self.shared, stream).map(Follow::new)
    }
}
