//! How the task that watches the time for the line is told that something changed.
//!
//! The task sleeps until the next moment at which something may change by time alone: a token, the end of a backoff or of a
//! pause. Whoever brings about an earlier such moment, or frees a permit, or takes a server down, rings.
//!
//! The task says that it is about to look (`until` is "never", so that everybody rings), fences, looks, and then says until when it
//! sleeps. Who changes something fences, then reads `until`. So either the task sees the change, or its sleep is
//! cut short.

use tokio::sync::Notify;

use crate::sync::{Arc, AtomicBool, AtomicU64, Ordering, fence};

#[derive(Debug)]
pub(crate) struct Alarm {
    until: AtomicU64,
    watched: AtomicBool,
    bell: Arc<Notify>,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { until: AtomicU64::new(u64::MAX), watched: AtomicBool::new(false), bell: Arc::new(Notify::new()) }
    }

    /// Wakes the task.
    pub(crate) fn ring(&self) {
        self.bell.notify_one();
    }

    /// Wakes the task if it sleeps beyond `at_ns`.
    pub(crate) fn ring_before(&self, at_ns: u64) {
        // SeqCst: pairs with the fence of `look`: the change, then `until`.
        fence(Ordering::SeqCst);
        // Relaxed: ordered by the fence.
        if at_ns < self.until.load(Ordering::Relaxed) {
            self.ring();
        }
    }

    /// The task is about to look at everything.
    pub(crate) fn look(&self) {
        // Relaxed: ordered by the fence.
        self.until.store(u64::MAX, Ordering::Relaxed);
        // SeqCst: pairs with the fence of `ring_before`: `until`, then the look.
        fence(Ordering::SeqCst);
    }

    /// The task sleeps until `at_ns`, unless the bell rings.
    pub(crate) fn sleep(&self, at_ns: u64) -> Arc<Notify> {
        // Relaxed: who reads an older value rings in vain.
        self.until.store(at_ns, Ordering::Relaxed);
        Arc::clone(&self.bell)
    }

    /// Whether a task watches.
    pub(crate) fn is_watched(&self) -> bool {
        // Relaxed: ordered, where it matters, by the fences of `Line::join` and `dismiss`.
        self.watched.load(Ordering::Relaxed)
    }

    /// True for the one who must start the task.
    pub(crate) fn engage(&self) -> bool {
        // AcqRel: what the last task did happens before what the next does.
        !self.watched.swap(true, Ordering::AcqRel)
    }

    /// The task ends. Whoever calls this looks at the line afterwards.
    pub(crate) fn dismiss(&self) {
        self.watched.store(false, Ordering::Release);
        // SeqCst: pairs with the fence of `Line::join`: nobody watches, then the look at the line.
        fence(Ordering::SeqCst);
    }
}
