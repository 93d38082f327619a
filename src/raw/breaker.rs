//! Whether a server may be connected to.
//!
//! # Protocol
//!
//! One word, `{ until: 45, turn: 8, failures: 9, state: 2 }`, with `until` in steps of 10 µs:
//!
//! ```text
//! Closed --an attempt of this round failed--> Paused(failures + 1, until later)
//! Closed --the server is down; one CAS wins--> Trying
//! Paused --until passed, or ahead of it; one CAS wins--> Trying
//! Trying --the attempt connected--> Closed(failures)
//!        --failed--> Paused(failures + 1, until later)
//!        --dropped undecided--> Paused(failures, until later)
//! Closed --a connection came back well--> Closed(0)
//! ```
//!
//! While Closed any number of attempts run. While Trying one runs, the trial: after a pause, or at a server that is
//! down. Each attempt has a [`Pass`] that names its round, which is the time between two trials.
//!
//! A round is named by the time at which its trial began, which is kept as `until` while Trying and Closed, and by the
//! turn, which each trial raises: trials ahead of the end of a pause may begin at one reading of the clock. (While
//! Paused `until` is the end of the pause.) A pause ends later than the trial before it began.
//!
//! # Invariants
//!
//! - I1: of all callers that find a trial due, exactly one begins it.
//! - I2: while Trying only the owner of the trial changes the word.
//! - I3: attempts of one round that fail together count once: the first one ends the round. A failure of an older round
//!   counts nothing.
//! - I4: a pause ends by a trial alone, and only while Closed are the failures cleared.
//!
//! The failures are kept until a connection has answered, or a recovery has lasted for its time: a server that accepts
//! and closes at once is avoided for longer each time.
//!
//! Arithmetic: 2⁴⁵ steps of 10 µs are 11.1 years. In that time a round is named twice only if 256 trials begin at one
//! reading of the clock. Failures saturate at 511.
//!
//! # Orderings
//!
//! Relaxed: the word decides for itself and publishes nothing. The due time and the error follow the change and have
//! orderings of their own. [`Breaker::succeeded`] fences (see there).

use super::time::{STEPS_BITS, STEPS_MAX, Time};
use crate::sync::{AtomicU64, Ordering, fence};

const STATE_BITS: u32 = 2;
const FAILURES_BITS: u32 = 9;
const TURN_BITS: u32 = 8;
const _: () = assert!(STATE_BITS + FAILURES_BITS + TURN_BITS + STEPS_BITS <= 64);

const TURN_SHIFT: u32 = STATE_BITS + FAILURES_BITS;
const UNTIL_SHIFT: u32 = TURN_SHIFT + TURN_BITS;
const TURN_MAX: u64 = (1 << TURN_BITS) - 1;
const FAILURES_MAX: u32 = (1 << FAILURES_BITS) - 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    Closed,
    Paused,
    Trying,
}

/// The word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct BreakerSnapshot(u64);

impl core::fmt::Debug for BreakerSnapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}({}, until {:?})", self.state(), self.failures(), Time::from_steps(self.until()))
    }
}

impl BreakerSnapshot {
    fn new(state: BreakerState, failures: u32, turn: u64, until: u64) -> Self {
        let state = match state {
            BreakerState::Closed => 0,
            BreakerState::Paused => 1,
            BreakerState::Trying => 2,
        };
        let round = until << TURN_BITS | turn & TURN_MAX;
        Self(round << TURN_SHIFT | u64::from(failures.min(FAILURES_MAX)) << STATE_BITS | state)
    }

    pub(crate) fn state(self) -> BreakerState {
        match self.0 & ((1 << STATE_BITS) - 1) {
            0 => BreakerState::Closed,
            1 => BreakerState::Paused,
            _ => BreakerState::Trying,
        }
    }

    /// Failed attempts in a row.
    pub(crate) fn failures(self) -> u32 {
        (self.0 >> STATE_BITS) as u32 & FAILURES_MAX
    }

    fn until(self) -> u64 {
        self.0 >> UNTIL_SHIFT
    }

    /// Wraps (see the module's page).
    fn turn(self) -> u64 {
        self.round() & TURN_MAX
    }

    /// The name of the round.
    fn round(self) -> u64 {
        self.0 >> TURN_SHIFT
    }

    /// The end of the pause; `None` without a pause.
    pub(crate) fn paused_until(self) -> Option<Time> {
        (self.state() == BreakerState::Paused).then(|| Time::from_steps(self.until()))
    }

    /// Whether an attempt may begin, and whether it would be a trial.
    pub(crate) fn may_begin(self, now: Time) -> Option<bool> {
        match self.state() {
            BreakerState::Closed => Some(false),
            BreakerState::Paused if Time::from_steps(self.until()) <= now => Some(true),
            BreakerState::Paused | BreakerState::Trying => None,
        }
    }

    fn pass(self) -> Pass {
        Pass { round: self.round(), is_trial: false }
    }

