//! The handle that users clone.

mod calls;
mod weak;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::builder::Builder;
use crate::conn::{Acquire, PooledConn};
use crate::connector::Connector;
use crate::core::{self, Shared};
use crate::error::{AcquireError, ServerError, TryAcquireError};
use crate::load_balancing::LoadBalancing;
use crate::reports::CloseTimeout;
use crate::server::Server;
use crate::status::PoolStatus;
use crate::sync::Arc;

pub use self::weak::WeakPool;

/// A pool of connections to many servers. Clones are the same pool; dropping the last one closes it.
///
/// Made by [`Pool::builder`]. No method is blocked by another caller's connect attempt, and none runs the connector's
/// code under a lock.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::{Pool, TcpConnector};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// # use tokio::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let listener = TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?;
/// # tokio::spawn(async move {
/// #     let (mut stream, _) = listener.accept().await.unwrap();
/// #     let mut request = [0; 6];
/// #     while stream.read_exact(&mut request).await.is_ok() {
/// #         stream.write_all(b"+PONG\r\n").await.unwrap();
/// #     }
/// # });
/// // `address` is that of a server.
/// let builder = Pool::builder(TcpConnector::new()).max_conns_per_server(1);
/// let pool = builder.server(address).build()?;
///
/// for _ in 0..2 {
///     let mut conn = pool.acquire().await?;
///     conn.write_all(b"PING\r\n").await?;
///     let mut answer = [0; 7];
///     conn.read_exact(&mut answer).await?;
///     assert_eq!(&answer, b"+PONG\r\n");
///     conn.release();
/// }
///
/// let status = pool.status();
/// assert_eq!((status.servers[0].open, status.servers[0].idle), (1, 1));
/// pool.close_timeout(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
pub struct Pool<C: Connector> {
    pub(crate) shared: Arc<Shared<C>>,
    /// Dropped with the last clone.
    last: Arc<Last<C>>,
}

/// Closes the pool when it is dropped.
struct Last<C: Connector> {
    shared: Arc<Shared<C>>,
}

impl<C: Connector> Drop for Last<C> {
    fn drop(&mut self) {
        core::close(&self.shared);
    }
}

impl<C: Connector> Pool<C> {
    /// Returns a builder of a pool that connects by `connector`.
    pub fn builder(connector: C) -> Builder<C> {
        Builder::new(connector)
    }

    pub(crate) fn new(shared: Arc<Shared<C>>) -> Self {
        Self::from_last(Arc::new(Last { shared }))
    }

    fn from_last(last: Arc<Last<C>>) -> Self {
        Self { shared: Arc::clone(&last.shared), last }
    }

    pub(crate) fn start_background(&self) {
        core::ensure_background(&self.shared);
    }

    /// Returns an idle connection, or an error at once. Needs no runtime.
    ///
    /// Inside a tokio runtime, a server that was found empty is connected to in the background, so that a later call
    /// finds a connection; outside a runtime it is not.
    ///
    /// # Errors
    ///
    /// - [`TryAcquireError::NoServers`], [`TryAcquireError::Closed`].
    /// - [`TryAcquireError::Unavailable`]: no server that may serve has both an idle connection and a token of its rate
    ///   limit, or waiters come first. It says how many servers could not serve for which reason, and when one may
    ///   serve again.
    ///
    /// # Panics
    ///
    /// If the connector's `is_reusable` panics, or the drop of an idle connection that is closed because it may not be
    /// reused.
    ///
    /// # Examples
    ///
    /// ```
    /// # use connring::{Pool, Server, TryAcquireError, connect_fn};
    /// # let connector = connect_fn(|server: Server| async move { std::io::Result::Ok(server) });
    /// let pool = Pool::builder(connector).server("10.0.0.1:6379").build()?;
    ///
    /// let error = pool.try_acquire().unwrap_err();
    /// assert_eq!(error.to_string(), "all servers are without an idle connection");
    /// # Ok::<_, connring::BuildError>(())
    /// ```
    pub fn try_acquire(&self) -> Result<PooledConn<C>, TryAcquireError> {
        core::try_acquire(&self.shared).map(PooledConn::from)
    }

