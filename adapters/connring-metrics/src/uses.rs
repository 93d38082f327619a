//! For how long callers have connections, for programs that ask for it.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use connring::metrics::{METRICS, Metric};
use connring::{Connector, PooledConn};
use tokio::time::Instant;

use crate::durations::Record;

const METRIC: &str = "connring.use_time";

/// Records in a histogram for how long callers have connections: `connring.use_time` or
/// `db.client.connection.use_time`. From `facade::use_times` or `otel::use_times`. Cheap to clone.
///
/// The pool does not time uses: reading the clock twice would cost as much as the rest of an acquire and a release. So
/// a caller that wants it wraps its connections.
///
/// # Examples
///
/// ```
/// use connring::{Pool, Server, connect_fn};
/// use connring_metrics::facade;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(String::new()) });
/// let pool = Pool::builder(connector).name("sessions").server("10.0.0.1:6379").build()?;
/// let use_times = facade::use_times("sessions");
///
/// let mut conn = use_times.start(pool.acquire().await?);
/// conn.push_str("GET a"); // as with the connection itself
/// conn.end().release(); // or `discard`, `fail` …
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct UseTimes(Arc<dyn Record>);

impl UseTimes {
    pub(crate) fn new<R: Record>(make: impl FnOnce(&'static Metric) -> R) -> Self {
        let metric = METRICS.iter().find(|metric| metric.name == METRIC);
        Self(Arc::new(make(metric.expect("the core has a metric of uses"))))
    }

    /// A use begins: the connection was just acquired.
    #[expect(clippy::disallowed_methods, reason = "not the pool's clock, but tokio's, which tests can pause")]
    pub fn start<C: Connector>(&self, conn: PooledConn<C>) -> Timed<C> {
        Timed { conn: Some(conn), started: Instant::now(), use_times: self.clone() }
    }
}

impl fmt::Debug for UseTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UseTimes").finish_non_exhaustive()
    }
}

/// A connection whose use is timed: [`UseTimes::start`]. It dereferences to the [`PooledConn`].
///
/// Its drop ends the use, too, and drops the connection.
pub struct Timed<C: Connector> {
    conn: Option<PooledConn<C>>,
    started: Instant,
    use_times: UseTimes,
}

impl<C: Connector> Timed<C> {
    /// Ends the use, and returns the connection, to be released or closed at once.
    #[must_use = "dropping the connection closes it"]
    pub fn end(mut self) -> PooledConn<C> {
        self.record();
        let Some(conn) = self.conn.take() else { unreachable!("{GONE}") };
        conn
    }

    fn record(&self) {
        if let Some(conn) = &self.conn {
            self.use_times.0.record(self.started.elapsed(), Some(PooledConn::info(conn).server()), None);
        }
    }
}

/// `end` takes the connection out and consumes the handle.
const GONE: &str = "the connection has left its handle";

impl<C: Connector> Drop for Timed<C> {
    fn drop(&mut self) {
        self.record();
    }
}

impl<C: Connector> Deref for Timed<C> {
    type Target = PooledConn<C>;

    fn deref(&self) -> &PooledConn<C> {
        let Some(conn) = &self.conn else { unreachable!("{GONE}") };
        conn
    }
}

impl<C: Connector> DerefMut for Timed<C> {
    fn deref_mut(&mut self) -> &mut PooledConn<C> {
        let Some(conn) = &mut self.conn else { unreachable!("{GONE}") };
        conn
    }
}

impl<C: Connector> fmt::Debug for Timed<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timed").field("conn", &self.conn).finish_non_exhaustive()
    }
}
