//! The token bucket of a server: GCRA, the generic cell rate algorithm (ITU-T I.371), in one word.
//!
//! # Protocol
//!
//! The word is the theoretical arrival time `tat`: the time at which the bucket will be full again. A token is there if
//! `tat <= now + burst - 1`; taking it sets `tat` to `max(tat, now) + 1`, where times are counted in tokens. An undo is
//! a CAS from the value that the take left to the one that it found. [`Bucket::successor`] retires the word by setting
//! it to `RETIRED`, which no time reaches: nothing is granted from then on.
//!
//! # Units
//!
//! Times are not kept in nanoseconds, in which the interval of most rates is no whole number, but in units of 2⁻ᵏ
//! tokens, with `k` such that a nanosecond has 4 to 8 units. So the interval is the whole number 2ᵏ whatever the rate,
//! nothing is rounded from token to token, and a nanosecond becomes units by one multiplication,
//! `floor(ns × mult / 2⁶¹)` with `mult` in `[2⁶³, 2⁶⁴)`. `mult` is rounded up, which is less than one part in 2⁶³:
//! after a day of uptime (2⁴⁶ ns) `now` is less than 2⁻¹⁵ units, some 10⁻⁵ ns, ahead.
//!
//! Arithmetic: time is clamped to `HORIZON` = 2⁵⁹ ns, 18 years; that is below 2⁶² units. A burst is at most what the
//! rate gives in that time, below 2⁶² units too, and a token is at most 2⁵² units (at `MIN_RPS`). So `tat` stays below
//! 2⁶³ + 2⁵² and never wraps nor reaches `RETIRED`. After 18 years time stands still here, and nothing more is granted.
//!
//! # Invariants
//!
//! - I1: any `n` grants within a window of length `T`, by the times that the takers read, have `n <= burst + rate × T`.
//!   Proof: the first leaves `tat >= t1 + 1`, since an idle bucket restarts at `now` rounded up; each adds 1; and the
//!   last found `tat <= tn + burst - 1`, with `now` rounded down. Both by a clock that is ahead by up to `now × 2⁻⁶¹`
//!   units: where `rate × T` is that near below a whole number, it counts as that number.
//! - I2: an undo restores exactly the word that its take found, or does nothing. The values that takes left and that
//!   were not undone form a strictly rising stack: a take pushes a value above the top, an undo pops only if its own
//!   value is the top.
//! - I3: a time that goes backwards grants no more than the latest time did: `tat` never falls but by an undo.
//! - I4: I1 holds over any number of successors, with the largest of the bursts and each rate for its time: a successor
//!   has no token that its predecessor had not.
//!
//! # Orderings
//!
//! Relaxed throughout. All is decided on one word, on which read-modify-writes are totally ordered; nothing else is
//! published by it. A successor reaches other threads by the list that names it.

use super::time::Time;
use crate::sync::{AtomicU64, Ordering};

/// The lowest rate, in tokens a second: one in eleven days.
pub(crate) const MIN_RPS: f64 = 1e-6;
/// The highest rate, in tokens a second: one a nanosecond.
pub(crate) const MAX_RPS: f64 = 1e9;
/// The time up to which the bucket counts: 18 years.
const HORIZON: Time = Time::from_nanos(1 << 59);

/// `units = ns × mult / 2^MULT_SHIFT`.
const MULT_SHIFT: u32 = 61;
const RETIRED: u64 = u64::MAX;

/// A rate and a burst, in the units of the module's page.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    /// Tokens a second, as it was asked for.
    rps: f64,
    /// Units in a nanosecond, times 2^`MULT_SHIFT`.
    mult: u64,
    /// A token, in units: 2^k.
    token: u64,
    /// `burst - 1` tokens, in units: how far `tat` may be ahead of now for a token to be there.
    slack: u64,
}

/// `now` in units.
#[derive(Debug, Clone, Copy)]
struct Units {
    floor: u64,
    ceil: u64,
}