    /// A pause that ends later than the trial before it began, whatever the clock says.
    fn paused(self, failures: u32, until: Time) -> Self {
        let until = until.steps().max((self.until() + 1).min(STEPS_MAX));
        Self::new(BreakerState::Paused, failures, self.turn(), until)
    }

    fn closed(self) -> Self {
        Self::new(BreakerState::Closed, self.failures(), self.turn(), self.until())
    }

    /// A trial that begins a round of its own.
    fn trying(self, now: Time) -> Self {
        Self::new(BreakerState::Trying, self.failures(), self.turn() + 1, now.steps())
    }
}

/// The right to run an attempt. A trial must be ended by [`Breaker::succeeded`], [`Breaker::failed`] or
/// [`Breaker::abandoned`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) struct Pass {
    round: u64,
    is_trial: bool,
}

impl Pass {
    /// Whether it is the trial.
    pub(crate) fn is_trial(self) -> bool {
        self.is_trial
    }
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Breaker {
    word: AtomicU64,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU64::new(0) }
    }

    pub(crate) fn snapshot(&self) -> BreakerSnapshot {
        // Relaxed: see the module's page.
        BreakerSnapshot(self.word.load(Ordering::Relaxed))
    }

    /// One transition: `next` tells the word that follows the one it is given, or that there is none. Returns the
    /// words before and after, or the one that none follows.
    fn transition(
        &self,
        next: impl Fn(BreakerSnapshot) -> Option<BreakerSnapshot>,
    ) -> Result<(BreakerSnapshot, BreakerSnapshot), BreakerSnapshot> {
        let mut found = self.snapshot();
        loop {
            let left = next(found).ok_or(found)?;
            // Relaxed: see the module's page.
            match self.word.compare_exchange_weak(found.0, left.0, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok((found, left)),
                Err(word) => found = BreakerSnapshot(word),
            }
        }
    }

    /// Begins an attempt at a server that is up: any number while Closed, the trial after a pause.
    pub(crate) fn begin(&self, now: Time) -> Option<Pass> {
        match self.transition(|found| (found.may_begin(now) == Some(true)).then(|| found.trying(now))) {
            Ok((_, trying)) => Some(Pass { is_trial: true, ..trying.pass() }),
            Err(found) => (found.state() == BreakerState::Closed).then(|| found.pass()),
        }
    }

    /// The right of an attempt of the current round.
    pub(crate) fn pass(&self) -> Pass {
        self.snapshot().pass()
    }

    /// Begins the trial: after a pause, ahead of its end if told so, or at a server that is down. One wins (I1).
    pub(crate) fn begin_trial(&self, now: Time, ahead: bool) -> Option<Pass> {
        let (_, trying) = self
            .transition(|found| {
                let is_due = found.state() != BreakerState::Trying && (ahead || found.may_begin(now).is_some());
                is_due.then(|| found.trying(now))
            })
            .ok()?;
        Some(Pass { is_trial: true, ..trying.pass() })
    }

    /// The attempt connected. Fences: a load of the health that follows sees that the server went down, or the thread
    /// that took it down sees that no trial runs.
    pub(crate) fn succeeded(&self, pass: Pass) {
        let _ = self.transition(|found| pass.is_trial.then(|| found.closed()));
        // SeqCst: the word, then the health; pairs with the fence of `ServerSet::refresh`, which comes after the change
        // of the health and before this word is read.
        fence(Ordering::SeqCst);
    }

    /// A connection came back well: clears the failures, unless connecting pauses again.
    pub(crate) fn clear_failures(&self) {
        let _ = self.transition(|found| {
            let is_over = found.state() == BreakerState::Closed && found.failures() > 0;
            is_over.then(|| BreakerSnapshot::new(BreakerState::Closed, 0, found.turn(), found.until()))
        });
    }

    /// The attempt failed. `until` tells when the pause ends after that many failures in a row. Returns the word if
    /// that began a pause (I3).
    pub(crate) fn failed(&self, pass: Pass, until: impl Fn(u32) -> Time) -> Option<BreakerSnapshot> {
        let failed = self.transition(|found| {
            let counts = match found.state() {
                BreakerState::Trying => pass.is_trial,
                BreakerState::Closed => !pass.is_trial && found.round() == pass.round,
                BreakerState::Paused => false,
            };
            let failures = (found.failures() + 1).min(FAILURES_MAX);
            counts.then(|| found.paused(failures, until(failures)))
        });
        failed.ok().map(|(_, left)| left)
    }

    /// The attempt ended without an answer to whether the server accepts connections. Returns the word if it was the
    /// trial: the pause goes on.
    pub(crate) fn abandoned(&self, pass: Pass, until: Time) -> Option<BreakerSnapshot> {
        let abandoned = self.transition(|found| pass.is_trial.then(|| found.paused(found.failures(), until)));
        abandoned.ok().map(|(_, left)| left)
    }
}

