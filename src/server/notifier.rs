//! Wakes the pool's background task, and callers that close, drain or warm up; tells the observer.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::observer::Observer;
use crate::raw::{Signals, Time, WakeAt};
use crate::server::{Totals, Waits};
use crate::sync::{Arc, Weak};

/// The pool's name, signals, totals, wake-ups and observer, shared by the pool and its servers, and the way from a
/// server to its pool.
pub(crate) struct Notifier {
    /// The pool. Type-erased, so that this layer does not name `core`.
    pub(crate) pool: Weak<dyn Any + Send + Sync>,
    /// Its name.
    pub(crate) name: Arc<str>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) totals: Totals,
    pub(crate) waits: Waits,
    pub(crate) clock: Clock,
    observer: Option<Box<dyn Observer>>,
    pub(crate) wake_at: WakeAt,
    /// Wakes the background task.
    task: Notify,
    /// Notified when a drain may be over: a connection of a removed or disabled server has closed, a server was enabled
    /// or registered, or the pool was closed.
    pub(crate) drain_changed: Notify,
    /// Notified when a connect attempt, a goodbye or a check has ended.
    pub(crate) attempt_ended: Notify,
    /// Notified when attempts must look at their server: its epoch has ended, it was disabled, or its tier may have
    /// changed.
    pub(crate) server_changed: Notify,
}

impl Notifier {
    pub(crate) fn new(
        pool: Weak<dyn Any + Send + Sync>,
        name: Arc<str>,
        clock: Clock,
        observer: Option<Box<dyn Observer>>,
    ) -> Self {
        Self {
            pool,
            name,
            signals: Arc::new(Signals::new()),
            totals: Totals::default(),
            waits: Waits::default(),
            clock,
            observer,
            wake_at: WakeAt::new(),
            task: Notify::new(),
            drain_changed: Notify::new(),
            attempt_ended: Notify::new(),
            server_changed: Notify::new(),
        }
    }

    /// Tells the observer something, if there is one. No lock may be held: it runs user code. A panic ends here: this
    /// is also called while unwinding, and in the middle of work.
    pub(crate) fn tell(&self, something: impl FnOnce(&dyn Observer)) {
        if let Some(observer) = &self.observer {
            quietly(|| something(&**observer));
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

    /// Waits until `is_over`. Looks when `drain_changed` is notified.
    pub(crate) async fn wait_until(&self, is_over: impl Fn() -> bool) {
        wait_until(&self.drain_changed, || is_over().then_some(())).await;
    }

    /// Waits until the background task is woken.
    pub(crate) async fn woken(&self) {
        self.task.notified().await;
    }
}

/// Waits until `look` finds something. Looks when `changed` is notified.
pub(crate) async fn wait_until<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        let mut notified = pin!(changed.notified());
        // Before the look: a change after it is noticed.
        notified.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}

/// Runs user code whose panic ends here: while unwinding, or in the middle of work.
pub(crate) fn quietly(act: impl FnOnce()) {
    if let Err(reported_by_the_hook) = catch_unwind(AssertUnwindSafe(act)) {
        // Its drop may panic as well.
        std::mem::forget(reported_by_the_hook);
    }
}