impl Rate {
    /// `rps` tokens a second, up to `burst` at once. `None` if either is out of range: see [`MIN_RPS`], [`MAX_RPS`] and
    /// [`Rate::max_burst`].
    pub(crate) fn new(rps: f64, burst: u32) -> Option<Self> {
        if !(MIN_RPS..=MAX_RPS).contains(&rps) || burst == 0 || burst > Self::max_burst(rps) {
            return None;
        }
        let (mut scaled, mut token_bits) = (rps, 0);
        while scaled < 4e9 {
            scaled *= 2.0;
            token_bits += 1;
        }
        // `scaled` is in [2^31, 2^33) with 53 significant bits: times 2^21 it is a whole number.
        let whole = (scaled * f64::from(1u32 << 21)) as u64;
        let mult = (u128::from(whole) << (MULT_SHIFT - 21)).div_ceil(1_000_000_000) as u64;
        Some(Self { rps, mult, token: 1 << token_bits, slack: u64::from(burst - 1) << token_bits })
    }

    /// The largest burst at a rate: what it gives within the horizon.
    pub(crate) fn max_burst(rps: f64) -> u32 {
        (rps * (HORIZON.as_nanos() as f64 / 1e9)) as u32
    }

    pub(crate) fn rps(self) -> f64 {
        self.rps
    }

    /// The burst, in units.
    fn full(self) -> u64 {
        self.slack + self.token
    }

    #[inline]
    fn units(self, now: Time) -> Units {
        let nanos = now.min(HORIZON).as_nanos();
        let product = u128::from(nanos) * u128::from(self.mult);
        let floor = (product >> MULT_SHIFT) as u64;
        let fraction = product as u64 & ((1 << MULT_SHIFT) - 1);
        // `mult` is less than 1 too large, so the product less than `nanos`: a fraction up to that may be a whole
        // number. It counts as one, or what is due at each whole interval would come a nanosecond late.
        Units { floor, ceil: floor + u64::from(fraction > nanos) }
    }

