//! Facts about a connection: its server, age, idle time and use count.

use std::fmt;
use std::time::Duration;

use crate::raw::{TICK, Time};
use crate::server::Server;
use crate::sync::Arc;

/// The server, age, idle time and use count of a connection, as of its checkout.
///
/// From [`PooledConn::info`](crate::PooledConn::info), and passed to
/// [`Connector::is_reusable`](crate::Connector::is_reusable), where the checkout is the one about to happen. A clone
/// is a snapshot: it does not change when the connection is returned.
///
/// Times are coarse: in steps of up to 100 ms while the builder's `maintenance` is on.
///
/// # Examples
///
/// ```
/// # use connring::{Pool, PooledConn, Server, connect_fn};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connector = connect_fn(|_: Server| async { Ok::<_, std::io::Error>(()) });
/// let pool = Pool::builder(connector).server("10.0.0.1:6379").build()?;
/// pool.acquire().await?.release();
///
/// let conn = pool.acquire().await?;
/// let info = PooledConn::info(&conn);
/// assert_eq!(info.server().address(), "10.0.0.1:6379");
/// assert_eq!(info.uses(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnInfo {
    server: Arc<Server>,
    opened_at: Time,
    idle_since: Time,
    checked_out_at: Time,
    uses: u64,
}

impl ConnInfo {
    /// A connection that was opened at that time, and goes straight to a caller or is idle from then on.
    pub(crate) fn new(server: Arc<Server>, opened_at: Time) -> Self {
        Self { server, opened_at, idle_since: opened_at, checked_out_at: opened_at, uses: 0 }
    }

    /// A connection with these values.
    #[cfg(any(test, feature = "test-util"))]
    pub(crate) fn with(server: Server, age: Duration, idle: Duration, uses: u64) -> Self {
        let longest = age.max(idle);
        let [opened_at, idle_since, checked_out_at] =
            [age, idle, Duration::ZERO].map(|before| Time::ZERO.after(longest - before));
        Self { server: Arc::new(server), opened_at, idle_since, checked_out_at, uses }
    }

    /// Sets the time of the checkout.
    #[inline(always)]
    pub(crate) fn check_out(&mut self, now: Time) {
        self.checked_out_at = now;
    }

    /// Counts the use that ends, and sets the time since when the connection is idle.
    #[inline(always)]
    pub(crate) fn check_in(&mut self, now: Time) {
        self.idle_since = now;
        // One a nanosecond would take 584 years to wrap.
        self.uses += 1;
    }

    /// Sets the time since when the connection is idle.
    pub(crate) fn rest_from(&mut self, now: Time) {
        self.idle_since = now;
    }

    /// When the connection was opened.
    pub(crate) fn opened_at(&self) -> Time {
        self.opened_at
    }

    /// Since when the connection is idle.
    #[inline(always)]
    pub(crate) fn idle_since(&self) -> Time {
        self.idle_since
    }

    /// When it was checked out last.
    pub(crate) fn checked_out_at(&self) -> Time {
        self.checked_out_at
    }

    /// The server, with the settings that it had when the connection was opened.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How old the connection was at its checkout.
    pub fn age(&self) -> Duration {
        self.checked_out_at.since(self.opened_at)
    }

    /// How long the connection was idle before its checkout. Zero for a new connection that went straight to its
    /// caller.
    pub fn idle(&self) -> Duration {
        self.checked_out_at.since(self.idle_since)
    }

    /// How many times the connection was used before: the number of its earlier checkouts, this one not included. 0 at
    /// the first checkout.
    pub fn uses(&self) -> u64 {
        self.uses
    }

    /// Whether the connection went straight from its connect to this caller: it was not used before, and was idle for
    /// less than a tick of 100 ms.
    ///
    /// If it breaks before its first answer, its server is to blame: call [`fail`](crate::PooledConn::fail). Any other
    /// may have been closed by its server while it was idle: call [`broken`](crate::PooledConn::broken).
    pub fn is_new(&self) -> bool {
        self.uses == 0 && self.idle() < TICK
    }
}

/// Makes a [`ConnInfo`] with these values, for tests of a connector's `is_reusable`.
#[cfg(feature = "test-util")]
pub fn conn_info(server: Server, age: Duration, idle: Duration, uses: u64) -> ConnInfo {
    ConnInfo::with(server, age, idle, uses)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_checkout() {
        let at = Time::from_nanos;
        let mut info = ConnInfo::new(Arc::new(Server::new("a")), at(5));
        assert_eq!((info.age(), info.idle(), info.uses()), (Duration::ZERO, Duration::ZERO, 0));
        info.check_out(at(7));
        assert_eq!((info.age(), info.idle(), info.uses()), (Duration::from_nanos(2), Duration::from_nanos(2), 0));
        info.check_in(at(20));
        info.check_out(at(30));
        assert_eq!((info.age(), info.idle(), info.uses()), (Duration::from_nanos(25), Duration::from_nanos(10), 1));
        let same = ConnInfo::with(Server::new("a"), info.age(), info.idle(), info.uses());
        assert_eq!(format!("{same:?}"), format!("{info:?}"));
    }

    #[test]
    fn is_new_without_a_use_and_a_rest() {
        let is_new = |idle, uses| ConnInfo::with(Server::new("a"), 2 * TICK, idle, uses).is_new();
        assert!(is_new(Duration::ZERO, 0) && is_new(TICK - Duration::from_nanos(1), 0));
        assert!(!is_new(TICK, 0) && !is_new(Duration::ZERO, 1));
    }
}
