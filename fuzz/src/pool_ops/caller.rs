//! Callers whose futures the test polls itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Wake;
use std::time::Duration;

use connring::test_util::ScriptedError;
use connring::{AcquireError, Clock};

use super::rig::Conn;

pub(super) type Acquired = Result<Conn, AcquireError<ScriptedError>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Acquire,
    AcquireNow,
}

/// A waker that records its first wake-up since it was last armed.
pub(super) struct WakeRecorder {
    clock: Clock,
    steps: Arc<Mutex<u64>>,
    woken_at: Mutex<Option<Moment>>,
}

impl WakeRecorder {
    pub(super) fn new(clock: &Clock, steps: &Arc<Mutex<u64>>) -> Arc<Self> {
        Arc::new(Self { clock: clock.clone(), steps: Arc::clone(steps), woken_at: Mutex::default() })
    }

    pub(super) fn arm(&self) {
        *self.woken_at.lock().expect("not poisoned") = None;
    }
}

/// The number of a step, and its time.
pub(super) type Moment = (u64, Duration);

impl Wake for WakeRecorder {
    fn wake(self: Arc<Self>) {
        let now = (*self.steps.lock().expect("not poisoned"), self.clock.now());
        self.woken_at.lock().expect("not poisoned").get_or_insert(now);
    }
}

/// A pending call that was polled at least once.
pub(super) struct Caller {
    pub(super) future: Pin<Box<dyn Future<Output = Acquired>>>,
    pub(super) recorder: Arc<WakeRecorder>,
    pub(super) kind: Kind,
    pub(super) deadline: Option<Duration>,
    /// Whether the caller was woken before a caller that joined earlier.
    pub(super) overtook: bool,
    /// Whether `overtook` was determined for the current wake-up.
    pub(super) is_judged: bool,
}

impl Caller {
    pub(super) fn woken_at(&self) -> Option<Moment> {
        *self.recorder.woken_at.lock().expect("not poisoned")
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// Whether the caller is in the wait queue and was not woken.
    pub(super) fn waits_in_queue(&self) -> bool {
        self.kind == Kind::Acquire && self.woken_at().is_none()
    }
}
