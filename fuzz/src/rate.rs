//! The bucket against an exact token bucket.
//!
//! The reference counts in units of which a nanosecond brings a whole number and a token is a whole number, whatever
//! the rate: nothing is rounded. The bucket counts in units of 2⁻ᵏ tokens, 4 to 8 a nanosecond, and may decide
//! otherwise only so near to the boundary as its rounding explains:
//!
//! - It may grant *late*, by at most 2 of its units (half a nanosecond): an idle bucket restarts at now rounded up to a
//!   unit, and a token is asked for at now rounded down.
//! - It may grant *early* by its drift, 2⁻⁶¹ units for each nanosecond of uptime and twice that in all: its
//!   nanosecond is too long by less than one part in 2⁶³.
//! - A successor adds as much again, in its predecessor's units and in its own.
//!
//! Where the two may differ the reference follows the bucket, so that no error hides behind another.

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::{Bucket, MAX_RPS, MIN_RPS, Rate, Receipt, Time};

/// The time up to which the bucket counts: 18 years.
const HORIZON_NS: u64 = 1 << 59;
const MAX_OPS: usize = 400;
const MAX_GRANTS: usize = 600;

#[derive(Debug, Arbitrary)]
struct Case {
    rate: Wish,
    ops: Vec<Op>,
}

/// A rate and a burst that are asked for.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Wish {
    rps: Rps,
    burst: Burst,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Rps {
    /// A power of ten, from 10⁻⁶ to 10⁹.
    Decimal(u8),
    /// A fraction of small numbers.
    Ratio(u16, u16),
    /// Anything within the range, as bits of a float between its ends.
    Within(u64),
    /// Anything.
    Any(f64),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Burst {
    Small(u8),
    Any(u32),
    /// The greatest, plus so many.
    Most(u8),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Op {
    Take,
    TakeMany(u8),
    Undo(u8),
    Forward(Step),
    Backward(Step),
    /// To the far ends of the range and beyond, minus so much.
    ToHorizon(Step),
    ToEnd(Step),
    /// To the time that the bucket names for its next token, a nanosecond before or after it.
    ToToken(u8),
    /// So many tokens, each at the first nanosecond at which it is there.
    TakeEachAtOnce(u8),
    Retune(Wish),
}

/// A time of any magnitude: mantissa and binary exponent.
#[derive(Debug, Clone, Copy, Arbitrary)]
struct Step(u16, u8);

impl Step {
    fn nanos(self) -> u64 {
        u64::from(self.0) << (self.1 % 44)
    }
}

impl Wish {
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

    /// The rate with its exact double. Both are there, or neither, by the documented range.
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

/// The exact token bucket: how much was there after the last take, and when that was.
#[derive(Debug, Clone, Copy)]
struct Exact {
    /// What a nanosecond brings.
    each_ns: i128,
    token: i128,
    burst: i128,
    /// A unit of the bucket.
    unit: i128,
    level: i128,
    at_ns: u64,
    /// The latest time that the bucket was told.
    latest_ns: u64,
    /// How much later than exactly the bucket may grant, and how much earlier but for its drift.
    late: i128,
    early: i128,
}

impl Exact {
    /// A full bucket. With `rps = m / 2ˢ` a nanosecond brings `m`, and a token is 10⁹ × 2ˢ: below 2¹⁰³.
    fn new(rps: f64, burst: u32) -> Self {
        let bits = rps.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023 - 52;
        let mantissa = (bits & ((1 << 52) - 1)) | (1 << 52);
        let token = 1_000_000_000_i128 << -exponent;
        // The bucket's: the least power of two of which a nanosecond brings four.
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

    /// How far the bucket's clock may be ahead, as late as it was ever told that it is.
    fn drift(&self) -> i128 {
        ((i128::from(self.latest_ns) * self.unit) >> 61) + 1
    }

    /// Whether a token must be there, must not, or may (`None`).
    fn decides(&mut self, now_ns: u64) -> Option<bool> {
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

    /// The tokens that were left, at most a full bucket.
    fn successor(&self, mut next: Self, now_ns: u64) -> Self {
        // A token is 10⁹ × 2ˢ: from one to the other by a power of two.
        let convert = |amount: i128| {
            if next.token > self.token {
                amount * (next.token / self.token)
            } else {
                amount / (self.token / next.token)
            }
        };
        // A time that goes backwards may have left less than nothing.
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
    /// Takes that were not undone, oldest first: the number of the take, and the reference before it.
    taken: Vec<(u64, Exact)>,
    receipts: Vec<(u64, Receipt)>,
    next_number: u64,
    /// When the takes that stand were made.
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
            Op::Retune(wish) => self.retune(wish),
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
        let expected = self.exact.decides(self.now_ns);
        let hint = self.bucket.has_token(self.now());
        let receipt = self.bucket.take(self.now());
        assert_eq!(hint, receipt.is_some(), "the hint, without another thread");
        let Some(receipt) = receipt else {
            assert_ne!(expected, Some(true), "a token was there at {}: {:?}", self.now_ns, self.exact);
            return;
        };
        assert_ne!(expected, Some(false), "no token was there at {}: {:?}", self.now_ns, self.exact);
        let number = self.next_number;
        self.next_number += 1;
        self.taken.push((number, self.exact));
        self.receipts.push((number, receipt));
        self.grants.push((number, self.now_ns.min(HORIZON_NS)));
        self.exact.take(self.now_ns);
    }

    /// An undo is exact if no other take came since, else the token is forfeit.
    fn undo(&mut self, which: u8) {
        if self.receipts.is_empty() {
            return;
        }
        // Counted from the latest, which is the one that can be undone.
        let index = self.receipts.len() - 1 - usize::from(which) % self.receipts.len();
        let (number, receipt) = self.receipts.remove(index);
        let is_latest = self.taken.last().is_some_and(|(latest, _)| *latest == number);
        assert_eq!(self.bucket.undo(receipt), is_latest, "take {number}");
        if is_latest {
            let before = self.taken.pop().expect("there is a latest").1;
            self.exact = Exact { latest_ns: self.exact.latest_ns, ..before };
            self.grants.retain(|(taken, _)| *taken != number);
        }
    }

    fn retune(&mut self, wish: Wish) {
        let Some((rate, exact)) = wish.rate() else { return };
        self.check_windows();
        let next = self.bucket.successor(rate, self.now());
        self.exact = self.exact.successor(exact, self.now_ns);
        let old = std::mem::replace(&mut self.bucket, next);
        assert!(old.take(Time::NEVER).is_none() && !old.has_token(Time::NEVER), "it is retired");
        assert_eq!(old.available_at(), Time::NEVER);
        for (_, receipt) in self.receipts.drain(..) {
            assert!(!old.undo(receipt), "nothing comes back to a retired bucket");
        }
        self.taken.clear();
        self.grants.clear();
    }

    /// The time it names is the first with a token.
    fn check_available_at(&self) {
        let has_token = |at_ns| self.bucket.has_token(Time::from_nanos(at_ns));
        let at_ns = self.bucket.available_at().as_nanos();
        if at_ns > HORIZON_NS {
            assert!(!has_token(u64::MAX), "it names no time, and has a token at the end");
            return;
        }
        assert!(has_token(at_ns), "there is none at {at_ns}");
        assert!(at_ns == 0 || !has_token(at_ns - 1), "there is one before {at_ns}");
    }

    /// Never more than `burst + rate × T` in any window of length `T`, but for the drift.
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
