//! Compares the health word with a state machine of plain enums that implements the transitions of the design.
//!
//! The word's format adds documented limits: times are rounded up to 10 µs, each outage is retried at least one such
//! step later than the previous one, and the count of failures stops at 511. The clock stays within the ten years in
//! which outage numbers are unique.

use std::cell::Cell;

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::{Health, HealthState, Outage, Probe, ProbeOwner, Reported, Snapshot, Time};

const STEP_NS: u64 = 10_000;
const TEN_YEARS_NS: u64 = 10 * 365 * 24 * 3_600 * 1_000_000_000;
const MAX_FAILURES: u32 = 511;
const MAX_OPS: usize = 1_000;
const MAX_OUTAGES: usize = 64;

#[derive(Debug, Arbitrary)]
struct Case {
    threshold: u8,
    /// The backoff for each failure is 2 to this power, in nanoseconds.
    backoff: u8,
    ops: Vec<Op>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Op {
    /// An attempt begins in any state and remembers the outage number.
    Connect,
    ConnectFails(u8),
    Fail(u8),
    Release(u8),
    ProbeBegins,
    ProbeSucceeds,
    ProbeFails,
    ProbeIsDropped,
    Forward(u16, u8),
    Backward(u16, u8),
    /// Sets the clock to the retry time plus an offset in nanoseconds.
    ToRetry(i16),
    /// Fails this many probes in a row, each at its retry time.
    FailOn(u8),
}

/// The states of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Model {
    Up { strikes: u32 },
    Recovering { failures: u32 },
    Down { failures: u32 },
    Probing { failures: u32 },
}

/// Owns the health word, like a server.
struct Owner {
    health: Health,
    retry_after_drop: Cell<Time>,
    drops: Cell<u32>,
}

impl ProbeOwner for &Owner {
    fn health(&self) -> &Health {
        &self.health
    }

    fn retry_at_after_drop(&self) -> Time {
        self.retry_after_drop.get()
    }

    fn probe_dropped(&self, down: Snapshot) {
        assert_eq!(down, self.health.snapshot(), "the server is down before the owner is notified");
        self.drops.set(self.drops.get() + 1);
    }
}

struct Run<'a> {
    owner: &'a Owner,
    model: Model,
    threshold: u32,
    backoff: u8,
    now_ns: u64,
    /// The outage number of the reference: how often the server went down.
    downs: u64,
    /// The retry time of the last outage.
    retry_ns: u64,
    probe: Option<Probe<&'a Owner>>,
    /// The outages in which attempts began: the number of `raw`, and that of the reference.
    outages: Vec<(Outage, u64)>,
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let owner = Owner { health: Health::new(), retry_after_drop: Cell::new(Time::ZERO), drops: Cell::new(0) };
    let first = owner.health.snapshot().outage();
    let mut run = Run {
        owner: &owner,
        model: Model::Up { strikes: 0 },
        threshold: u32::from(case.threshold.max(1)),
        backoff: case.backoff % 52,
        now_ns: 0,
        downs: 0,
        retry_ns: 0,
        probe: None,
        outages: vec![(first, 0)],
    };
    for op in case.ops.into_iter().take(MAX_OPS) {
        run.step(op);
        run.check();
    }
    // A remaining probe is dropped without a result.
    let probe = run.probe.take();
    run.drop_probe(probe);
    run.check();
}

impl<'a> Run<'a> {
    fn step(&mut self, op: Op) {
        match op {
            Op::Connect => {
                if self.outages.len() == MAX_OUTAGES {
                    self.outages.remove(1);
                }
                self.outages.push((self.owner.health.snapshot().outage(), self.downs));
            }
            Op::ConnectFails(which) => self.connect_fails(which),
            Op::Fail(which) => self.fail(which),
            Op::Release(which) => self.release(which),
            Op::ProbeBegins => self.probe_begins(),
            Op::ProbeSucceeds => {
                if let (Some(probe), Model::Probing { failures }) = (self.probe.take(), self.model) {
                    probe.succeeded();
                    self.model = Model::Recovering { failures };
                }
            }
            Op::ProbeFails => self.probe_fails(),
            Op::ProbeIsDropped => {
                let probe = self.probe.take();
                self.drop_probe(probe);
            }
            Op::Forward(by, exponent) => self.set_clock(self.now_ns.saturating_add(u64::from(by) << (exponent % 44))),
            Op::Backward(by, exponent) => self.set_clock(self.now_ns.saturating_sub(u64::from(by) << (exponent % 44))),
            Op::ToRetry(by) => self.set_clock(self.retry_ns.saturating_add_signed(by.into())),
            Op::FailOn(times) => {
                for _ in 0..times {
                    self.set_clock(self.retry_ns);
                    self.probe_begins();
                    self.probe_fails();
                }
            }
        }
    }

    fn set_clock(&mut self, now_ns: u64) {
        self.now_ns = now_ns.min(TEN_YEARS_NS);
    }

    /// Returns the retry time as a function of the failures in a row. `raw` must pass the right number.
    fn backoff_ends(now_ns: u64, backoff: u8) -> impl Fn(u32) -> u64 {
        move |failures| now_ns + (u64::from(failures) << backoff)
    }

