//! What a pool knows of a connection.

use std::fmt;
use std::time::Duration;

use crate::clock::between;
#[cfg(any(test, feature = "test-util"))]
use crate::clock::nanos;
use crate::server::Server;
use crate::sync::Arc;

/// What the pool knows of a connection, as of its last checkout. From
/// [`PooledConn::info`](crate::PooledConn::info) and [`Connector::is_reusable`](crate::Connector::is_reusable).
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnInfo {
    server: Arc<Server>,
    /// Times are in nanoseconds on the pool's clock.
    pub(crate) opened_at: u64,
    pub(crate) idle_since: u64,
    checked_out_at: u64,
    uses: u64,
}

impl ConnInfo {
    /// A connection that was opened at that time.
    pub(crate) fn new(server: Arc<Server>, opened_at: u64) -> Self {
        Self { server, opened_at, idle_since: opened_at, checked_out_at: opened_at, uses: 0 }
    }

    /// A connection with these values, for tests of connectors.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn with(server: Server, age: Duration, idle: Duration, uses: u64) -> Self {
        let checked_out_at = nanos(age.max(idle));
        let before = |duration| checked_out_at.saturating_sub(nanos(duration));
        Self { server: Arc::new(server), opened_at: before(age), idle_since: before(idle), checked_out_at, uses }
    }

    /// The connection is checked out.
    #[inline(always)]
    pub(crate) fn check_out(&mut self, now_ns: u64) {
        self.checked_out_at = now_ns;
        self.uses += 1;
    }

    /// The server, as it was registered when the connection was opened.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How old the connection was at its checkout. Coarse: in steps of up to 100 ms while maintenance is on.
    pub fn age(&self) -> Duration {
        between(self.opened_at, self.checked_out_at)
    }

    /// How long the connection was idle before its checkout. Coarse, as [`age`](Self::age).
    pub fn idle(&self) -> Duration {
        between(self.idle_since, self.checked_out_at)
    }

    /// How many times the connection was checked out, this time included.
    pub fn uses(&self) -> u64 {
        self.uses
    }
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnInfo")
            .field("server", &self.server)
            .field("age", &self.age())
            .field("idle", &self.idle())
            .field("uses", &self.uses)
            .finish()
    }
}
