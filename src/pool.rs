//! The handle that users clone.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::builder::Builder;
use crate::conn::PooledConn;
use crate::connect::Connector;
use crate::error::{AcquireError, CloseTimeout, ServerError, TryAcquireError};
use crate::raw::HealthState;
use crate::server::{LiveServer, Ring, Server};
use crate::settings::nanos;
use crate::status::{PoolStatus, ServerState, ServerStatus};
use crate::sync::Arc;

/// A pool of connections to many servers. Clones are the same pool; the last one that is dropped closes it.
///
/// Made by [`Pool::builder`]. See the [crate's page](crate) for an example.
pub struct Pool<C: Connector> {
    ring: Arc<Ring<C>>,
    /// Dropped with the last clone.
    last: Arc<Last<C>>,
}

/// Closes the pool when it is dropped.
struct Last<C: Connector> {
    ring: Arc<Ring<C>>,
}

impl<C: Connector> Drop for Last<C> {
    fn drop(&mut self) {
        self.ring.shut();
    }
}

impl<C: Connector> Pool<C> {
    /// Starts to build a pool that dials with `connector`.
    pub fn builder(connector: C) -> Builder<C> {
        Builder::new(connector)
    }

    pub(crate) fn new(ring: Arc<Ring<C>>) -> Self {
        let last = Arc::new(Last { ring: Arc::clone(&ring) });
        Self { ring, last }
    }

    /// Takes an idle connection, or none. Never waits; needs no runtime.
    ///
    /// Inside a tokio runtime, a server that was found empty is dialled in the background, so that a later call finds a
    /// connection; outside one it is not.
    ///
    /// # Errors
    ///
    /// - [`TryAcquireError::NoServers`], [`TryAcquireError::Closed`].
    /// - [`TryAcquireError::Unavailable`]: no connection is idle at a server that may serve, or callers wait in
    ///   the line and come first. It says how many, and when a server may serve again.
    ///
    /// # Panics
    ///
    /// If the connector's `is_reusable` panics.
    pub fn try_acquire(&self) -> Result<PooledConn<C>, TryAcquireError> {
        self.ring.try_acquire().map(PooledConn::new)
    }

    /// Takes an idle connection, else dials for one, but waits for no limit, no backoff and no full server.
    ///
    /// The dials are reserved for this caller. A further server is dialled when the one before failed, or took longer than
    /// the builder's `hedge_delay`.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any await point. Its dials go on, for the pool.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::NoServers`], [`AcquireError::Closed`].
    /// - [`AcquireError::Unavailable`]: no server may be dialled, or all that were dialled failed, or callers wait in
    ///   the line and come first.
    ///
    /// # Panics
    ///
    /// If the connector's `is_reusable` panics. Outside a tokio runtime with the time driver, if it has to dial.
    pub async fn acquire_now(&self) -> Result<PooledConn<C>, AcquireError<C::Error>> {
        self.ring.acquire_now().await.map(PooledConn::new)
    }

    /// Takes an idle connection, else waits in the line for one, at most the builder's `wait_timeout`.
    ///
    /// Callers are served in the order in which they came. While they wait, servers are dialled for them.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any await point: a connection that was granted already goes to the next in the line.
    ///
    /// # Errors
    ///
    /// - [`AcquireError::NoServers`]: at once, or when the last server is removed.
    /// - [`AcquireError::Timeout`]: it says how long the caller waited, for what, and what went wrong last.
    /// - [`AcquireError::Overloaded`]: at once, if the builder's `max_waiting` callers wait.
    /// - [`AcquireError::Closed`]: at once, or when the pool is closed.
    ///
    /// # Panics
    ///
    /// If the connector's `is_reusable` panics. Outside a tokio runtime with the time driver, if it has to wait.
    pub async fn acquire(&self) -> Result<PooledConn<C>, AcquireError<C::Error>> {
        self.ring.acquire(self.ring.settings.wait_timeout).await.map(PooledConn::new)
    }

    /// The same as [`acquire`](Pool::acquire), but waits at most `timeout`.
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
    pub async fn acquire_timeout(&self, timeout: Duration) -> Result<PooledConn<C>, AcquireError<C::Error>> {
        self.ring.acquire(Some(timeout)).await.map(PooledConn::new)
    }

