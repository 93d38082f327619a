//! Whether a server serves, in one word.
//!
//! # Protocol
//!
//! The word is `{ retry: 45, failures: 9, strikes: 8, state: 2 }`:
//!
//! ```text
//! Up      --dial failed, or strikes reached the threshold--> Down(failures + 1, retry later)
//! Down    --retry passed; one caller's CAS wins-----------> Probing, owned by a Probe
//! Probing --the probe's dial succeeded--------------------> Trial
//!         --failed----------------------------------------> Down(failures + 1, retry later)
//!         --dropped undecided-----------------------------> Down(failures, retry after the initial interval)
//! Trial   --first release of a connection dialled since---> Up(0)
//!         --any failure-----------------------------------> Down(failures + 1, retry later)
//! ```
//!
//! `retry` is the time in ticks of 10 µs at which a Down server is retried, and keeps its value until the server goes
//! down again. Since each Down sets it strictly higher, it is the generation too: a connection carries the `retry` of
//! the time of its dial, and what it reports counts only while the word has the same.
//!
//! Arithmetic: 2⁴⁵ ticks of 10 µs are 11.1 years, and a generation takes at least one tick, so that none is used
//! twice in that time. Failures saturate at 511; strikes stop at the threshold, which is at most 255.
//!
//! # Invariants
//!
//! - I1: of all that find a retry due, exactly one makes the probe.
//! - I2: while Probing only the owner of the probe changes the word.
//! - I3: failures of one generation take the server down at most once.
//! - I4: a server leaves Down by a probe alone, and its failures are cleared by nothing but a release on trial or, for
//!   strikes, when Up.
//!
//! # Orderings
//!
//! Relaxed: the word decides for itself and publishes nothing else. What must be seen with a change (the error,
//! the time of the next probe, the line) is made known by the caller afterwards, behind fences of its own.

use super::tick::{TICK_NS, TICKS_BITS, TICKS_MAX, ticks};
use crate::sync::{AtomicU64, Ordering};

const STATE_BITS: u32 = 2;
const STRIKES_BITS: u32 = 8;
const FAILURES_BITS: u32 = 9;
const _: () = assert!(STATE_BITS + STRIKES_BITS + FAILURES_BITS + TICKS_BITS == 64);

const STRIKES_SHIFT: u32 = STATE_BITS;
const FAILURES_SHIFT: u32 = STRIKES_SHIFT + STRIKES_BITS;
const RETRY_SHIFT: u32 = FAILURES_SHIFT + FAILURES_BITS;
const FAILURES_MAX: u32 = (1 << FAILURES_BITS) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthState {
    Up,
    Trial,
    Down,
    Probing,
}

/// Names the time between two Downs. See the module's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Generation(u64);

/// The word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl core::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}({}, {} strikes, retry {} ns)", self.state(), self.failures(), self.strikes(), self.retry_at())
    }
}

impl Snapshot {
    fn new(state: HealthState, strikes: u32, failures: u32, retry: u64) -> Self {
        let state = match state {
            HealthState::Up => 0,
            HealthState::Trial => 1,
            HealthState::Down => 2,
            HealthState::Probing => 3,
        };
        Self(retry << RETRY_SHIFT | u64::from(failures) << FAILURES_SHIFT | u64::from(strikes) << STRIKES_SHIFT | state)
    }

    pub(crate) fn state(self) -> HealthState {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => HealthState::Up,
            1 => HealthState::Trial,
            2 => HealthState::Down,
            _ => HealthState::Probing,
        }
    }

    /// Whether the server serves: Up, on trial or not.
    pub(crate) fn is_up(self) -> bool {
        matches!(self.state(), HealthState::Up | HealthState::Trial)
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

    /// When a Down server is retried, in nanoseconds.
    pub(crate) fn retry_at(self) -> u64 {
        self.retry() * TICK_NS
    }

    pub(crate) fn generation(self) -> Generation {
        Generation(self.retry())
    }

    /// Up, not on trial, without strikes: a release changes nothing.
    pub(crate) fn is_unblemished(self) -> bool {
        self.state() == HealthState::Up && self.strikes() == 0
    }

    /// Whether a release of a connection of `generation` would change the word.
    pub(crate) fn is_changed_by_release(self, generation: Generation) -> bool {
        self.is_up() && !self.is_unblemished() && self.generation() == generation
    }

    fn with(self, state: HealthState) -> Self {
        Self::new(state, 0, self.failures(), self.retry())
    }

    fn down(self, failures: u32, retry_at: impl FnOnce(u32) -> u64) -> Self {
        // Strictly higher than before, whatever the clock says: it is the generation.
        let retry = ticks(retry_at(failures)).max((self.retry() + 1).min(TICKS_MAX));
        Self::new(HealthState::Down, 0, failures, retry)
    }

    fn one_failure_more(self) -> u32 {
        (self.failures() + 1).min(FAILURES_MAX)
    }
}

