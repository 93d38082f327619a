//! Times on the pool's clock, and the unit in which packed words keep them.
//!
//! Arithmetic: a [`Time`] counts nanoseconds in 64 bits, 584 years. A step of a packed word is 10 µs, and a time has 45
//! bits of them, 11.1 years. Both stop there and do not wrap.

use core::time::Duration;

/// The step of the coarse time.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// A time on the pool's clock, which starts at [`Time::ZERO`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    /// The time at which the clock was made.
    pub(crate) const ZERO: Self = Self(0);
    /// A time that no clock reaches.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    #[inline(always)]
    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    #[inline(always)]
    pub(crate) const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that is later by `duration`. `NEVER` if that is beyond 584 years.
    #[inline]
    pub(crate) fn after(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// The time that has passed since `earlier`. Zero if `earlier` is later.
    #[inline(always)]
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.counted_from(earlier).0)
    }

    /// This time on a clock that was made at `start`. A `Duration` takes a division.
    #[inline(always)]
    pub(crate) fn counted_from(self, start: Self) -> Self {
        Self(self.0.saturating_sub(start.0))
    }
}

/// A step in nanoseconds.
const STEP_NS: u64 = 10_000;
/// The bits that a time takes in a packed word.
pub(super) const STEPS_BITS: u32 = 45;
/// The last time that a packed word can keep.
pub(super) const STEPS_MAX: u64 = (1 << STEPS_BITS) - 1;

impl Time {
    /// In steps, rounded up: what waits until then is never early.
    pub(super) fn steps(self) -> u64 {
        self.0.div_ceil(STEP_NS).min(STEPS_MAX)
    }

    pub(super) fn from_steps(steps: u64) -> Self {
        Self(steps * STEP_NS)
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::{STEP_NS, STEPS_BITS, STEPS_MAX, Time};

    #[test]
    fn steps_are_rounded_up_and_stop_at_the_last_that_fits() {
        let steps = |nanos| Time::from_nanos(nanos).steps();
        assert_eq!([0, 1, STEP_NS, STEP_NS + 1].map(steps), [0, 1, 1, 2]);
        assert_eq!(STEPS_MAX.trailing_ones(), STEPS_BITS);
        for last in [STEPS_MAX * STEP_NS, STEPS_MAX * STEP_NS + 1, u64::MAX] {
            assert_eq!((steps(last), steps(last) >> STEPS_BITS), (STEPS_MAX, 0));
        }
    }

    #[test]
    fn arithmetic_stops_at_both_ends() {
        let second = Time::ZERO.after(Duration::from_secs(1));
        assert_eq!(second.as_nanos(), 1_000_000_000);
        assert_eq!([second.since(Time::ZERO), Time::ZERO.since(second)], [Duration::from_secs(1), Duration::ZERO]);
        assert_eq!([second.after(Duration::MAX), Time::NEVER.after(Duration::from_nanos(1))], [Time::NEVER; 2]);
    }
}
