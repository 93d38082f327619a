//! Whether a server serves, in one word.
//!
//! # Protocol
//!
//! The word is `{ retry: 45, failures: 9, strikes: 8, state: 2 }`:
//!
//! ```text
//! Up      --connect failed, or strikes reached the threshold--> Down(failures + 1, retry later)
//! Down    --retry passed; one CAS wins-----------> Probing, owned by a Probe
//! Probing --the probe connected--------------------> Recovering
//!         --failed----------------------------------------> Down(failures + 1, retry later)
//!         --dropped undecided-----------------------------> Down(failures, retry after the initial interval)
//! Recovering   --first release of a connection opened since---> Up(0)
//!         --any failure-----------------------------------> Down(failures + 1, retry later)
//! ```
//!
//! `retry` is the time in steps of 10 µs at which a Down server is retried, and keeps its value until the server goes
//! down again. Since each Down sets it strictly higher, it is the outage too: a connection carries the `retry` of
//! the time of its opening, and its reports counts only while the word has the same.
//!
//! Arithmetic: 2⁴⁵ steps of 10 µs are 11.1 years, and an outage takes at least one step, so none is used twice in that
//! time. Failures saturate at 511; strikes stop at the threshold, which is at most 255.
//!
//! # Invariants
//!
//! - I1: of all callers that find a retry due, exactly one begins the probe.
//! - I2: while Probing only the owner of the probe changes the word.
//! - I3: failures of one outage take the server down at most once.
//! - I4: a server leaves Down by a probe alone, and its failures are cleared by nothing but a release while recovering
//!   or, for strikes, when Up.
//!
//! # Orderings
//!
//! Relaxed, but for `snapshot_after_push`: the word decides for itself and publishes nothing else. The up set, the due
//! time and the error follow the change and have orderings of their own.

use super::time::{STEP_NS, STEPS_BITS, STEPS_MAX, Time, steps};
use crate::sync::{AtomicU64, Ordering};

const STATE_BITS: u32 = 2;
const STRIKES_BITS: u32 = 8;
const FAILURES_BITS: u32 = 9;
const _: () = assert!(STATE_BITS + STRIKES_BITS + FAILURES_BITS + STEPS_BITS == 64);

const STRIKES_SHIFT: u32 = STATE_BITS;
const FAILURES_SHIFT: u32 = STRIKES_SHIFT + STRIKES_BITS;
const RETRY_SHIFT: u32 = FAILURES_SHIFT + FAILURES_BITS;
const FAILURES_MAX: u32 = (1 << FAILURES_BITS) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthState {
    Up,
    Recovering,
    Down,
    Probing,
}

/// The time between two Downs. See the module's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage(u64);

/// The word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl core::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let retry = self.retry_at().as_nanos();
        write!(f, "{:?}({}, {} strikes, retry {retry} ns)", self.state(), self.failures(), self.strikes())
    }
}

impl Snapshot {
    fn new(state: HealthState, strikes: u32, failures: u32, retry: u64) -> Self {
        let state = match state {
            HealthState::Up => 0,
            HealthState::Recovering => 1,
            HealthState::Down => 2,
            HealthState::Probing => 3,
        };
        Self(retry << RETRY_SHIFT | u64::from(failures) << FAILURES_SHIFT | u64::from(strikes) << STRIKES_SHIFT | state)
    }

    pub(crate) fn state(self) -> HealthState {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => HealthState::Up,
            1 => HealthState::Recovering,
            2 => HealthState::Down,
            _ => HealthState::Probing,
        }
    }

    /// Whether the server serves: Up or recovering.
    pub(crate) fn is_up(self) -> bool {
        matches!(self.state(), HealthState::Up | HealthState::Recovering)
    }

    fn strikes(self) -> u32 {
        (self.0 >> STRIKES_SHIFT) as u32 & ((1 << STRIKES_BITS) - 1)
    }

    /// Failures in a row.
    pub(crate) fn failures(self) -> u32 {
        (self.0 >> FAILURES_SHIFT) as u32 & FAILURES_MAX
    }

    fn retry(self) -> u64 {
        self.0 >> RETRY_SHIFT
    }

    /// When a Down server is retried.
    pub(crate) fn retry_at(self) -> Time {
        Time::from_nanos(self.retry() * STEP_NS)
    }

    pub(crate) fn outage(self) -> Outage {
        Outage(self.retry())
    }

    /// Up, without strikes: a release changes nothing.
    pub(crate) fn is_unblemished(self) -> bool {
        self.state() == HealthState::Up && self.strikes() == 0
    }

    /// Whether a release of a connection of `outage` would change the word.
    pub(crate) fn is_changed_by_release(self, outage: Outage) -> bool {
        self.is_up() && !self.is_unblemished() && self.outage() == outage
    }

    fn with(self, state: HealthState) -> Self {
        Self::new(state, 0, self.failures(), self.retry())
    }

    fn down(self, failures: u32, retry_at: impl FnOnce(u32) -> Time) -> Self {
        // Strictly higher than before, whatever the clock says: it is the outage.
        let retry = steps(retry_at(failures)).max((self.retry() + 1).min(STEPS_MAX));
        Self::new(HealthState::Down, 0, failures, retry)
    }

    fn one_failure_more(self) -> u32 {
        (self.failures() + 1).min(FAILURES_MAX)
    }
}

