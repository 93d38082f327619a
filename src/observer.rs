//! What an observer of a pool hears.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::server::Server;
use crate::status::StateKind;
use crate::sync::Arc;

/// Hears what happens in a pool, with durations: for metrics and tests. Each method does nothing by default. Set it
/// with [`Builder::observer`](crate::Builder::observer).
///
/// A method runs on the thread on which something happens, that of a caller or of the runtime, after the pool has acted
/// on it and with no lock of the pool held. So it may call the pool, but must not block. Methods may run at the same
/// time, and what happens at the same time may be heard in any order.
///
/// An acquire or a release of an idle connection is not observed, and so neither is how long a caller uses a
/// connection: that is the hot path. Measure the time of a use in your own code. [`Totals`](crate::Totals) count the
/// uses.
///
/// # Panics
///
/// A panic of a method is caught: the pool goes on, and the panic hook has reported it.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::time::Duration;
///
/// use connring::{Observer, Pool, Server, WaitOutcome, connect_fn};
///
/// #[derive(Clone, Default)]
/// struct Waits(Arc<AtomicU64>);
///
/// impl Observer for Waits {
///     fn waited(&self, took: Duration, outcome: WaitOutcome) {
///         if outcome == WaitOutcome::Served {
///             self.0.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connector = connect_fn(|_: Server| async {
/// #     tokio::time::sleep(Duration::from_millis(2)).await;
/// #     Ok::<_, std::io::Error>(())
/// # });
/// let waits = Waits::default();
/// let pool = Pool::builder(connector).server("10.0.0.1:6379").observer(waits.clone()).build()?;
/// pool.acquire().await?.release();
/// assert!(waits.0.load(Ordering::Relaxed) > 0);
/// # Ok(())
/// # }
/// ```
#[allow(unused_variables, reason = "the defaults do nothing")]
pub trait Observer: Send + Sync + 'static {
    /// A connect attempt succeeded. `took` is the time of the connector's `connect`, and for a probe that of its
    /// `check`.
    fn connected(&self, server: &Server, took: Duration) {}

    /// A connect attempt failed. `error` is a [`Failure`](crate::Failure) of the connector's error type, with the
    /// connector's error as its source. An attempt that the pool gave up is not heard of: its server
    /// was removed, reset, drained or changed, or the pool was closed.
    fn connect_failed(&self, server: &Server, error: &(dyn Error + Send + Sync + 'static), took: Duration) {}

    /// A connection was closed or left the pool. `age` is the time since it was opened, and `uses` its number of
    /// checkouts.
    fn closed(&self, server: &Server, why: CloseReason, age: Duration, uses: u64) {}

    /// A caller left the wait queue, after `took`. Called once for each caller that joined it.
    fn waited(&self, took: Duration, outcome: WaitOutcome) {}

    /// A server changed its state. Called once for each event with a `state`: see the
    /// [table of events](crate#events).
    fn state_changed(&self, server: &Server, change: &StateChange<'_>) {}

    /// A caller found the wait queue full, and got an error.
    fn queue_full(&self) {}
}

/// The same observer, which the program keeps as well.
impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn connected(&self, server: &Server, took: Duration) {
        (**self).connected(server, took);
    }

    fn connect_failed(&self, server: &Server, error: &(dyn Error + Send + Sync + 'static), took: Duration) {
        (**self).connect_failed(server, error, took);
    }

    fn closed(&self, server: &Server, why: CloseReason, age: Duration, uses: u64) {
        (**self).closed(server, why, age, uses);
    }

    fn waited(&self, took: Duration, outcome: WaitOutcome) {
        (**self).waited(took, outcome);
    }

    fn state_changed(&self, server: &Server, change: &StateChange<'_>) {
        (**self).state_changed(server, change);
    }

    fn queue_full(&self) {
        (**self).queue_full();
    }
}

/// Two observers, the first one first.
impl<A: Observer, B: Observer> Observer for (A, B) {
    fn connected(&self, server: &Server, took: Duration) {
        self.0.connected(server, took);
        self.1.connected(server, took);
    }

    fn connect_failed(&self, server: &Server, error: &(dyn Error + Send + Sync + 'static), took: Duration) {
        self.0.connect_failed(server, error, took);
        self.1.connect_failed(server, error, took);
    }

    fn closed(&self, server: &Server, why: CloseReason, age: Duration, uses: u64) {
        self.0.closed(server, why, age, uses);
        self.1.closed(server, why, age, uses);
    }

    fn waited(&self, took: Duration, outcome: WaitOutcome) {
        self.0.waited(took, outcome);
        self.1.waited(took, outcome);
    }

    fn state_changed(&self, server: &Server, change: &StateChange<'_>) {
        self.0.state_changed(server, change);
        self.1.state_changed(server, change);
    }

    fn queue_full(&self) {
        self.0.queue_full();
        self.1.queue_full();
    }
}

/// How a caller left the wait queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WaitOutcome {
    /// With a connection.
    Served,
    /// Its timeout came first.
    TimedOut,
    /// Nothing was left to wait for: the pool was closed, its last server was removed, or no server could serve it.
    Ended,
    /// The future of the acquire was dropped.
    Cancelled,
}

impl WaitOutcome {
    /// The name in metrics: `served`, `timed_out`, `ended` or `cancelled`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::TimedOut => "timed_out",
            Self::Ended => "ended",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A change of a server's state.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct StateChange<'a> {
    /// The state of the change before; [`StateKind::Gone`] before the first. A server whose probe fails is down as
    /// before without another change, so the next probe goes from [`StateKind::Probing`] to itself.
    pub from: StateKind,
    /// The new state.
    pub to: StateKind,
    /// What took it down or ejected it: a [`Failure`](crate::Failure) of the connector's error type.
    pub cause: Option<&'a (dyn Error + Send + Sync + 'static)>,
    /// Until it may be probed, if it is down or ejected; until it is enabled, if it was disabled for a time.
    pub retry_after: Option<Duration>,
}

impl fmt::Debug for StateChange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, cause, retry_after } = self;
        write!(f, "{} to {}", from.name(), to.name())?;
        if let Some(cause) = cause {
            write!(f, ", cause {cause}")?;
        }
        retry_after.map_or(Ok(()), |time| write!(f, ", retry after {time:?}"))
    }
}