    /// Returns an idle connection, or waits for a connect attempt, but never for a rate limit, a backoff or a full
    /// server.
    ///
    /// It waits in the wait queue for as long as an attempt runs, or can start, that may serve it. `wait_timeout` does
    /// not bound this; `connect_timeout` bounds each attempt.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: attempts go on for the pool. Nothing happens before the first poll.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::NoServers`], [`AcquireError::Closed`].
    /// - [`AcquireError::Unavailable`]: no server may be connected to, or all attempts failed or served earlier
    ///   waiters.
    /// - [`AcquireError::QueueFull`]: at once, if the builder's `max_waiters` callers wait.
    ///
    /// # Panics
    ///
    /// As [`try_acquire`](Pool::try_acquire). Outside a tokio runtime with the time driver, if it has to connect.
    pub fn acquire_now(&self) -> impl Future<Output = Result<PooledConn<C>, AcquireError<C::Error>>> + Send {
        Acquire::Look { shared: &self.shared, wait: |shared| core::wait(shared, None, false) }
    }

    /// Returns an idle connection, or waits for one, at most the builder's `wait_timeout`.
    ///
    /// Waiters are served in order. While callers wait, the pool connects to servers for them.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: a connection that it was served with goes to the next waiter, and attempts go on for
    /// the pool. Nothing happens before the first poll.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::NoServers`]: at once, or when the last server is removed. While a [followed](Pool::follow)
    ///   stream has yet to deliver its first set, the caller waits for it instead.
    /// - [`AcquireError::Unavailable`]: at once, where waiting is pointless: no server serves, is connected to or has
    ///   an open connection, and none is tried before the end of the wait; also later, once all servers are disabled.
    ///   With the builder's `fail_fast_when_down`: whenever no server serves.
    /// - [`AcquireError::Timeout`]: it says how long the caller waited, for what, and the last failure.
    /// - [`AcquireError::QueueFull`]: at once, if the builder's `max_waiters` callers wait.
    /// - [`AcquireError::Closed`]: at once, or when the pool is closed.
    ///
    /// # Panics
    ///
    /// As [`try_acquire`](Pool::try_acquire). Outside a tokio runtime with the time driver, if it has to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::io;
    /// use std::time::Duration;
    ///
    /// use connring::{AcquireError, Clock, Pool};
    /// # use connring::{Server, connect_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), connring::BuildError> {
    /// # let refuses = connect_fn(|_: Server| async { Err::<(), _>(io::Error::other("refused")) });
    /// // `refuses` is a connector whose attempts all fail.
    /// let pool = Pool::builder(refuses)
    ///     .clock(Clock::tokio())
    ///     .wait_timeout(Duration::from_secs(2))
    ///     .backoff(Duration::from_secs(10), Duration::from_secs(10))
    ///     .server("10.0.0.1:6379")
    ///     .build()?;
    ///
    /// let error = pool.acquire().await.unwrap_err();
    /// assert!(error.to_string().starts_with("timed out after 2"));
    /// assert!(error.to_string().ends_with(": all servers are down"));
    /// assert!(error.retry_after() > Some(Duration::from_secs(1)));
    /// let AcquireError::Timeout { waited, reason } = error else { panic!("it waited") };
    /// assert!(waited >= Duration::from_secs(2));
    /// assert_eq!(&*reason.servers()[0].name, "10.0.0.1:6379");
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(&self) -> impl Future<Output = Result<PooledConn<C>, AcquireError<C::Error>>> + Send {
        Acquire::Look { shared: &self.shared, wait: |shared| core::wait(shared, shared.settings.wait_timeout, true) }
    }

