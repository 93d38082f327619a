//! How many connect attempts run, and how many of them are for waiters.

use crate::sync::{Arc, AtomicUsize, Ordering};

/// Plain counters, raised before an attempt starts and lowered when it has ended.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    running: AtomicUsize,
    /// For waiters, younger than the hedge delay.
    young: AtomicUsize,
    /// For waiters, older than the hedge delay.
    late: AtomicUsize,
    /// At servers that are down.
    probes: AtomicUsize,
}

/// An attempt that runs, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Counted {
    attempts: Arc<Attempts>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// For waiters, younger than the hedge delay.
    Young,
    /// For waiters, older than the hedge delay.
    Late,
    Balance,
    Probe,
}

impl Attempts {
    // Relaxed: plain counters, whose changes are told by `Notifier::changed`, which fences.

    pub(crate) fn running(&self) -> usize {
        // Acquire: pairs with the Release of the drop, so that what an attempt delivered is seen by a caller that finds
        // it ended.
        self.running.load(Ordering::Acquire)
    }

    pub(crate) fn young(&self) -> usize {
        self.young.load(Ordering::Relaxed)
    }

    pub(crate) fn late(&self) -> usize {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn probes(&self) -> usize {
        self.probes.load(Ordering::Relaxed)
    }

    /// Counts an attempt for waiters, if fewer young ones run than `most`.
    pub(crate) fn begin_for_waiters(self: &Arc<Self>, most: usize) -> Option<Counted> {
        let begin = |young| (young < most).then_some(young + 1);
        self.young.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin).ok()?;
        Some(self.count(Kind::Young))
    }

    /// Counts an attempt for balance.
    pub(crate) fn begin_for_balance(self: &Arc<Self>) -> Counted {
        self.count(Kind::Balance)
    }

    /// Counts an attempt at a server that is down.
    pub(crate) fn begin_probe(self: &Arc<Self>) -> Counted {
        self.probes.fetch_add(1, Ordering::Relaxed);
        self.count(Kind::Probe)
    }

    fn count(self: &Arc<Self>, kind: Kind) -> Counted {
        self.running.fetch_add(1, Ordering::Relaxed);
        Counted { attempts: Arc::clone(self), kind }
    }
}

impl Counted {
    /// Whether it is for waiters and younger than the hedge delay.
    pub(crate) fn is_young(&self) -> bool {
        self.kind == Kind::Young
    }

    /// The hedge delay is over: it no longer counts as young.
    pub(crate) fn grow_late(&mut self) {
        if self.is_young() {
            self.kind = Kind::Late;
            self.attempts.late.fetch_add(1, Ordering::Relaxed);
            self.attempts.young.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        match self.kind {
            Kind::Young => self.attempts.young.fetch_sub(1, Ordering::Relaxed),
            Kind::Late => self.attempts.late.fetch_sub(1, Ordering::Relaxed),
            Kind::Probe => self.attempts.probes.fetch_sub(1, Ordering::Relaxed),
            Kind::Balance => 0,
        };
        // Release: pairs with the Acquire of `running`.
        self.attempts.running.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::Attempts;
    use crate::sync::Arc;

    #[test]
    fn young_attempts_never_exceed_the_waiters_and_late_ones_do_not_count() {
        let attempts = Arc::new(Attempts::default());
        let mut first = attempts.begin_for_waiters(1).expect("none runs");
        assert!(attempts.begin_for_waiters(1).is_none());
        first.grow_late();
        first.grow_late();
        let second = attempts.begin_for_waiters(1).expect("the first is late");
        let other = attempts.begin_probe();
        assert_eq!((attempts.running(), attempts.young(), attempts.late(), attempts.probes()), (3, 1, 1, 1));
        drop((first, second, other));
        assert_eq!((attempts.running(), attempts.young(), attempts.late(), attempts.probes()), (0, 0, 0, 0));
    }
}