/// What [`Health::reported`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Nothing: a report of an older outage, or the server is down already.
    Ignored,
    /// A strike, fewer than the threshold.
    Strike,
    /// It took the server down.
    Down(Snapshot),
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Health {
    word: AtomicU64,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(Snapshot::new(HealthState::Up, 0, 0, 0).0) }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        // Relaxed: see the module's page.
        Snapshot(self.word.load(Ordering::Relaxed))
    }

    /// The word, behind a push into the server's idle queue: one that went down before the push is seen, or the thread
    /// that took it down sees the push.
    #[inline(always)]
    pub(crate) fn snapshot_after_push(&self) -> Snapshot {
        // SeqCst: behind the SeqCst push by the single order; pairs with the fence of `UpSet::refresh`, which comes
        // after the change of this word.
        Snapshot(self.word.load(Ordering::SeqCst))
    }

    /// One transition: `next` tells the word that follows the one it is given, or that there is none. Returns the
    /// words before and after.
    fn transition(&self, next: impl Fn(Snapshot) -> Option<Snapshot>) -> Option<(Snapshot, Snapshot)> {
        let mut found = self.snapshot();
        loop {
            let left = next(found)?;
            // Relaxed: see the module's page.
            match self.word.compare_exchange_weak(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some((found, left)),
                Err(word) => found = Snapshot(word),
            }
        }
    }

    /// An attempt that began in `outage` failed. Returns the word if that took the server down (I3). `retry_at` tells
    /// when to retry after that many failures in a row.
    pub(crate) fn connect_failed(&self, outage: Outage, retry_at: impl Fn(u32) -> Time) -> Option<Snapshot> {
        let (_, left) = self.transition(|found| {
            let counts = found.is_up() && found.outage() == outage;
            counts.then(|| found.down(found.one_failure_more(), &retry_at))
        })?;
        Some(left)
    }

    /// A caller reported a failure of a connection that was opened in `outage`.
    pub(crate) fn reported(&self, outage: Outage, threshold: u32, retry_at: impl Fn(u32) -> Time) -> Reported {
        let transition = self.transition(|found| {
            if !found.is_up() || found.outage() != outage {
                return None;
            }
            let strikes = found.strikes() + 1;
            if found.state() == HealthState::Up && strikes < threshold {
                return Some(Snapshot::new(HealthState::Up, strikes, found.failures(), found.retry()));
            }
            Some(found.down(found.one_failure_more(), &retry_at))
        });
        match transition {
            None => Reported::Ignored,
            Some((_, left)) if left.is_up() => Reported::Strike,
            Some((_, left)) => Reported::Down(left),
        }
    }

    /// A connection that was opened in `outage` was released. True if that ended the recovery (I4).
    pub(crate) fn released(&self, outage: Outage) -> bool {
        let transition = self.transition(|found| {
            found.is_changed_by_release(outage).then(|| Snapshot::new(HealthState::Up, 0, 0, found.retry()))
        });
        transition.is_some_and(|(found, _)| found.state() == HealthState::Recovering)
    }
}

/// The owner of the health word that a probe decides.
pub(crate) trait ProbeOwner {
    /// The health that is probed.
    fn health(&self) -> &Health;
    /// When to retry after a probe that was dropped undecided.
    fn retry_at_after_drop(&self) -> Time;
    /// Called after a probe was dropped undecided and the server is Down again.
    fn probe_dropped(&self, down: Snapshot);
}

/// Decides how Probing ends (I2). Dropped undecided, it puts the server back to Down.
#[derive(Debug)]
#[must_use]
pub(crate) struct Probe<O: ProbeOwner> {
    owner: O,
    probing: Snapshot,
    decided: bool,
}

impl<O: ProbeOwner> Probe<O> {
    /// Begins the probe, if the server is Down and its retry is due. One wins (I1).
    pub(crate) fn begin(owner: O, now: Time) -> Option<Self> {
        let (_, probing) = owner.health().transition(|found| {
            let due = found.state() == HealthState::Down && found.retry_at() <= now;
            due.then(|| found.with(HealthState::Probing))
        })?;
        Some(Self { owner, probing, decided: false })
    }

    /// The outage that the probe's connection belongs to.
    pub(crate) fn outage(&self) -> Outage {
        self.probing.outage()
    }

    /// The attempt connected.
    pub(crate) fn succeeded(mut self) {
        self.decide(self.probing.with(HealthState::Recovering));
    }

