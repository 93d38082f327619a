//! Compares the breaker with a state machine of plain enums that implements the transitions of its page.
//!
//! The word's format adds documented limits: times are rounded up to 10 µs, a pause ends at least one such step after
//! the trial before it began, the count of failures stops at 511, and a round is told apart from the 255 before it that
//! began at one reading of the clock.

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::{Breaker, BreakerState, Pass, Time};

const STEP_NS: u64 = 10_000;
const MAX_STEPS: u64 = (1 << 45) - 1;
const TEN_YEARS_NS: u64 = 10 * 365 * 24 * 3_600 * 1_000_000_000;
const MAX_FAILURES: u32 = 511;
const ROUNDS: u64 = 256;
const MAX_OPS: usize = 1_000;
const MAX_PASSES: usize = 64;

#[derive(Debug, Arbitrary)]
struct Case {
    /// The pause for each failure is 2 to this power, in nanoseconds.
    backoff: u8,
    ops: Vec<Op>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Op {
    Begin,
    /// Takes the right of an attempt in any state.
    Pass,
    BeginTrial(bool),
    Succeeds(u8),
    Fails(u8),
    IsAbandoned(u8),
    TrialSucceeds,
    TrialFails,
    TrialIsAbandoned,
    Forward(u16, u8),
    Backward(u16, u8),
    /// Sets the clock to the end of the pause plus an offset in nanoseconds.
    ToEnd(i16),
    /// This many trials in a row fail, each at the end of the pause.
    FailOn(u8),
    /// A connection comes back well.
    Answers,
}

/// The states of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    Closed,
    Paused { until: u64 },
    Trying,
}

struct Run {
    breaker: Breaker,
    model: Model,
    failures: u32,
    /// How many trials began.
    round: u64,
    /// When the last trial began, in steps.
    began: u64,
    backoff: u8,
    now_ns: u64,
    trial: Option<Pass>,
    /// The attempts that are no trials, each with its round.
    passes: Vec<(Pass, u64)>,
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let mut run = Run {
        breaker: Breaker::new(),
        model: Model::Closed,
        failures: 0,
        round: 0,
        began: 0,
        backoff: case.backoff % 64,
        now_ns: 0,
        trial: None,
        passes: Vec::new(),
    };
    for op in case.ops.into_iter().take(MAX_OPS) {
        run.step(op);
        run.check();
    }
}

impl Run {
    fn step(&mut self, op: Op) {
        match op {
            Op::Begin => self.begin(),
            Op::Pass => self.remember(self.breaker.pass()),
            Op::BeginTrial(ahead) => self.begin_trial(ahead),
            Op::Succeeds(which) => {
                if let Some((pass, _)) = self.attempt(which) {
                    let before = self.breaker.snapshot();
                    self.breaker.succeeded(pass);
                    assert_eq!(self.breaker.snapshot(), before, "only a trial closes the breaker");
                }
            }
            Op::Fails(which) => self.fails(which),
            Op::IsAbandoned(which) => {
                if let Some((pass, _)) = self.attempt(which) {
                    assert_eq!(self.breaker.abandoned(pass, self.now()), None, "only a trial pauses again");
                }
            }
            Op::TrialSucceeds => {
                if let Some(trial) = self.trial.take() {
                    self.breaker.succeeded(trial);
                    self.model = Model::Closed;
                }
            }
            Op::Answers => {
                self.breaker.clear_failures();
                if self.model == Model::Closed {
                    self.failures = 0;
                }
            }
            Op::TrialFails => self.trial_fails(),
            Op::TrialIsAbandoned => {
                if let Some(trial) = self.trial.take() {
                    let until = self.pause(1);
                    let paused = self.breaker.abandoned(trial, until);
                    self.pauses(self.failures, until);
                    assert_eq!(paused, Some(self.breaker.snapshot()));
                }
            }
            Op::Forward(by, exponent) => self.set_clock(self.now_ns.saturating_add(u64::from(by) << (exponent % 44))),
            Op::Backward(by, exponent) => self.set_clock(self.now_ns.saturating_sub(u64::from(by) << (exponent % 44))),
            Op::ToEnd(by) => {
                if let Model::Paused { until } = self.model {
                    self.set_clock((until * STEP_NS).saturating_add_signed(by.into()));
                }
            }
            Op::FailOn(times) => {
                for _ in 0..times {
                    self.step(Op::ToEnd(0));
                    self.begin_trial(false);
                    self.trial_fails();
                }
            }
        }
    }

