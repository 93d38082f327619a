//! Callers that are polled by hand.

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

/// Remembers when it first rang since it was last armed: the step and the time.
pub(super) struct Bell {
    clock: Clock,
    steps: Arc<Mutex<u64>>,
    rung: Mutex<Option<Moment>>,
}

impl Bell {
    pub(super) fn new(clock: &Clock, steps: &Arc<Mutex<u64>>) -> Arc<Self> {
        Arc::new(Self { clock: clock.clone(), steps: Arc::clone(steps), rung: Mutex::default() })
    }

    pub(super) fn arm(&self) {
        *self.rung.lock().expect("not poisoned") = None;
    }
}

/// A step's number, and the time at it.
pub(super) type Moment = (u64, Duration);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let now = (*self.steps.lock().expect("not poisoned"), self.clock.now());
        self.rung.lock().expect("not poisoned").get_or_insert(now);
    }
}

/// A call that was polled once at least and is pending.
pub(super) struct Caller {
    pub(super) future: Pin<Box<dyn Future<Output = Acquired>>>,
    pub(super) bell: Arc<Bell>,
    pub(super) kind: Kind,
    pub(super) deadline: Option<Duration>,
    /// It was woken while one that joined before it was not.
    pub(super) overtook: bool,
    /// Whether that was found out.
    pub(super) is_judged: bool,
}

impl Caller {
    pub(super) fn rung(&self) -> Option<Moment> {
        *self.bell.rung.lock().expect("not poisoned")
    }

    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.deadline.is_some_and(|deadline| now >= deadline)
    }

    /// In the line, and not served yet as far as one can see.
    pub(super) fn waits_in_line(&self) -> bool {
        self.kind == Kind::Acquire && self.rung().is_none()
    }
}
