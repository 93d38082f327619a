//! Wakes the pool's background task, and a caller that closes the pool; tells the observer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::observer::Observer;
use crate::raw::{Signals, Time, WakeAt};
use crate::server::{Totals, Waits};
use crate::sync::Arc;

/// The pool's name, signals, totals, wake-ups and observer, shared by the pool and its servers.
pub(crate) struct Notifier {
    /// The pool's name.
    pub(crate) pool: Arc<str>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) totals: Totals,
    pub(crate) waits: Waits,
    pub(crate) clock: Clock,
    observer: Option<Box<dyn Observer>>,
    pub(crate) wake_at: WakeAt,
    /// Wakes the background task.
    task: Notify,
    /// Notified when a connection of a removed or disabled server has closed, and when the pool has.
    pub(crate) returned: Notify,
    /// Notified when a connect attempt has ended.
    pub(crate) attempt_ended: Notify,
}

impl Notifier {
    pub(crate) fn new(pool: Arc<str>, clock: Clock, observer: Option<Box<dyn Observer>>) -> Self {
        Self {
            pool,
            signals: Arc::new(Signals::new()),
            totals: Totals::default(),
            waits: Waits::default(),
            clock,
            observer,
            wake_at: WakeAt::new(),
            task: Notify::new(),
            returned: Notify::new(),
            attempt_ended: Notify::new(),
        }
    }

    /// Tells the observer something, if there is one. No lock may be held: it runs user code. A panic ends here: this
    /// is also called while unwinding, and in the middle of work.
    pub(crate) fn tell(&self, something: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            let _reported_by_the_hook = catch_unwind(AssertUnwindSafe(|| something(&**observer)));
        }
    }

    /// Wakes the background task.
    pub(crate) fn wake(&self) {
        self.task.notify_one();
    }

    /// Wakes the background task unless it wakes by itself `at` that time or before.
    pub(crate) fn wake_before(&self, at: Time) {
        if self.wake_at.must_wake(at) {
            self.wake();
        }
    }

    /// Wakes the background task if there are waiters. Called after each change that may help them.
    pub(crate) fn wake_if_waiters(&self) {
        if self.signals.waiters_after_change() > 0 {
            self.wake();
        }
    }

    /// Waits until `is_over`. Looks when `returned` is notified.
    pub(crate) async fn wait_until(&self, is_over: impl Fn() -> bool) {
        loop {
            let mut returned = pin!(self.returned.notified());
            // Before the look: a return after it is noticed.
            returned.as_mut().enable();
            if is_over() {
                return;
            }
            returned.await;
        }
    }

    /// Waits until the background task is woken.
    pub(crate) async fn woken(&self) {
        self.task.notified().await;
    }
}