    fn set_clock(&mut self, now_ns: u64) {
        self.now_ns = now_ns.min(TEN_YEARS_NS);
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.now_ns)
    }

    /// The end of the pause after that many failures in a row: a wrong number shows.
    fn pause(&self, failures: u32) -> Time {
        let pause = u64::try_from(u128::from(failures) << self.backoff).unwrap_or(u64::MAX);
        Time::from_nanos(self.now_ns.saturating_add(pause))
    }

    fn attempt(&self, which: u8) -> Option<(Pass, u64)> {
        self.passes.get(usize::from(which) % self.passes.len().max(1)).copied()
    }

    fn remember(&mut self, pass: Pass) {
        assert!(!pass.is_trial());
        if self.passes.len() == MAX_PASSES {
            let _ = self.passes.remove(0);
        }
        self.passes.push((pass, self.round));
    }

    fn is_due(&self) -> bool {
        matches!(self.model, Model::Paused { until } if until * STEP_NS <= self.now_ns)
    }

    fn begin(&mut self) {
        let begun = self.breaker.begin(self.now());
        match begun {
            Some(pass) if pass.is_trial() => {
                assert!(self.is_due(), "a trial begins after a pause");
                self.trial_begins(pass);
            }
            Some(pass) => {
                assert_eq!(self.model, Model::Closed);
                self.remember(pass);
            }
            None => assert!(self.model != Model::Closed && !self.is_due()),
        }
    }

    fn begin_trial(&mut self, ahead: bool) {
        let begun = self.breaker.begin_trial(self.now(), ahead);
        let may = match self.model {
            Model::Closed => true,
            Model::Paused { .. } => ahead || self.is_due(),
            Model::Trying => false,
        };
        assert_eq!(begun.is_some(), may);
        if let Some(pass) = begun {
            self.trial_begins(pass);
        }
    }

    fn trial_begins(&mut self, pass: Pass) {
        assert!(pass.is_trial() && self.trial.is_none(), "one trial at a time");
        (self.model, self.trial) = (Model::Trying, Some(pass));
        (self.round, self.began) = (self.round + 1, self.now_ns.div_ceil(STEP_NS));
        let round = self.round;
        self.passes.retain(|(_, begun)| begun + ROUNDS > round);
    }

    fn pauses(&mut self, failures: u32, until: Time) {
        let until = until.as_nanos().div_ceil(STEP_NS).min(MAX_STEPS).max(self.began + 1);
        (self.model, self.failures) = (Model::Paused { until }, failures);
    }

    fn fails_again(&mut self) {
        let failures = (self.failures + 1).min(MAX_FAILURES);
        self.pauses(failures, self.pause(failures));
    }

    fn fails(&mut self, which: u8) {
        let Some((pass, round)) = self.attempt(which) else { return };
        let paused = self.breaker.failed(pass, |failures| self.pause(failures));
        let counts = self.model == Model::Closed && round == self.round;
        assert_eq!(paused.is_some(), counts, "failures of one round count once, those of an older one not at all");
        if counts {
            self.fails_again();
        }
    }

    fn trial_fails(&mut self) {
        if let Some(trial) = self.trial.take() {
            let paused = self.breaker.failed(trial, |failures| self.pause(failures));
            self.fails_again();
            assert_eq!(paused, Some(self.breaker.snapshot()));
        }
    }

    fn check(&self) {
        let snapshot = self.breaker.snapshot();
        let (state, until) = match self.model {
            Model::Closed => (BreakerState::Closed, None),
            Model::Paused { until } => (BreakerState::Paused, Some(Time::from_nanos(until * STEP_NS))),
            Model::Trying => (BreakerState::Trying, None),
        };
        assert_eq!((snapshot.state(), snapshot.failures()), (state, self.failures), "{:?}", self.model);
        assert_eq!(snapshot.paused_until(), until);
        let may = if self.model == Model::Closed { Some(false) } else { self.is_due().then_some(true) };
        assert_eq!(snapshot.may_begin(self.now()), may);
    }
}
