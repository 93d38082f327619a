//! Tells the pool's background task, and a caller that closes the pool, that something changed.

use tokio::sync::Notify;

use crate::raw::{Signals, WakeAt};
use crate::sync::Arc;

/// What a server knows of its pool: a name for its events, and where to tell of changes.
#[derive(Debug)]
pub(crate) struct Notifier {
    /// The pool's name.
    pub(crate) pool: Arc<str>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) wake_at: WakeAt,
    /// Wakes the background task.
    task: Notify,
    /// A connection of a removed server came back.
    pub(crate) returned: Notify,
}

impl Notifier {
    pub(crate) fn new(pool: Arc<str>) -> Self {
        let signals = Arc::new(Signals::new());
        Self { pool, signals, wake_at: WakeAt::new(), task: Notify::new(), returned: Notify::new() }
    }

    /// Wakes the background task.
    pub(crate) fn wake(&self) {
        self.task.notify_one();
    }

    /// Wakes the background task unless it looks again before `at_ns`.
    pub(crate) fn wake_before(&self, at_ns: u64) {
        if self.wake_at.must_wake(at_ns) {
            self.wake();
        }
    }

    /// Something changed that may help waiters: wakes the background task if there are any.
    pub(crate) fn changed(&self) {
        if self.signals.waiters_after_change() > 0 {
            self.wake();
        }
    }

    /// Waits until the background task is woken.
    pub(crate) async fn woken(&self) {
        self.task.notified().await;
    }
}