    fn retry(&self) -> impl Fn(u32) -> Time + use<'a> {
        Self::backoff_ends(self.now_ns, self.backoff)
    }

    fn goes_down(&mut self, failures: u32, retry_ns: u64) {
        let failures = failures.min(MAX_FAILURES);
        self.model = Model::Down { failures };
        self.retry_ns = (retry.as_nanos().div_ceil(STEP_NS) * STEP_NS).max(self.retry_ns + STEP_NS);
        self.downs += 1;
    }

    /// Takes the server down with one failure more than `failures`.
    fn fails_again(&mut self, failures: u32) {
        let failures = (failures + 1).min(MAX_FAILURES);
        let retry_ns = self.retry()(failures);
        self.goes_down(failures, retry_ns);
    }

    fn outage(&self, which: u8) -> (Outage, bool) {
        let (outage, downs) = self.outages[usize::from(which) % self.outages.len()];
        (outage, downs == self.downs)
    }

    fn connect_fails(&mut self, which: u8) {
        let (outage, is_current) = self.outage(which);
        let down = self.owner.health.connect_failed(outage, self.retry());
        let counts = is_current && matches!(self.model, Model::Up { .. } | Model::Recovering { .. });
        assert_eq!(down.is_some(), counts, "whether the failure takes the server down");
        match self.model {
            Model::Up { .. } if counts => self.fails_again(0),
            Model::Recovering { failures } if counts => self.fails_again(failures),
            _ => {}
        }
    }

    fn fail(&mut self, which: u8) {
        let (outage, is_current) = self.outage(which);
        let reported = self.owner.health.reported(outage, self.threshold, self.retry());
        let is_down = match self.model {
            Model::Up { strikes } if is_current && strikes + 1 < self.threshold => {
                self.model = Model::Up { strikes: strikes + 1 };
                return assert_eq!(reported, Reported::Strike);
            }
            Model::Up { .. } if is_current => {
                self.fails_again(0);
                true
            }
            Model::Recovering { failures } if is_current => {
                self.fails_again(failures);
                true
            }
            _ => false,
        };
        match reported {
            Reported::Down(_) => assert!(is_down, "an ignorable failure took the server down"),
            Reported::Ignored => assert!(!is_down, "a failure that must take the server down was ignored"),
            Reported::Strike => panic!("the failure counted as a strike"),
        }
    }

    fn release(&mut self, which: u8) {
        let (outage, is_current) = self.outage(which);
        let ended_recovery = self.owner.health.released(outage);
        let is_recovering = matches!(self.model, Model::Recovering { .. });
        assert_eq!(
            ended_recovery,
            is_recovering && is_current,
            "only the first release after the probe ends the recovery"
        );
        if is_current && matches!(self.model, Model::Up { .. } | Model::Recovering { .. }) {
            self.model = Model::Up { strikes: 0 };
        }
    }

    fn probe_begins(&mut self) {
        let probe = Probe::begin(self.owner, Time::from_nanos(self.now_ns));
        let is_due = matches!(self.model, Model::Down { .. }) && self.now_ns >= self.retry_ns;
        assert_eq!(probe.is_some(), is_due, "a probe begins if and only if the retry is due");
        if let (Some(probe), Model::Down { failures }) = (probe, self.model) {
            assert_eq!(probe.outage(), self.owner.health.snapshot().outage());
            self.model = Model::Probing { failures };
            self.probe = Some(probe);
        }
    }

    fn probe_fails(&mut self) {
        if let (Some(probe), Model::Probing { failures }) = (self.probe.take(), self.model) {
            let down = probe.failed(self.retry());
            assert_eq!(down, self.owner.health.snapshot());
            self.fails_again(failures);
        }
    }

    /// Drops a probe, which is not a failure: the retry is due after the initial interval.
    fn drop_probe(&mut self, probe: Option<Probe<&'a Owner>>) {
        if let (Some(probe), Model::Probing { failures }) = (probe, self.model) {
            let (retry, drops) = (self.retry()(1), self.owner.drops.get());
            self.owner.retry_after_drop.set(retry);
            drop(probe);
            assert_eq!(self.owner.drops.get(), drops + 1, "the owner is notified");
            self.goes_down(failures, retry_ns);
        }
    }

    fn check(&self) {
        let snapshot = self.owner.health.snapshot();
        let (state, failures) = match self.model {
            Model::Up { .. } => (HealthState::Up, 0),
            Model::Recovering { failures } => (HealthState::Recovering, failures),
            Model::Down { failures } => (HealthState::Down, failures),
            Model::Probing { failures } => (HealthState::Probing, failures),
        };
        assert_eq!((snapshot.state(), snapshot.failures()), (state, failures), "{:?}", self.model);
        assert_eq!(snapshot.retry_at(), Time::from_nanos(self.retry_ns), "{:?}", self.model);
        let serves = matches!(self.model, Model::Up { .. } | Model::Recovering { .. });
        assert_eq!(snapshot.is_up(), serves);
        let blemished = matches!(self.model, Model::Recovering { .. } | Model::Up { strikes: 1.. });
        for (outage, downs) in &self.outages {
            let is_current = *downs == self.downs;
            assert_eq!(snapshot.outage() == *outage, is_current, "each outage has its own number");
            assert_eq!(snapshot.is_changed_by_release(*outage), blemished && is_current, "{:?}", self.model);
        }
    }
}
