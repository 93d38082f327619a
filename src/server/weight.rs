//! The weight of a server, which ramps up after the server came into use where slow start is on.

use std::time::Duration;

use crate::raw::Time;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The least part of its weight that a server begins with.
const FIRST_PART: f64 = 0.1;

/// See the module's page. Plain values: after a change the turns are computed anew, see `Servers::turns_changed`.
///
/// Arithmetic: the largest weight is below 2¹⁶, so that one in units is below 2²⁴.
#[derive(Debug)]
pub(crate) struct Weight {
    /// The weight now, in units.
    now: AtomicU32,
    /// The setting, in units.
    full: AtomicU32,
    /// When the ramp began, in nanoseconds; zero if there is none.
    ramp_from: AtomicU64,
}

impl Weight {
    /// The largest setting.
    pub(crate) const MOST: u32 = 65_535;
    /// The units of a weight of one.
    const UNIT: u32 = 256;

    pub(crate) fn new(weight: u32) -> Self {
        let [now, full] = [(); 2].map(|()| AtomicU32::new(weight * Self::UNIT));
        Self { now, full, ramp_from: AtomicU64::new(0) }
    }

    /// The weight by which callers choose now, at least 1.
    #[inline(always)]
    pub(crate) fn now(&self) -> u64 {
        // Relaxed, here and below: plain values.
        u64::from(self.now.load(Ordering::Relaxed))
    }

    /// The setting.
    pub(crate) fn full(&self) -> u32 {
        self.full.load(Ordering::Relaxed) / Self::UNIT
    }

    /// Changes the setting. A ramp goes on.
    pub(crate) fn set(&self, weight: u32) {
        let full = weight * Self::UNIT;
        let before = self.full.swap(full, Ordering::Relaxed);
        let now = self.now() * u64::from(full) / u64::from(before);
        self.now.store((now as u32).max(1), Ordering::Relaxed);
    }

    /// Begins a ramp.
    pub(crate) fn start_ramp(&self, now: Time) {
        self.ramp_from.store(now.as_nanos().max(1), Ordering::Relaxed);
        self.store_part(FIRST_PART);
    }

    /// Goes on with the ramp, linear over `window`. True while there is one.
    pub(crate) fn ramp(&self, now: Time, window: Duration) -> bool {
        let from = self.ramp_from.load(Ordering::Relaxed);
        if from == 0 {
            return false;
        }
        // It ends at the look that finds the whole weight: the setting may change at the same time.
        let part = now.since(Time::from_nanos(from)).as_secs_f64() / window.as_secs_f64();
        if part >= 1.0 && self.now.load(Ordering::Relaxed) == self.full.load(Ordering::Relaxed) {
            // Unless another one has begun.
            return self.ramp_from.compare_exchange(from, 0, Ordering::Relaxed, Ordering::Relaxed).is_err();
        }
        self.store_part(part.clamp(FIRST_PART, 1.0));
        true
    }

    fn store_part(&self, part: f64) {
        let full = f64::from(self.full.load(Ordering::Relaxed));
        self.now.store((full * part).round().max(1.0) as u32, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Time, Weight};

    #[test]
    fn ramps_from_a_tenth_to_the_whole() {
        let (weight, second) = (Weight::new(10), Duration::from_secs(1));
        assert_eq!(weight.now(), 2_560);
        let at = |millis: u64| Time::ZERO.after(Duration::from_millis(10_000 + millis));
        assert!(!weight.ramp(at(0), second), "there is none");
        weight.start_ramp(at(0));
        let steps =
            [50, 100, 250, 500, 999, 1_000, 5_000].map(|millis| (weight.ramp(at(millis), second), weight.now()));
        let expected = [256, 256, 640, 1_280, 2_557, 2_560].map(|now| (true, now));
        assert_eq!((&steps[..6], steps[6]), (&expected[..], (false, 2_560)));
    }

    #[test]
    fn a_changed_weight_keeps_the_ramp() {
        let weight = Weight::new(10);
        weight.start_ramp(Time::ZERO);
        weight.set(100);
        assert_eq!(weight.now(), 2_560);
        assert!(weight.ramp(Time::ZERO.after(Duration::from_secs(2)), Duration::from_secs(1)));
        assert_eq!(weight.now(), 25_600);
        weight.set(1);
        assert_eq!(weight.now(), 256);
    }
}
