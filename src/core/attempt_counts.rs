//! Counts the connect attempts that run, and what else may give callers a connection in a moment: all of it, those for
//! waiters, recycles and probes.

use crate::core::wish::WaiterWish;
use crate::server::Notifier;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runs {
    /// An attempt for callers in the wait queue.
    ForWaiters,
    /// The trial of a server that is down.
    Probe,
    /// A used connection is made fit for the next caller.
    Recycle,
    /// Another attempt; one that connected and lingers; a check of an idle connection, which is out of its queue.
    Other,
}

/// Counters. Each rises before something starts and falls when it has ended. That wakes the background task if callers
/// wait: another attempt may start now.
pub(crate) struct AttemptCounts {
    notifier: Arc<Notifier>,
    running: AtomicUsize,
    /// For waiters, younger than the hedge delay.
    young: AtomicUsize,
    /// Recycled connections, younger than the hedge delay.
    recycling: AtomicUsize,
    /// For waiters and recycled connections, older than the hedge delay.
    late: AtomicUsize,
    /// Probes.
    probes: AtomicUsize,
}

/// What runs, counted for as long as this lives.
pub(crate) struct Counted {
    attempts: Arc<AttemptCounts>,
    what: Runs,
    /// The waiter that it is for, of those with a wish.
    order_of: Option<Arc<WaiterWish>>,
    /// The hedge delay is over.
    is_late: bool,
}

impl AttemptCounts {
    // Relaxed: plain counters; `Notifier::wake_if_waiters`, which fences, follows each fall. `running` also publishes
    // what an attempt delivered.

    pub(crate) fn new(notifier: Arc<Notifier>) -> Self {
        let [running, young, recycling, late, probes] = [(); 5].map(|()| AtomicUsize::new(0));
        Self { notifier, running, young, recycling, late, probes }
    }

    pub(crate) fn running(&self) -> usize {
        // Acquire: pairs with the Release of the drop, so that what an attempt delivered is seen by a caller that finds
        // it ended.
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn young(&self) -> usize {
        self.young.load(Ordering::Relaxed)
    }

    pub(crate) fn recycling(&self) -> usize {
        self.recycling.load(Ordering::Relaxed)
    }

    pub(crate) fn late(&self) -> usize {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn probes(&self) -> usize {
        self.probes.load(Ordering::Relaxed)
    }

    /// The counter of a kind, beside `running`.
    fn counter(&self, what: Runs, is_late: bool) -> Option<&AtomicUsize> {
        Some(match what {
            Runs::ForWaiters | Runs::Recycle if is_late => &self.late,
            Runs::ForWaiters => &self.young,
            Runs::Recycle => &self.recycling,
            Runs::Probe => &self.probes,
            Runs::Other => return None,
        })
    }

    /// Counts what runs now.
    pub(crate) fn begin(self: &Arc<Self>, what: Runs) -> Counted {
        let counted = self.counted(what);
        counted.count(false, 1);
        counted
    }

    /// Counts an attempt for waiters. `None` if there are as many young ones as waiters.
    pub(crate) fn begin_for_waiters(self: &Arc<Self>) -> Option<Counted> {
        let waiters = self.notifier.signals.waiters();
        let begin = |young| (young < waiters).then_some(young + 1);
        self.young.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin).ok()?;
        Some(self.counted(Runs::ForWaiters))
    }

    /// The same for one waiter, at a server. `None` also if one runs for it.
    pub(crate) fn begin_order(self: &Arc<Self>, waiter: &Arc<WaiterWish>, number: usize) -> Option<Counted> {
        if !waiter.begin_order(number) {
            return None;
        }
        let Some(mut counted) = self.begin_for_waiters() else {
            waiter.end_order();
            return None;
        };
        counted.order_of = Some(Arc::clone(waiter));
        Some(counted)
    }

    fn counted(self: &Arc<Self>, what: Runs) -> Counted {
        self.running.fetch_add(1, Ordering::Relaxed);
        Counted { attempts: Arc::clone(self), what, order_of: None, is_late: false }
    }
}

impl Counted {
    /// Counts one up or down, as young or late.
    fn count(&self, is_late: bool, change: isize) {
        if let Some(counter) = self.attempts.counter(self.what, is_late) {
            // Wraps: down by one.
            counter.fetch_add(change as usize, Ordering::Relaxed);
        }
    }

    /// Whether it is for waiters.
    pub(crate) fn is_for_waiters(&self) -> bool {
        self.what == Runs::ForWaiters
    }

    /// Whether its hedge delay is over.
    pub(crate) fn is_late(&self) -> bool {
        self.is_late
    }

    /// Whether it is for one waiter, with a wish.
    pub(crate) fn is_order(&self) -> bool {
        self.order_of.is_some()
    }

    /// Whether it is for waiters, or a recycle, and younger than the hedge delay.
    pub(crate) fn is_young(&self) -> bool {
        matches!(self.what, Runs::ForWaiters | Runs::Recycle) && !self.is_late
    }

    /// The hedge delay is over: it no longer counts as young, and another server is tried.
    pub(crate) fn grow_late(&mut self) {
        if self.is_young() {
            self.is_late = true;
            if let Some(waiter) = &self.order_of {
                waiter.grow_late();
            }
            self.count(true, 1);
            self.count(false, -1);
            self.attempts.notifier.wake_if_waiters();
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        match &self.order_of {
            Some(waiter) if self.is_late => waiter.end_late_order(),
            Some(waiter) => waiter.end_order(),
            None => {}
        }
        self.count(self.is_late, -1);
        let attempts = &self.attempts;
        // Release: pairs with the Acquire of `running`.
        attempts.running.fetch_sub(1, Ordering::Release);
        attempts.notifier.wake_if_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::{AttemptCounts, Notifier, Runs};
    use crate::clock::Clock;
    use crate::raw::WaitQueue;
    use crate::sync::{Arc, Weak};

    #[test]
    fn young_attempts_never_exceed_the_waiters_and_late_ones_do_not_count() {
        let notifier = Arc::new(Notifier::new(Weak::<()>::new(), Arc::from(""), Clock::manual(), None));
        let queue = WaitQueue::<()>::new(Arc::clone(&notifier.signals));
        let attempts = Arc::new(AttemptCounts::new(notifier));
        assert!(attempts.begin_for_waiters().is_none(), "no one waits");
        let mut ticket = queue.join(1, true, None, None).expect("there is room");
        let mut first = attempts.begin_for_waiters().expect("none runs");
        assert!(attempts.begin_for_waiters().is_none());
        first.grow_late();
        first.grow_late();
        let second = attempts.begin_for_waiters().expect("the first is late");
        let other = attempts.begin(Runs::Probe);
        assert_eq!((attempts.running(), attempts.young(), attempts.late(), attempts.probes()), (3, 1, 1, 1));
        drop((first, second, other));
        assert!(queue.leave(&mut ticket).is_none());
        assert_eq!((attempts.running(), attempts.young(), attempts.late(), attempts.probes()), (0, 0, 0, 0));
    }
}