#[cfg(test)]
mod tests {
    use super::{Breaker, BreakerState, Time};

    fn at(steps: u64) -> Time {
        Time::from_steps(steps)
    }

    #[test]
    fn pauses_tries_and_closes() {
        let breaker = Breaker::new();
        let pass = breaker.begin(at(0)).expect("it is closed");
        let paused = breaker.failed(pass, |failures| at(10 * u64::from(failures))).expect("the first failure");
        assert_eq!((paused.state(), paused.failures(), paused.paused_until()), (BreakerState::Paused, 1, Some(at(10))));
        assert_eq!(breaker.begin(at(9)), None);
        let trial = breaker.begin(at(10)).expect("it is due");
        assert!(trial.is_trial());
        assert_eq!((breaker.begin(at(10)), breaker.begin_trial(at(10), true)), (None, None), "one trial");
        let paused = breaker.failed(trial, |failures| at(10 * u64::from(failures))).expect("it is the trial");
        assert_eq!((paused.failures(), paused.paused_until()), (2, Some(at(20))));
        let trial = breaker.begin_trial(at(20), false).expect("it is due");
        breaker.clear_failures();
        breaker.succeeded(trial);
        assert_eq!((breaker.snapshot().state(), breaker.snapshot().failures()), (BreakerState::Closed, 2));
        breaker.clear_failures();
        assert_eq!((breaker.snapshot().state(), breaker.snapshot().failures()), (BreakerState::Closed, 0));
    }

    #[test]
    fn attempts_of_one_round_that_fail_count_once() {
        let breaker = Breaker::new();
        let passes = [(); 3].map(|()| breaker.begin(at(0)).expect("it is closed"));
        assert!(breaker.failed(passes[0], |_| at(10)).is_some());
        assert_eq!(breaker.failed(passes[1], |_| at(99)), None);
        let trial = breaker.begin(at(10)).expect("it is due");
        breaker.succeeded(passes[2]);
        assert_eq!(breaker.failed(passes[2], |_| at(99)), None, "an older round");
        assert_eq!(breaker.snapshot().state(), BreakerState::Trying);
        breaker.succeeded(trial);
        assert_eq!(breaker.failed(passes[1], |_| at(99)), None, "an older round");
        assert!(breaker.failed(breaker.pass(), |_| at(99)).is_some());
    }

    #[test]
    fn a_trial_begins_a_round_of_its_own_in_the_same_step_too() {
        let breaker = Breaker::new();
        for _ in 0..3 {
            let [first, late] = [(); 2].map(|()| breaker.begin(at(7)).expect("it is closed"));
            assert!(breaker.failed(first, |_| at(100)).is_some());
            breaker.succeeded(breaker.begin_trial(at(7), true).expect("ahead of the end of the pause"));
            assert_eq!(breaker.failed(late, |_| at(100)), None, "an older round");
        }
        let late = breaker.begin(at(7)).expect("it is closed");
        breaker.succeeded(breaker.begin_trial(at(7), false).expect("a server that is down needs no pause"));
        assert_eq!(breaker.failed(late, |_| at(100)), None, "an older round");
    }

    #[test]
    fn an_abandoned_trial_pauses_again_and_counts_no_failure() {
        let breaker = Breaker::new();
        let trial = breaker.begin_trial(at(0), false).expect("a trial at a server that is down needs no pause");
        let paused = breaker.abandoned(trial, at(5)).expect("it was the trial");
        assert_eq!((paused.failures(), paused.paused_until()), (0, Some(at(5))));
        let ahead = breaker.begin_trial(at(2), true).expect("ahead of the end of the pause");
        breaker.succeeded(ahead);
        let round = breaker.begin(at(3)).expect("it is closed");
        assert_eq!(breaker.abandoned(round, at(9)), None);
        assert!(
            breaker.failed(round, |_| at(4)).expect("it counts").paused_until() < Some(at(5)),
            "the pause is its own"
        );
    }

    #[test]
    fn each_trial_begins_a_round_of_its_own_whatever_the_clock_says() {
        let breaker = Breaker::new();
        breaker.succeeded(breaker.begin_trial(at(5), false).expect("it is closed"));
        for _ in 0..1_000 {
            let [first, late] = [(); 2].map(|()| breaker.pass());
            let paused = breaker.failed(first, |_| at(0)).expect("the first failure");
            assert_eq!(paused.paused_until(), Some(at(6)), "a step after the trial at the earliest");
            breaker.succeeded(breaker.begin_trial(at(5), true).expect("ahead of the end of the pause"));
            assert_eq!(breaker.failed(late, |_| at(0)), None);
            breaker.succeeded(breaker.begin_trial(at(5), true).expect("it is closed"));
        }
        assert_eq!(format!("{:?}", breaker.snapshot()), format!("Closed(511, until {:?})", at(5)));
    }
}