    /// The same as [`acquire`](Pool::acquire), but waits at most `timeout`.
    ///
    /// The time runs from when the caller joins the wait queue. Any value: with zero it looks once, and attempts start
    /// all the same; [`Duration::MAX`] is no bound.
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
    pub fn acquire_timeout(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<PooledConn<C>, AcquireError<C::Error>>> + Send {
        Acquire::Look { shared: &self.shared, wait: move |shared| core::wait(shared, Some(timeout), true) }
    }

    /// Adds a server.
    ///
    /// A server of the same name that was removed before is remembered until its connections are gone, its token bucket
    /// is full, and its pause and ejection are over. Until then its permits, tokens, health and results go on.
    /// Connections of the earlier registration close when they are released.
    ///
    /// # Errors
    ///
    /// A [`ServerError`] that names the value: a name or address that is empty or has blanks around it, a name that is
    /// registered already, a limit out of its range, or a closed pool.
    pub fn register(&self, server: impl Into<Server>) -> Result<(), ServerError> {
        core::register(&self.shared, &server.into())
    }

    /// Removes the server of that name. Its idle connections are closed and its attempts ended at once; connections in
    /// use close when they are released. Removing the last server ends the wait of all callers with `NoServers`.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`].
    pub fn deregister(&self, name: &str) -> Result<(), ServerError> {
        core::deregister(&self.shared, name)
    }

    /// Replaces the servers of the pool. Servers that stay, by name, keep their state and get the settings given here.
    /// Their connections stay, unless an address or a tag changed, as for [`update`](Pool::update). The others are
    /// registered or deregistered. The order of the list does not matter. After an empty one callers get
    /// [`AcquireError::NoServers`].
    ///
    /// # Errors
    ///
    /// As [`register`](Pool::register). Nothing is changed then.
    pub fn set_servers<S: Into<Server>>(&self, servers: impl IntoIterator<Item = S>) -> Result<(), ServerError> {
        let servers: Vec<_> = servers.into_iter().map(Into::into).collect();
        core::set_servers(&self.shared, &servers)
    }

    /// Replaces all settings of a registered server, known by its name. Its connections stay, unless its address or a
    /// tag changed: then they close, idle ones now, others when they are released, and what callers report of them no
    /// longer counts for or against the server. A pause or an ejection goes on. A changed rate limit keeps the tokens
    /// that are left; one that is added begins with a full burst.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`]; otherwise as [`register`](Pool::register). Nothing is changed then.
    pub fn update(&self, server: impl Into<Server>) -> Result<(), ServerError> {
        core::update(&self.shared, &server.into())
    }

    /// Closes every connection that exists: idle ones now, others when they are released. Attempts that run end, and
    /// are made again for callers that wait. For credentials that changed, or a network that did.
    ///
    /// Servers keep their state, limits and totals. Failures reported before count no more. Of connections from before
    /// a failure does not count either, but a success does.
    pub fn reset(&self) {
        core::reset(&self.shared);
    }

    /// The same as [`reset`](Pool::reset), of one server.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`].
    pub fn reset_server(&self, name: &str) -> Result<(), ServerError> {
        core::reset_server(&self.shared, name)
    }

    /// Changes how the pool chooses servers, from the next checkout on.
    pub fn set_load_balancing(&self, policy: LoadBalancing) {
        core::set_load_balancing(&self.shared, policy);
    }

    /// The registered servers with their settings, in the order of the pool's [`status`](Pool::status).
    pub fn servers(&self) -> Vec<Server> {
        core::servers(&self.shared)
    }

    /// Returns a snapshot of the pool. Waits for no caller and no connect attempt.
    pub fn status(&self) -> PoolStatus {
        core::status(&self.shared)
    }

    /// Returns a handle that does not keep the pool open.
    ///
    /// # Examples
    ///
    /// ```
    /// # use connring::{Pool, Server, connect_fn};
    /// # let connector = connect_fn(|server: Server| async move { std::io::Result::Ok(server) });
    /// let pool = Pool::builder(connector).server("10.0.0.1:6379").build()?;
    /// let weak = pool.downgrade();
    /// assert_eq!(weak.upgrade().map(|pool| pool.status().servers.len()), Some(1));
    /// drop(pool);
    /// assert!(weak.upgrade().is_none());
    /// # Ok::<_, connring::BuildError>(())
    /// ```
    pub fn downgrade(&self) -> WeakPool<C> {
        WeakPool::new(Arc::downgrade(&self.last))
    }

    /// Closes the pool and waits until every connection in use was returned and every goodbye is over, which may take
    /// the builder's `goodbye_timeout`.
    ///
    /// Idle connections are closed and attempts ended at once. Waiters get [`AcquireError::Closed`], and so do later
    /// callers: to finish running requests, stop accepting new ones and close after the last. Closing again only waits.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop. Once polled, the pool is closed.
    pub async fn close(&self) {
        core::close(&self.shared);
        self.shared.notifier.wait_until(|| self.shared.servers.draining().is_empty()).await;
    }

    /// The same as [`close`](Pool::close), but waits at most `timeout`: any duration.
    ///
    /// # Cancel safety
    ///
    /// As [`close`](Pool::close).
    ///
    /// # Errors
    ///
    /// [`CloseTimeout`], which says how many connections of which servers are still open: in use, or saying goodbye.
    /// They close when they are released.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with the time driver, if it has to wait.
    pub async fn close_timeout(&self, timeout: Duration) -> Result<(), CloseTimeout> {
        let clock = &self.shared.clock;
        let started = clock.time();
        clock.until(started.after(timeout), self.close()).await.ok_or_else(|| {
            let waited = clock.time().since(started);
            let servers = core::not_returned(&self.shared);
            CloseTimeout { waited, open: servers.iter().map(|(_, open)| open).sum(), servers }
        })
    }
}

impl<C: Connector> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), last: Arc::clone(&self.last) }
    }
}

impl<C: Connector> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}
