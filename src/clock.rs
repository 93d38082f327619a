//! The clock seam: one place to read the time and to wait for it.
//!
//! Time is a count of nanoseconds since the clock was made, in 64 bits: 584 years. A wait never ends before
//! [`Clock::now`] has reached its deadline, also where the timer and the reading come from different sources.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, pending};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::raw::Time;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// The last time of a manual clock.
const LAST: Time = Time::from_nanos(Time::NEVER.as_nanos() - 1);

/// The clock of a pool: reads the time and waits for it.
///
/// Both belong together: a pool that read one clock and slept by another would wake too early and go to sleep again for
/// ever, as happens with a hardware clock under tokio's paused time. Clones are the same clock.
///
/// | | [`now`](Clock::now) | [`sleep_until`](Clock::sleep_until) | for |
/// |---|---|---|---|
/// | [`system`](Clock::system) | quanta, a few nanoseconds | tokio's timer, steps of 1 ms | production |
/// | [`tokio`](Clock::tokio) | tokio's `Instant` | tokio's timer, steps of 1 ms | tests on paused tokio time |
/// | [`manual`](Clock::manual) | moves by `advance` alone | ends when `advance` reaches it | tests |
///
/// A pool's own tasks run when the runtime polls them, so a test awaits something after each
/// [`advance`](Clock::advance) before it looks. On paused tokio time they run before the test goes on.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::Clock;
///
/// let clock = Clock::manual();
/// assert_eq!(clock.now(), Duration::ZERO);
/// clock.advance(Duration::from_secs(2));
/// assert_eq!(clock.now(), Duration::from_secs(2));
/// ```
#[derive(Clone)]
pub struct Clock {
    source: Source,
}

#[derive(Clone)]
enum Source {
    System { quanta: quanta::Clock, origin: u64 },
    Test(TestTime),
}

#[derive(Clone)]
enum TestTime {
    Tokio { origin: Instant },
    Manual(Arc<ManualTime>),
}

impl TestTime {
    /// Out of line of the hot path.
    #[cold]
    fn time(&self) -> Time {
        match self {
            Self::Tokio { origin } => Time::ZERO.after(tokio_now().saturating_duration_since(*origin)).min(LAST),
            Self::Manual(manual) => manual.time(),
        }
    }
}

impl Clock {
    /// The clock for production. It reads quanta, without a system call where the processor has a suitable counter, and
    /// waits by tokio's timer. The first one in a process takes some milliseconds to calibrate.
    pub fn system() -> Self {
        let quanta = quanta::Clock::new();
        let origin = quanta.raw();
        Self { source: Source::System { quanta, origin } }
    }

    /// The clock of the current tokio runtime, which follows `tokio::time::pause` and `advance`.
    ///
    /// Make it and use it inside that runtime. Elsewhere it reads the real time, which a paused runtime does not
    /// follow.
    pub fn tokio() -> Self {
        Self { source: Source::Test(TestTime::Tokio { origin: tokio_now() }) }
    }

    /// A clock that begins at zero and moves only by [`advance`](Clock::advance). It needs no runtime.
    pub fn manual() -> Self {
        let sleepers = Mutex::new(Sleepers { next_id: 0, by_deadline: BTreeMap::new() });
        Self { source: Source::Test(TestTime::Manual(Arc::new(ManualTime { nanos: AtomicU64::new(0), sleepers }))) }
    }

    /// The time since the clock was made; of a manual clock, the sum of its advances.
    pub fn now(&self) -> Duration {
        self.time().since(Time::ZERO)
    }

    /// Waits until [`now`](Clock::now) is at least `deadline`.
    ///
    /// Ends at once if it is already. A deadline of 584 years or more never comes.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. A dropped wait leaves nothing behind.
    ///
    /// # Panics
    ///
    /// If it has to wait outside a tokio runtime that has its timer enabled. A manual clock needs none.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use connring::Clock;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let clock = Clock::tokio();
    /// clock.sleep_until(Duration::from_secs(3600)).await;
    /// assert!(clock.now() >= Duration::from_secs(3600));
    /// # }
    /// ```
    pub async fn sleep_until(&self, deadline: Duration) {
        self.sleep_until_time(Time::ZERO.after(deadline)).await;
    }

