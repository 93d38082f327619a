//! Compares the token bucket with an exact token bucket.
//!
//! The reference counts in units small enough that a nanosecond and a token are both whole numbers of them, for any
//! rate. So it rounds nothing. The bucket counts in units of 2⁻ᵏ tokens, 4 to 8 a nanosecond. Its decisions may differ
//! from the reference only within its rounding errors:
//!
//! - It may grant *late*, by at most 2 of its units (half a nanosecond): an idle bucket restarts at the current time
//!   rounded up to a unit, and a request uses the current time rounded down.
//! - It may grant *early*, by its drift of 2⁻⁶¹ units for each nanosecond of uptime, and twice that in total: its
//!   nanosecond is too long by less than one part in 2⁶³.
//! - A successor adds the same errors again, in its predecessor's units and in its own.
//!
//! Within these errors the reference follows the bucket's decision, so that errors do not accumulate unnoticed.

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::{Bucket, MAX_RPS, MIN_RPS, Rate, Receipt, Time};

/// The end of the bucket's time range, after 18 years.
const HORIZON_NS: u64 = 1 << 59;
const MAX_OPS: usize = 400;
const MAX_GRANTS: usize = 600;

#[derive(Debug, Arbitrary)]
struct Case {
    rate: Request,
    ops: Vec<Op>,
}