    /// The first time at which `units(..).floor >= units`.
    fn time(self, units: u64) -> Time {
        Time::from_nanos((u128::from(units) << MULT_SHIFT).div_ceil(u128::from(self.mult)) as u64)
    }
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Bucket {
    tat: AtomicU64,
    rate: Rate,
    /// What a predecessor's takers owe beyond `tat`: this bucket's burst has no room for it.
    excess: u64,
}

/// What a take found and what it left: enough to undo it exactly.
#[derive(Debug)]
#[must_use]
pub(crate) struct Receipt {
    found: u64,
    left: u64,
}

/// A token that was there at a look.
#[derive(Debug)]
pub(crate) struct Seen {
    tat: u64,
    /// The latest `tat` at which a token is there.
    latest: u64,
    /// From when an idle bucket restarts.
    restart: u64,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: Rate) -> Self {
        Self { tat: AtomicU64::new(0), rate, excess: 0 }
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    fn load(&self) -> u64 {
        // Relaxed: a hint, or the start of a CAS loop.
        self.tat.load(Ordering::Relaxed)
    }

    /// Whether a token is there. A hint: another may take it first.
    #[inline]
    pub(crate) fn has_token(&self, now: Time) -> bool {
        self.look(now).is_some()
    }

    /// Whether there are more tokens than `kept`. A hint, as [`has_token`](Self::has_token).
    pub(crate) fn has_more_than(&self, kept: u64, now: Time) -> bool {
        let tokens = kept.saturating_mul(self.rate.token);
        // A full bucket has its burst at each time between two units.
        let full_at = |seen: &Seen| seen.latest - self.rate.slack;
        self.look(now).is_some_and(|seen| seen.tat.max(full_at(&seen)).saturating_add(tokens) <= seen.latest)
    }

    /// Whether all that was taken has accrued again, also what was taken of a predecessor with a larger burst: a new
    /// bucket of any burst gives no more (I4).
    pub(crate) fn is_full(&self, now: Time) -> bool {
        self.load().saturating_add(self.excess) <= self.rate.units(now).floor
    }

    /// Takes one token, if there is one (I1).
    pub(crate) fn take(&self, now: Time) -> Option<Receipt> {
        self.take_seen(self.look(now)?)
    }

    /// Looks for a token. Another caller may take it first.
    #[inline]
    pub(crate) fn look(&self, now: Time) -> Option<Seen> {
        let Units { floor, ceil } = self.rate.units(now);
        let seen = Seen { tat: self.load(), latest: floor + self.rate.slack, restart: ceil };
        (seen.tat <= seen.latest).then_some(seen)
    }

    /// Takes the token that was seen, or another that is there at the time of the look (I1).
    #[inline]
    pub(crate) fn take_seen(&self, seen: Seen) -> Option<Receipt> {
        let mut found = seen.tat;
        loop {
            let left = found.max(seen.restart) + self.rate.token;
            // Relaxed: see the module's page.
            match self.tat.compare_exchange_weak(found, left, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(Receipt { found, left }),
                Err(tat) if tat > seen.latest => return None,
                Err(tat) => found = tat,
            }
        }
    }

    /// Gives a token back if none was taken since; otherwise it is forfeit (I2). True if it was given back.
    pub(crate) fn undo(&self, receipt: Receipt) -> bool {
        // Relaxed: see the module's page.
        self.tat.compare_exchange(receipt.left, receipt.found, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The first time at which a token is there if none is taken until then. `NEVER` if retired.
    pub(crate) fn available_at(&self) -> Time {
        match self.load() {
            RETIRED => Time::NEVER,
            tat => self.rate.time(tat.saturating_sub(self.rate.slack)),
        }
    }

    /// Retires this bucket and returns one of another rate with the tokens that were left, as far as it can hold them.
    /// So a change of rate gives no tokens, however often it is made (I4).
    pub(crate) fn successor(&self, rate: Rate, now: Time) -> Bucket {
        // Relaxed: see the module's page. From here on no take succeeds on this word.
        let tat = self.tat.swap(RETIRED, Ordering::Relaxed);
        let missing = tat.saturating_sub(self.rate.units(now).floor);
        let left = self.rate.full().saturating_sub(missing);
        let [token, token_before] = [rate.token, self.rate.token].map(u128::from);
        // Rounded down.
        let left = u128::from(left) * token / token_before;
        // Rounded up.
        let owed = (u128::from(missing) + u128::from(self.excess)) * token;
        let owed = u64::try_from(owed.div_ceil(token_before)).unwrap_or(RETIRED);
        let missing = rate.full() - left.min(u128::from(rate.full())) as u64;
        let excess = owed.saturating_sub(missing);
        Bucket { tat: AtomicU64::new(rate.units(now).ceil + missing), rate, excess }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bucket, HORIZON, MAX_RPS, MIN_RPS, RETIRED, Rate, Time};

    /// Whether a token is taken at a time in nanoseconds.
    fn takes(bucket: &Bucket, nanos: u64) -> bool {
        bucket.take(Time::from_nanos(nanos)).is_some()
    }

    fn bucket(rps: f64, burst: u32) -> Bucket {
        Bucket::new(Rate::new(rps, burst).expect("a rate within the fixed point"))
    }

    #[test]
    fn every_interval_is_exact() {
        // One token a step of exactly one interval, for each of the steps: nothing is lost, nothing is gained.
        for (rps, step_ns) in [(10_000_000.0, 100), (1_000.0, 1_000_000), (1.0, 1_000_000_000), (1e9, 1)] {
            let bucket = bucket(rps, 1);
            for step in 0..1_000_000 {
                let now = step * step_ns;
                assert!(takes(&bucket, now), "{rps} rps, step {step}");
                assert!(!takes(&bucket, now), "{rps} rps, step {step}");
            }
        }
    }

    #[test]
    fn is_full_when_also_the_takes_from_a_larger_burst_have_accrued_again() {
        let (first, rate) = (bucket(100.0, 6), |burst| Rate::new(100.0, burst).expect("a rate within the fixed point"));
        assert!((0..4).all(|_| takes(&first, 0)));
        let second = first.successor(rate(1), Time::ZERO);
        assert!([0, 39_999_999].iter().all(|&nanos| !second.is_full(Time::from_nanos(nanos))));
        assert!(second.is_full(Time::from_nanos(40_000_001)));
        let third = second.successor(rate(6), Time::ZERO);
        assert!(!third.is_full(Time::from_nanos(49_999_999)) && third.is_full(Time::from_nanos(50_000_001)));
    }

    #[test]
    fn a_third_of_a_nanosecond_counts() {
        // With a burst of two, what is lost by whole nanoseconds at one grant is made up for at the next.
        let bucket = bucket(3.0, 2);
        assert!(takes(&bucket, 0) && takes(&bucket, 0));
        for third in 1..=30_000_u64 {
            let due = (third * 1_000_000_000).div_ceil(3);
            assert!(!takes(&bucket, due - 1), "third {third}");
            assert!(takes(&bucket, due), "third {third}");
        }
    }

    #[test]
    fn available_at_is_the_first_nanosecond() {
        for rps in [3.0, 7.0, 300_000.0, 1_234_567.89, 0.01] {
            let bucket = bucket(rps, 5);
            let mut now = 0;
            for _ in 0..1_000 {
                while takes(&bucket, now) {}
                let next = bucket.available_at().as_nanos();
                let has_token = |nanos| bucket.has_token(Time::from_nanos(nanos));
                assert!(next > now && !has_token(next - 1) && has_token(next), "{rps} rps at {now}");
                now = next;
            }
        }
    }

    #[test]
    fn there_are_more_tokens_than_are_kept() {
        let bucket = bucket(1.0, 3);
        let most_kept = || (0..5).take_while(|&kept| bucket.has_more_than(kept, Time::ZERO)).count();
        for left in [3, 2, 1, 0] {
            assert_eq!((most_kept(), takes(&bucket, 0)), (left, left > 0));
        }
        // A time that is no whole number of units, when it is full again.
        let odd = Time::from_nanos(7_000_000_001);
        assert_eq!([2, 3, u64::MAX].map(|kept| bucket.has_more_than(kept, odd)), [true, false, false]);
    }

    #[test]
    fn an_undo_is_exact_or_nothing() {
        let bucket = bucket(10.0, 3);
        let first = bucket.take(Time::ZERO).expect("a token");
        let second = bucket.take(Time::ZERO).expect("a token");
        assert!(!bucket.undo(first), "another took since");
        assert!(bucket.undo(second));
        assert!(takes(&bucket, 0) && takes(&bucket, 0));
        assert!(!takes(&bucket, 0));
    }

    #[test]
    fn a_token_that_was_seen_may_be_gone() {
        for (burst, is_there) in [(1, false), (2, true)] {
            let bucket = bucket(1.0, burst);
            let seen = bucket.look(Time::ZERO).expect("a token");
            assert!(takes(&bucket, 0));
            assert_eq!(bucket.take_seen(seen).is_some(), is_there, "burst {burst}");
        }
    }

    #[test]
    fn time_that_goes_backwards_grants_nothing() {
        let bucket = bucket(1.0, 1);
        assert!(takes(&bucket, 5_000_000_000));
        for now in [4_999_999_999, 0, 5_999_999_999] {
            assert!(!takes(&bucket, now));
        }
        assert!(takes(&bucket, 6_000_000_000));
    }

    #[test]
    fn nothing_wraps_at_the_ends_of_the_range() {
        for rps in [MIN_RPS, 1e-3, 1.0, 1e7, MAX_RPS] {
            for burst in [1, Rate::max_burst(rps)] {
                let bucket = bucket(rps, burst);
                for now in [0, 1, HORIZON.as_nanos() - 1, HORIZON.as_nanos(), u64::MAX] {
                    for _ in 0..3 {
                        takes(&bucket, now);
                    }
                    let tat = bucket.load();
                    assert!(tat < RETIRED / 2 + (1 << 53), "{rps} rps, burst {burst}: {tat:x}");
                }
                assert!(bucket.available_at() >= bucket.rate.time(0));
            }
        }
    }

    #[test]
    fn what_is_outside_the_fixed_point_is_refused() {
        for rps in [0.0, -1.0, f64::NAN, f64::INFINITY, MIN_RPS / 2.0, MAX_RPS * 1.1] {
            assert_eq!(Rate::new(rps, 1), None, "{rps}");
        }
        assert_eq!(Rate::new(1.0, 0), None);
        assert_eq!(Rate::new(MIN_RPS, Rate::max_burst(MIN_RPS) + 1), None);
    }

    #[test]
    fn a_successor_inherits_what_is_left() {
        let old = bucket(10.0, 10);
        for _ in 0..6 {
            assert!(takes(&old, 0));
        }
        let new = old.successor(Rate::new(1_000.0, 8).expect("a rate"), Time::ZERO);
        assert!(!takes(&old, 1 << 40), "retired");
        assert_eq!(old.available_at(), Time::NEVER);
        assert!(takes(&new, 0));
        let small = new.successor(Rate::new(1.0, 2).expect("a rate"), Time::ZERO);
        let large = small.successor(Rate::new(10_000.0, 100).expect("a rate"), Time::ZERO);
        assert_eq!((0..200).filter(|_| takes(&large, 0)).count(), 2);
        let empty = large.successor(Rate::new(1.0, 1).expect("a rate"), Time::ZERO);
        assert!(!takes(&empty, 999_999_999));
        assert!(takes(&empty, 1_000_000_000));
    }
}
