//! The signals: the one cache line that each acquire and release of a pool reads, and that is seldom written.
//!
//! # Protocol
//!
//! | word | written by | read by |
//! |---|---|---|
//! | `waiters` | the wait queue, under its lock | acquire: do not overtake; release: hand over |
//! | `tick` | the background task | acquire, release: the coarse time |
//! | `list_version` | a change of the server list | acquire: is the list that this thread keeps the current one? |
//! | `detours`: probe due | the background task, and the caller that clears it | acquire: wake the task, which probes |
//! | `detours`: not in turn | a change of the policy | acquire: servers are not chosen in turn |
//! | `running` | the start and the end of the background task | async acquire: start the task |
//! | `closed` | the close of the pool | threads that keep a list: drop it |
//!
//! # Invariants
//!
//! - I1: `waiters` is the number of callers in the wait queue.
//! - I2: `running` is set by one caller for each run of the task: at most one task runs.
//!
//! # Orderings
//!
//! `waiters` takes part in a handshake that [`WaitQueue::join`](super::WaitQueue::join) explains. `running` acquires
//! what the last task released. All other words are hints or coarse values, and Relaxed.

use super::time::Time;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

/// The value of `tick` while no task stores the coarse time.
const NO_TICK: Time = Time::NEVER;

/// In `detours`: a probe is due; servers are not chosen in turn.
const PROBE_DUE: usize = 1;
const NOT_IN_TURN: usize = 2;

/// See the module's page.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Signals {
    waiters: AtomicUsize,
    tick: AtomicU64,
    list_version: AtomicU64,
    detours: AtomicUsize,
    running: AtomicBool,
    closed: AtomicBool,
}

impl Signals {
    pub(crate) fn new() -> Self {
        Self {
            waiters: AtomicUsize::new(0),
            tick: AtomicU64::new(NO_TICK.as_nanos()),
            list_version: AtomicU64::new(0),
            detours: AtomicUsize::new(0),
            running: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// The number of waiters. After a push into an idle queue this load is ordered after the push (see `Idle::push`).
    /// After any other change use `waiters_after_change`.
    #[inline(always)]
    pub(crate) fn waiters(&self) -> usize {
        // SeqCst: ordered after a SeqCst push by the single order; pairs with the fence of `WaitQueue::join`.
        self.waiters.load(Ordering::SeqCst)
    }

    /// The number of waiters after a change that may help them. Fences first.
    pub(crate) fn waiters_after_change(&self) -> usize {
        // SeqCst: the change, then the load; pairs with the fence of `WaitQueue::join`.
        fence(Ordering::SeqCst);
        self.waiters()
    }

    /// Counts waiters (I1). Only under the lock of the wait queue.
    pub(super) fn count_waiters(&self, change: isize) {
        // Relaxed: the lock orders the writers; `WaitQueue::join` fences for the readers.
        let waiters = self.waiters.load(Ordering::Relaxed).checked_add_signed(change);
        self.waiters.store(waiters.expect("more waiters left the queue than joined it"), Ordering::Relaxed);
    }

    /// The coarse time, if the background task keeps one.
    #[inline(always)]
    pub(crate) fn tick(&self) -> Option<Time> {
        Some(self.tick_or_never()).filter(|&tick| tick != NO_TICK)
    }

    /// The coarse time; `Time::NEVER` if none is kept.
    #[inline(always)]
    pub(crate) fn tick_or_never(&self) -> Time {
        // Relaxed: a coarse time.
        Time::from_nanos(self.tick.load(Ordering::Relaxed))
    }

    /// Stores the coarse time; `None` if nothing keeps one from now on.
    pub(crate) fn set_tick(&self, now: Option<Time>) {
        // Relaxed: a coarse time.
        self.tick.store(now.unwrap_or(NO_TICK).as_nanos(), Ordering::Relaxed);
    }

    /// The version of the current server list.
    #[inline(always)]
    pub(crate) fn list_version(&self) -> u64 {
        // Relaxed: a thread that reads an older version uses the older list for this one call.
        self.list_version.load(Ordering::Relaxed)
    }

    pub(crate) fn set_list_version(&self, version: u64) {
        // Relaxed: see `list_version`.
        self.list_version.store(version, Ordering::Relaxed);
    }

    /// Whether a caller must leave the hot path: waiters come first, a probe is due, or servers are not chosen in turn.
    #[inline(always)]
    pub(crate) fn has_detour(&self) -> bool {
        // Relaxed: a hint, as the number of waiters is here; if this caller misses one, the next one sees it.
        (self.waiters() | self.detours.load(Ordering::Relaxed)) != 0
    }

    /// Whether a probe is due and waits for a caller.
    pub(crate) fn is_probe_due(&self) -> bool {
        // Relaxed: a hint; see `has_detour`.
        self.detours.load(Ordering::Relaxed) & PROBE_DUE != 0
    }

    pub(crate) fn set_probe_due(&self, due: bool) {
        self.set_detour(PROBE_DUE, due);
    }

    /// Whether servers are chosen in turn.
    pub(crate) fn is_in_turn(&self) -> bool {
        // Relaxed: it publishes nothing; a caller that reads an older policy chooses once by that one.
        self.detours.load(Ordering::Relaxed) & NOT_IN_TURN == 0
    }

    pub(crate) fn set_in_turn(&self, in_turn: bool) {
        self.set_detour(NOT_IN_TURN, !in_turn);
    }

    fn set_detour(&self, detour: usize, is_set: bool) {
        // Relaxed: a hint; a lock guards the due times, and one the policy.
        if is_set {
            self.detours.fetch_or(detour, Ordering::Relaxed);
        } else {
            self.detours.fetch_and(!detour, Ordering::Relaxed);
        }
    }

    /// Whether the background task runs.
    #[inline(always)]
    pub(crate) fn is_running(&self) -> bool {
        // Relaxed: a hint; `begin_run` decides.
        self.running.load(Ordering::Relaxed)
    }

    /// True for the one caller that must start the background task (I2).
    pub(crate) fn begin_run(&self) -> bool {
        // Acquire: pairs with the Release of `end_run`.
        !self.running.swap(true, Ordering::Acquire)
    }

    /// The background task has ended, or could not be started.
    pub(crate) fn end_run(&self) {
        self.set_tick(None);
        // Release: pairs with the Acquire of `begin_run`.
        self.running.store(false, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        // Relaxed: a hint; the server list decides.
        self.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_closed(&self) {
        // Relaxed: see `is_closed`.
        self.closed.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Signals, Time};

    #[test]
    fn one_caller_starts_the_task() {
        let signals = Signals::new();
        assert!(!signals.is_running() && signals.begin_run());
        assert!(signals.is_running() && !signals.begin_run());
        signals.set_tick(Some(Time::ZERO));
        signals.end_run();
        assert_eq!((signals.is_running(), signals.tick()), (false, None));
        assert!(signals.begin_run());
    }

    #[test]
    fn a_due_probe_and_a_choice_that_is_not_in_turn_lead_off_the_hot_path() {
        let signals = Signals::new();
        let seen = || (signals.has_detour(), signals.is_probe_due(), signals.is_in_turn());
        assert_eq!(seen(), (false, false, true));
        signals.set_in_turn(false);
        signals.set_probe_due(true);
        assert_eq!(seen(), (true, true, false));
        signals.set_in_turn(true);
        assert_eq!(seen(), (true, true, true));
        signals.set_in_turn(false);
        signals.set_probe_due(false);
        assert_eq!(seen(), (true, false, false));
        signals.set_in_turn(true);
        assert_eq!(seen(), (false, false, true));
    }
}