/// A requested rate and burst, valid or not.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Request {
    rps: Rps,
    burst: Burst,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Rps {
    /// A power of ten, from 10⁻⁶ to 10⁹.
    Decimal(u8),
    /// A fraction of small numbers.
    Ratio(u16, u16),
    /// Any value within the valid range, chosen by the bits of its float.
    Within(u64),
    /// Any value.
    Any(f64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Burst {
    Small(u8),
    Any(u32),
    /// The largest valid burst, plus this number.
    Most(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Op {
    Take,
    TakeMany(u8),
    Undo(u8),
    Forward(Step),
    Backward(Step),
    /// Sets the clock to the end of the time range, minus a step.
    ToHorizon(Step),
    /// Sets the clock to the largest `u64`, minus a step.
    ToEnd(Step),
    /// Sets the clock to the time of the next token according to the bucket, or a nanosecond before or after it.
    ToToken(u8),
    /// Takes this many tokens, each at the first nanosecond at which it is available.
    TakeEachAtOnce(u8),
    Retune(Request),
}

/// A time of any magnitude: mantissa and binary exponent.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Step(u16, u8);

impl Step {
    fn nanos(self) -> u64 {
        u64::from(self.0) << (self.1 % 44)
    }
}

impl Request {
    fn numbers(self) -> (f64, u32) {
        let rps = match self.rps {
            Rps::Decimal(exponent) => 10f64.powi(i32::from(exponent % 16) - 6),
            Rps::Ratio(over, under) => f64::from(over) / f64::from(under),
            Rps::Within(bits) => {
                let (low, high) = (MIN_RPS.to_bits(), MAX_RPS.to_bits());
                f64::from_bits(low + bits % (high - low + 1))
            }
            Rps::Any(rps) => rps,
        };
        let burst = match self.burst {
            Burst::Small(burst) => u32::from(burst),
            Burst::Any(burst) => burst,
            Burst::Most(more) => Rate::max_burst(rps).saturating_add(u32::from(more)),
        };
        (rps, burst)
    }

    /// Returns the rate and its exact reference, or `None` if the documented range excludes the request.
    fn rate(self) -> Option<(Rate, Exact)> {
        let (rps, burst) = self.numbers();
        let in_18_years = rps * (HORIZON_NS as f64 / 1e9);
        let is_valid = (MIN_RPS..=MAX_RPS).contains(&rps) && burst >= 1 && f64::from(burst) <= in_18_years;
        let rate = Rate::new(rps, burst);
        assert_eq!(rate.is_some(), is_valid, "{rps} rps, burst {burst}");
        rate.map(|rate| {
            assert_eq!(rate.rps(), rps);
            (rate, Exact::new(rps, burst))
        })
    }
}

/// The exact token bucket: its level after the last take, and the time of that take.
#[derive(Debug, Clone, Copy)]
struct Exact {
    /// By how much the level rises in a nanosecond.
    each_ns: i128,
    token: i128,
    burst: i128,
    /// One unit of the bucket under test.
    unit: i128,
    level: i128,
    at_ns: u64,
    /// The latest time that was passed to the bucket.
    latest_ns: u64,
    /// By how much the bucket may grant too late, and, without its drift, too early.
    late: i128,
    early: i128,
}

impl Exact {
    /// Returns a full bucket. With `rps = m / 2ˢ` the level rises by `m` in a nanosecond, and a token is 10⁹ × 2ˢ,
    /// below 2¹⁰³.
    fn new(rps: f64, burst: u32) -> Self {
        let bits = rps.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023 - 52;
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let token = 1_000_000_000_i128 << -exponent;
        // The bucket's unit: a token divided by the least power of two that gives at least four units a nanosecond.
        let mut unit = token;
        while unit * 4 > i128::from(mantissa) {
            unit /= 2;
        }
        let burst = token * i128::from(burst);
        Self {
            each_ns: mantissa.into(),
            token,
            burst,
            unit,
            level: burst,
            at_ns: 0,
            latest_ns: 0,
            late: 2 * unit,
            early: 0,
        }
    }

    fn level(&self, now_ns: u64) -> i128 {
        let now_ns = now_ns.min(HORIZON_NS);
        (self.level + self.each_ns * (i128::from(now_ns) - i128::from(self.at_ns))).min(self.burst)
    }

    /// Returns how far the bucket's clock may be ahead at the latest time passed to it.
    fn drift(&self) -> i128 {
        ((i128::from(self.latest_ns) * self.unit) >> 61) + 1
    }

    /// Returns whether a token must be available, or `None` if the rounding allows both decisions.
    fn expects_token(&mut self, now_ns: u64) -> Option<bool> {
        self.latest_ns = self.latest_ns.max(now_ns.min(HORIZON_NS));
        let more = self.level(now_ns) - self.token;
        if more >= self.late {
            Some(true)
        } else if more < -(self.early + 2 * self.drift()) {
            Some(false)
        } else {
            None
        }
    }

    fn take(&mut self, now_ns: u64) {
        self.level = self.level(now_ns) - self.token;
        self.at_ns = now_ns.min(HORIZON_NS);
    }

    /// Returns the exact successor, which inherits the remaining tokens up to its burst.
    fn successor(&self, mut next: Self, now_ns: u64) -> Self {
        // A token is 10⁹ × 2ˢ, so the two units differ by a power of two.
        let convert = |amount: i128| {
            if next.token > self.token {
                amount * (next.token / self.token)
            } else {
                amount / (self.token / next.token)
            }
        };
        // After the clock went backwards the level may be negative.
        let left = self.level(now_ns).max(0);
        let is_full = left / self.token >= next.burst / next.token;
        let level = if is_full { next.burst } else { convert(left) };
        let late = next.late + convert(self.late) + 2 * next.unit + 1;
        let early = convert(self.early + 2 * self.drift()) + 1;
        next.at_ns = now_ns.min(HORIZON_NS);
        Self { level, late, early, latest_ns: self.latest_ns.max(next.at_ns), ..next }
    }
}

struct Run {
    bucket: Bucket,
    exact: Exact,
    now_ns: u64,
    /// Takes that were not undone, oldest first: the number of each take, and the reference before it.
    taken: Vec<(u64, Exact)>,
    receipts: Vec<(u64, Receipt)>,
    next_number: u64,
    /// The numbers and times of the takes that were not undone.
    grants: Vec<(u64, u64)>,
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let Some((rate, exact)) = case.rate.rate() else { return };
    let mut run = Run {
        bucket: Bucket::new(rate),
        exact,
        now_ns: 0,
        taken: Vec::new(),
        receipts: Vec::new(),
        next_number: 0,
        grants: Vec::new(),
    };
    for op in case.ops.into_iter().take(MAX_OPS) {
        run.step(op);
    }
    run.check_windows();
}

impl Run {
    fn step(&mut self, op: Op) {
        match op {
            Op::Take => self.take(),
            Op::TakeMany(count) => (0..count).for_each(|_| self.take()),
            Op::Undo(which) => self.undo(which),
            Op::Forward(step) => self.now_ns = self.now_ns.saturating_add(step.nanos()),
            Op::Backward(step) => self.now_ns = self.now_ns.saturating_sub(step.nanos()),
            Op::ToHorizon(step) => self.now_ns = HORIZON_NS.saturating_sub(step.nanos()),
            Op::ToEnd(step) => self.now_ns = u64::MAX - step.nanos(),
            Op::ToToken(more) => {
                self.now_ns = self.bucket.available_at().as_nanos().saturating_add_signed(i64::from(more % 3) - 1)
            }
            Op::TakeEachAtOnce(count) => {
                for _ in 0..count {
                    self.now_ns = self.now_ns.max(self.bucket.available_at().as_nanos());
                    self.take();
                }
            }
            Op::Retune(request) => self.retune(request),
        }
        self.check_available_at();
    }

    fn now(&self) -> Time {
        Time::from_nanos(self.now_ns)
    }

    fn take(&mut self) {
        if self.grants.len() >= MAX_GRANTS {
            return;
        }
        let expected = self.exact.expects_token(self.now_ns);
        let hint = self.bucket.has_token(self.now_ns);
        let receipt = self.bucket.take(self.now_ns);
        assert_eq!(hint, receipt.is_some(), "without other threads the hint is exact");
        let Some(receipt) = receipt else {
            assert_ne!(expected, Some(true), "a token is available at {}: {:?}", self.now_ns, self.exact);
            return;
        };
        assert_ne!(expected, Some(false), "no token is available at {}: {:?}", self.now_ns, self.exact);
        let number = self.next_number;
        self.next_number += 1;
        self.taken.push((number, self.exact));
        self.receipts.push((number, receipt));
        self.grants.push((number, self.now_ns.min(HORIZON_NS)));
        self.exact.take(self.now_ns);
    }

    /// Undoes a take. The undo is exact if no other take came since; otherwise it does nothing, and the token is
    /// forfeited.
    fn undo(&mut self, which: u8) {
        if self.receipts.is_empty() {
            return;
        }
        // Counts from the latest take, because only that one can be undone.
        let index = self.receipts.len() - 1 - usize::from(which) % self.receipts.len();
        let (number, receipt) = self.receipts.remove(index);
        let is_latest = self.taken.last().is_some_and(|(latest, _)| *latest == number);
        assert_eq!(self.bucket.undo(receipt), is_latest, "take {number}");
        if is_latest {
            let before = self.taken.pop().expect("a take exists").1;
            self.exact = Exact { latest_ns: self.exact.latest_ns, ..before };
            self.grants.retain(|(taken, _)| *taken != number);
        }
    }

    fn retune(&mut self, request: Request) {
        let Some((rate, exact)) = request.rate() else { return };
        self.check_windows();
        let next = self.bucket.successor(rate, self.now());
        self.exact = self.exact.successor(exact, self.now_ns);
        let old = std::mem::replace(&mut self.bucket, next);
        assert!(old.take(u64::MAX).is_none() && !old.has_token(u64::MAX), "the old bucket is retired");
        assert_eq!(old.available_at(), u64::MAX);
        for (_, receipt) in self.receipts.drain(..) {
            assert!(!old.undo(receipt), "a retired bucket accepts no undo");
        }
        self.taken.clear();
        self.grants.clear();
    }

    /// Checks that `available_at` returns the first time at which a token is available.
    fn check_available_at(&self) {
        let has_token = |at_ns| self.bucket.has_token(Time::from_nanos(at_ns));
        let at_ns = self.bucket.available_at().as_nanos();
        if at_ns > HORIZON_NS {
            assert!(!self.bucket.has_token(u64::MAX), "`available_at` is beyond the range, but a token is available");
            return;
        }
        assert!(self.bucket.has_token(at_ns), "no token is available at {at_ns}");
        assert!(at_ns == 0 || !self.bucket.has_token(at_ns - 1), "a token is available before {at_ns}");
    }

    /// Checks that no window of length `T` has more than `burst + rate × T` grants, plus the drift.
    fn check_windows(&self) {
        let mut times: Vec<u64> = self.grants.iter().map(|(_, at_ns)| *at_ns).collect();
        times.sort_unstable();
        let Exact { each_ns, token, burst, .. } = self.exact;
        for (first, from_ns) in times.iter().enumerate() {
            for (last, to_ns) in times.iter().enumerate().skip(first) {
                let grants = (last - first + 1) as i128;
                let quota = burst + each_ns * i128::from(to_ns - from_ns) + 2 * self.exact.drift();
                assert!(grants * token <= quota, "{grants} grants from {from_ns} to {to_ns}: {:?}", self.exact);
            }
        }
    }
}