    /// Adds a server. If connections of an earlier registration of the same address are still out, it is the same
    /// server: its permits, tokens and health go on.
    ///
    /// # Errors
    ///
    /// A [`ServerError`] that names the value: an empty or duplicate address, a limit out of its range, or a closed pool.
    pub fn register(&self, server: impl Into<Server>) -> Result<(), ServerError> {
        self.ring.register(&server.into())
    }

    /// Removes a server. Its idle connections are closed at once and its dials ended; those that are out close when
    /// they come back. Removing the last server ends the wait of all callers with `NoServers`.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`].
    pub fn deregister(&self, address: &str) -> Result<(), ServerError> {
        self.ring.deregister(address)
    }

    /// Makes these the servers of the pool. Those that stay, by address, keep their connections and their state, and get the limits given
    /// here; the others are registered or deregistered.
    ///
    /// # Errors
    ///
    /// As [`register`](Pool::register). Then nothing was changed.
    pub fn set_servers<S: Into<Server>>(&self, servers: impl IntoIterator<Item = S>) -> Result<(), ServerError> {
        let servers: Vec<_> = servers.into_iter().map(Into::into).collect();
        self.ring.set_servers(&servers)
    }

    /// What the pool is doing, without a lock.
    pub fn status(&self) -> PoolStatus {
        let now_ns = self.ring.clock.now_ns();
        let list = self.ring.list.load();
        let listed = list.servers.iter().map(|server| status_of(server, now_ns));
        let draining =
            list.draining().map(|server| ServerStatus { state: ServerState::Draining, ..status_of(&server, now_ns) });
        PoolStatus { servers: listed.chain(draining).collect(), waiting: self.ring.line.waiting(), closed: list.closed }
    }

    /// Closes the pool and waits until every connection that is out came back.
    ///
    /// Idle connections are closed at once, dials are ended, and callers that wait get [`AcquireError::Closed`].
    /// Closing again only waits.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop. Once polled, the pool is closed.
    pub async fn close(&self) {
        self.ring.shut();
        loop {
            let mut returned = pin!(self.ring.returned.notified());
            // Before the look: what comes back after it is heard.
            returned.as_mut().enable();
            if self.ring.still_out() == 0 {
                return;
            }
            returned.await;
        }
    }

    /// The same as [`close`](Pool::close), but waits at most `timeout`.
    ///
    /// # Cancel safety
    ///
    /// As [`close`](Pool::close).
    ///
    /// # Errors
    ///
    /// [`CloseTimeout`], which says how many connections are still out. They close when they come back.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with the time driver, if it has to wait.
    pub async fn close_timeout(&self, timeout: Duration) -> Result<(), CloseTimeout> {
        let clock = &self.ring.clock;
        let started_ns = clock.now_ns();
        let mut close = pin!(self.close());
        let mut timer = pin!(clock.sleep_until_ns(started_ns.saturating_add(nanos(timeout))));
        poll_fn(|cx| {
            if close.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            timer.as_mut().poll(cx).map(|()| {
                let waited = Duration::from_nanos(clock.now_ns().saturating_sub(started_ns));
                Err(CloseTimeout { waited, open: self.ring.still_out() })
            })
        })
        .await
    }
}

fn status_of<C: Connector>(server: &LiveServer<C>, now_ns: u64) -> ServerStatus {
    let health = server.health.snapshot();
    let failures = health.failures();
    let state = match health.state() {
        HealthState::Up => ServerState::Up,
        HealthState::Trial => ServerState::Trial { failures },
        HealthState::Down => {
            let retry_after = Duration::from_nanos(health.retry_at().saturating_sub(now_ns));
            ServerState::Down { failures, retry_after }
        }
        HealthState::Probing => ServerState::Probing { failures },
    };
    let (open, idle, dialing) = (server.permits.open(), server.idle.len(), server.dialing());
    ServerStatus {
        address: Arc::clone(&server.address),
        state,
        open,
        max_conns: server.permits.max(),
        idle,
        dialing,
        in_use: open.saturating_sub(idle as u32).saturating_sub(dialing),
        max_rps: server.bucket().map(|bucket| bucket.rate().rps()),
    }
}

impl<C: Connector> Clone for Pool<C> {
    fn clone(&self) -> Self {
        Self { ring: Arc::clone(&self.ring), last: Arc::clone(&self.last) }
    }
}

impl<C: Connector> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.status()).finish_non_exhaustive()
    }
}