/// What [`Health::reported`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reported {
    /// Nothing: an older generation's, or the server is down already.
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

    /// A dial that began in `generation` failed. Returns the word if that took the server down (I3). `retry_at` tells
    /// when to retry after that many failures in a row.
    pub(crate) fn dial_failed(&self, generation: Generation, retry_at: impl Fn(u32) -> u64) -> Option<Snapshot> {
        let (_, left) = self.transition(|found| {
            let counts = found.is_up() && found.generation() == generation;
            counts.then(|| found.down(found.one_failure_more(), &retry_at))
        })?;
        Some(left)
    }

    /// A caller reported a failure of a connection that was dialled in `generation`.
    pub(crate) fn reported(&self, generation: Generation, threshold: u32, retry_at: impl Fn(u32) -> u64) -> Reported {
        let transition = self.transition(|found| {
            if !found.is_up() || found.generation() != generation {
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

    /// A connection that was dialled in `generation` was released. True if that ended a trial (I4).
    pub(crate) fn released(&self, generation: Generation) -> bool {
        let transition = self.transition(|found| {
            found.is_changed_by_release(generation).then(|| Snapshot::new(HealthState::Up, 0, 0, found.retry()))
        });
        transition.is_some_and(|(found, _)| found.state() == HealthState::Trial)
    }
}

/// Who owns a server's health on behalf of its probe.
pub(crate) trait ProbeOwner {
    /// The health that is probed.
    fn health(&self) -> &Health;
    /// When to retry, in nanoseconds, after a probe that was dropped undecided.
    fn retry_at_after_drop(&self) -> u64;
    /// Called after a probe was dropped undecided and the server is Down again.
    fn probe_dropped(&self, down: Snapshot);
}

/// The right to decide how Probing ends (I2). Dropped undecided, it puts the server back to Down.
#[derive(Debug)]
#[must_use]
pub(crate) struct Probe<O: ProbeOwner> {
    owner: O,
    probing: Snapshot,
    decided: bool,
}

impl<O: ProbeOwner> Probe<O> {
    /// Begins the probe, if the server is Down and its retry is due. One wins (I1).
    pub(crate) fn begin(owner: O, now_ns: u64) -> Option<Self> {
        let (_, probing) = owner.health().transition(|found| {
            let due = found.state() == HealthState::Down && found.retry_at() <= now_ns;
            due.then(|| found.with(HealthState::Probing))
        })?;
        Some(Self { owner, probing, decided: false })
    }

    /// The generation that the probe's connection belongs to.
    pub(crate) fn generation(&self) -> Generation {
        self.probing.generation()
    }

    /// The dial succeeded.
    pub(crate) fn succeeded(mut self) {
        self.decide(self.probing.with(HealthState::Trial));
    }

    /// The dial failed. `retry_at` tells when to retry after that many failures in a row.
    pub(crate) fn failed(mut self, retry_at: impl Fn(u32) -> u64) -> Snapshot {
        let down = self.probing.down(self.probing.one_failure_more(), retry_at);
        self.decide(down);
        down
    }

    fn decide(&mut self, left: Snapshot) {
        self.decided = true;
        // Relaxed: see the module's page. The CAS cannot fail: nobody else leaves Probing (I2).
        let decided =
            self.owner.health().word.compare_exchange(self.probing.0, left.0, Ordering::Relaxed, Ordering::Relaxed);
        debug_assert!(decided.is_ok(), "another than its owner ended a probe");
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
    use super::{Health, HealthState, Probe, ProbeOwner, Reported, Snapshot, TICK_NS};

    impl ProbeOwner for &Health {
        fn health(&self) -> &Health {
            self
        }

        fn retry_at_after_drop(&self) -> u64 {
            5 * TICK_NS
        }

        fn probe_dropped(&self, _down: Snapshot) {}
    }

    fn at(ticks: u64) -> impl Fn(u32) -> u64 {
        move |_| ticks * TICK_NS
    }

    #[test]
    fn the_way_down_and_back() {
        let health = Health::new();
        let first = health.snapshot().generation();
        let down = health.dial_failed(first, at(10)).expect("it goes down");
        assert_eq!((down.state(), down.failures(), down.retry_at()), (HealthState::Down, 1, 10 * TICK_NS));
        assert_eq!(health.dial_failed(first, at(11)), None, "those that fail together count once");
        assert!(Probe::begin(&health, 10 * TICK_NS - 1).is_none());
        let probe = Probe::begin(&health, 10 * TICK_NS).expect("it is due");
        assert!(Probe::begin(&health, 10 * TICK_NS).is_none(), "one probe");
        let second = probe.generation();
        probe.succeeded();
        assert_eq!(health.snapshot().state(), HealthState::Trial);
        assert!(!health.released(first), "an old connection proves nothing");
        assert!(health.released(second));
        assert_eq!((health.snapshot().state(), health.snapshot().failures()), (HealthState::Up, 0));
    }

    #[test]
    fn a_snapshot_prints_its_fields() {
        let health = Health::new();
        assert_eq!(format!("{:?}", health.snapshot()), "Up(0, 0 strikes, retry 0 ns)");
        let down = health.dial_failed(health.snapshot().generation(), at(10)).expect("it goes down");
        assert_eq!(format!("{down:?}"), "Down(1, 0 strikes, retry 100000 ns)");
    }

    #[test]
    fn a_failure_on_trial_goes_on_counting() {
        let health = Health::new();
        health.dial_failed(health.snapshot().generation(), at(10)).expect("it goes down");
        Probe::begin(&health, 10 * TICK_NS).expect("it is due").succeeded();
        let Reported::Down(down) = health.reported(health.snapshot().generation(), 5, at(20)) else {
            panic!("on trial the threshold does not count");
        };
        assert_eq!(down.failures(), 2);
        let down = Probe::begin(&health, 20 * TICK_NS).expect("it is due").failed(at(30));
        assert_eq!((down.failures(), down.retry_at()), (3, 30 * TICK_NS));
    }

    #[test]
    fn strikes_add_up_to_the_threshold_and_a_release_clears_them() {
        let health = Health::new();
        let generation = health.snapshot().generation();
        assert_eq!(health.reported(generation, 2, at(1)), Reported::Strike);
        assert!(health.snapshot().is_changed_by_release(generation));
        assert!(!health.released(generation), "it was not on trial");
        assert_eq!(health.reported(generation, 2, at(1)), Reported::Strike);
        assert!(matches!(health.reported(generation, 2, at(1)), Reported::Down(_)));
        assert_eq!(health.reported(generation, 2, at(1)), Reported::Ignored);
    }

    #[test]
    fn a_dropped_probe_reopens_and_counts_nothing() {
        let health = Health::new();
        health.dial_failed(health.snapshot().generation(), at(1)).expect("it goes down");
        drop(Probe::begin(&health, TICK_NS).expect("it is due"));
        let down = health.snapshot();
        assert_eq!((down.state(), down.failures(), down.retry_at()), (HealthState::Down, 1, 5 * TICK_NS));
    }

    #[test]
    fn each_down_is_a_generation_of_its_own_whatever_the_clock_says() {
        let health = Health::new();
        let mut last = health.snapshot().generation();
        for _ in 0..1_000 {
            health.dial_failed(last, at(0)).expect("it goes down");
            let probe = Probe::begin(&health, u64::MAX).expect("it is due");
            assert_ne!(probe.generation(), last);
            last = probe.generation();
            probe.succeeded();
        }
        assert_eq!(health.snapshot().failures(), 511);
    }
}