    /// The attempt failed. `retry_at` tells when to retry after that many failures in a row.
    pub(crate) fn failed(mut self, retry_at: impl Fn(u32) -> Time) -> Snapshot {
        let down = self.probing.down(self.probing.one_failure_more(), retry_at);
        self.decide(down);
        down
    }

    fn decide(&mut self, left: Snapshot) {
        self.decided = true;
        // Relaxed: see the module's page. The CAS cannot fail: only the owner leaves Probing (I2).
        let decided =
            self.owner.health().word.compare_exchange(self.probing.0, left.0, Ordering::Relaxed, Ordering::Relaxed);
        debug_assert!(decided.is_ok(), "a probe was ended twice");
    }
}

impl<O: ProbeOwner> Drop for Probe<O> {
    fn drop(&mut self) {
        if !self.decided {
            let down = self.probing.down(self.probing.failures(), |_| self.owner.retry_at_after_drop());
            self.decide(down);
            self.owner.probe_dropped(down);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, HealthState, Probe, ProbeOwner, Reported, STEP_NS, Snapshot, Time};

    impl ProbeOwner for &Health {
        fn health(&self) -> &Health {
            self
        }

        fn retry_at_after_drop(&self) -> Time {
            time(5)
        }

        fn probe_dropped(&self, _down: Snapshot) {}
    }

    fn time(steps: u64) -> Time {
        Time::from_nanos(steps * STEP_NS)
    }

    fn at(steps: u64) -> impl Fn(u32) -> Time {
        move |_| time(steps)
    }

    #[test]
    fn goes_down_and_comes_back() {
        let health = Health::new();
        let first = health.snapshot().outage();
        let down = health.connect_failed(first, at(10)).expect("it goes down");
        assert_eq!((down.state(), down.failures(), down.retry_at()), (HealthState::Down, 1, time(10)));
        assert_eq!(health.connect_failed(first, at(11)), None, "failures of one outage count once");
        assert!(Probe::begin(&health, Time::from_nanos(10 * STEP_NS - 1)).is_none());
        let probe = Probe::begin(&health, time(10)).expect("it is due");
        assert!(Probe::begin(&health, time(10)).is_none(), "one probe");
        let second = probe.outage();
        probe.succeeded();
        assert_eq!(health.snapshot().state(), HealthState::Recovering);
        assert!(!health.released(first), "the connection is of an older outage");
        assert!(health.released(second));
        assert_eq!((health.snapshot().state(), health.snapshot().failures()), (HealthState::Up, 0));
    }

    #[test]
    fn a_snapshot_prints_its_fields() {
        let health = Health::new();
        assert_eq!(format!("{:?}", health.snapshot()), "Up(0, 0 strikes, retry 0 ns)");
        let down = health.connect_failed(health.snapshot().outage(), at(10)).expect("it goes down");
        assert_eq!(format!("{down:?}"), "Down(1, 0 strikes, retry 100000 ns)");
    }

    #[test]
    fn a_failure_recovering_goes_on_counting() {
        let health = Health::new();
        health.connect_failed(health.snapshot().outage(), at(10)).expect("it goes down");
        Probe::begin(&health, time(10)).expect("it is due").succeeded();
        let Reported::Down(down) = health.reported(health.snapshot().outage(), 5, at(20)) else {
            panic!("no threshold while recovering");
        };
        assert_eq!(down.failures(), 2);
        let down = Probe::begin(&health, time(20)).expect("it is due").failed(at(30));
        assert_eq!((down.failures(), down.retry_at()), (3, time(30)));
    }

    #[test]
    fn strikes_reach_the_threshold_and_a_release_clears_them() {
        let health = Health::new();
        let outage = health.snapshot().outage();
        assert_eq!(health.reported(outage, 2, at(1)), Reported::Strike);
        assert!(health.snapshot().is_changed_by_release(outage));
        assert!(!health.released(outage), "it was not recovering");
        assert_eq!(health.reported(outage, 2, at(1)), Reported::Strike);
        assert!(matches!(health.reported(outage, 2, at(1)), Reported::Down(_)));
        assert_eq!(health.reported(outage, 2, at(1)), Reported::Ignored);
    }

    #[test]
    fn a_dropped_probe_counts_no_failure_and_allows_the_next() {
        let health = Health::new();
        health.connect_failed(health.snapshot().outage(), at(1)).expect("it goes down");
        drop(Probe::begin(&health, time(1)).expect("it is due"));
        let down = health.snapshot();
        assert_eq!((down.state(), down.failures(), down.retry_at()), (HealthState::Down, 1, time(5)));
    }

    #[test]
    fn each_down_is_an_outage_of_its_own_whatever_the_clock_says() {
        let health = Health::new();
        let mut last = health.snapshot().outage();
        for _ in 0..1_000 {
            health.connect_failed(last, at(0)).expect("it goes down");
            let probe = Probe::begin(&health, Time::NEVER).expect("it is due");
            assert_ne!(probe.outage(), last);
            last = probe.outage();
            probe.succeeded();
        }
        assert_eq!(health.snapshot().failures(), 511);
    }
}