    /// Moves a manual clock on by `step` and ends each wait whose deadline it reached, in the order of the deadlines.
    /// Stops after 584 years.
    ///
    /// # Panics
    ///
    /// If the clock is not a manual one: the other clocks move by themselves.
    pub fn advance(&self, step: Duration) {
        match &self.source {
            Source::Test(TestTime::Manual(manual)) => manual.advance(step),
            _ => panic!("only a manual clock can be advanced"),
        }
    }

    /// The time as the pool keeps it.
    #[inline]
    pub(crate) fn time(&self) -> Time {
        match &self.source {
            Source::System { quanta, origin } => Time::from_nanos(quanta.delta_as_nanos(*origin, quanta.raw())),
            Source::Test(test) => test.time(),
        }
    }

    /// Waits until the time is at least `deadline`.
    ///
    /// # Cancel safety
    ///
    /// As [`sleep_until`](Clock::sleep_until).
    pub(crate) async fn sleep_until_time(&self, deadline: Time) {
        if deadline == Time::NEVER {
            return pending().await;
        }
        if let Source::Test(TestTime::Manual(manual)) = &self.source {
            return ManualSleep { manual, deadline, id: None }.await;
        }
        // The timer's ticks and the reading may disagree by a little: what counts is the reading. Each round
        // sleeps to the next tick of the timer at least, so that a clock that lags cannot make it spin.
        loop {
            let now = self.time();
            if now >= deadline {
                return;
            }
            tokio::time::sleep(deadline.since(now)).await;
        }
    }

    /// Returns the output of `future`, or `None` if `deadline` comes first. A future that is ready at the deadline
    /// wins.
    ///
    /// # Cancel safety
    ///
    /// That of `future`.
    pub(crate) fn until<T>(&self, deadline: Time, future: impl Future<Output = T>) -> impl Future<Output = Option<T>> {
        Until { future, timer: self.sleep_until_time(deadline) }
    }
}

pin_project! {
    /// See [`Clock::until`]. An async block would keep both twice, and each waiter has one of these.
    struct Until<F, S> {
        #[pin]
        future: F,
        #[pin]
        timer: S,
    }
}

impl<F: Future, S: Future<Output = ()>> Future for Until<F, S> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => this.timer.poll(cx).map(|()| None),
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::System { .. } => "system",
            Source::Test(TestTime::Tokio { .. }) => "tokio",
            Source::Test(TestTime::Manual(_)) => "manual",
        };
        f.debug_struct("Clock").field("source", &source).field("now", &self.now()).finish()
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the clock seam")]
fn tokio_now() -> Instant {
    Instant::now()
}

/// The time of a manual clock, and the waits for it.
struct ManualTime {
    /// Written with the lock of `sleepers` held.
    nanos: AtomicU64,
    sleepers: Mutex<Sleepers>,
}

struct Sleepers {
    next_id: u64,
    /// The deadline comes first, the sleeper's id keeps equal deadlines apart.
    by_deadline: BTreeMap<(Time, u64), Waker>,
}

impl ManualTime {
    fn time(&self) -> Time {
        // Pairs with the store in `advance`: a reader of the new time sees the writes before it.
        Time::from_nanos(self.nanos.load(Ordering::Acquire))
    }

    fn advance(&self, step: Duration) {
        let mut sleepers = lock(&self.sleepers);
        let now = self.time().after(step).min(LAST);
        // Pairs with the load in `time`.
        self.nanos.store(now.as_nanos(), Ordering::Release);
        let later = sleepers.by_deadline.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut sleepers.by_deadline, later);
        drop(sleepers);
        for waker in due.into_values() {
            waker.wake();
        }
    }
}

/// One wait on a manual clock.
struct ManualSleep<'a> {
    manual: &'a ManualTime,
    deadline: Time,
    /// Set once the wait was registered.
    id: Option<u64>,
}

impl Future for ManualSleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.manual.time() >= self.deadline {
            return Poll::Ready(());
        }
        // Wakers are cloned and dropped outside the lock: both may run foreign code.
        let waker = cx.waker().clone();
        let mut sleepers = lock(&self.manual.sleepers);
        // Again with the lock held: an `advance` in between did not find this one.
        if self.manual.time() >= self.deadline {
            drop(sleepers);
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            sleepers.next_id += 1;
            sleepers.next_id
        });
        let replaced = sleepers.by_deadline.insert((self.deadline, id), waker);
        drop(sleepers);
        drop(replaced);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for ManualSleep<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let removed = lock(&self.manual.sleepers).by_deadline.remove(&(self.deadline, id));
            drop(removed);
        }
    }
}

#[cfg(test)]
mod tests;
