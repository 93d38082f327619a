//! The unit in which packed words keep a time.
//!
//! Arithmetic: a step is 10 µs, and a time has 45 bits of them, 11.1 years. It stops there and does not wrap.

/// A step in nanoseconds.
pub(super) const STEP_NS: u64 = 10_000;
/// The bits that a time takes.
pub(super) const STEPS_BITS: u32 = 45;
/// The last time.
pub(super) const STEPS_MAX: u64 = (1 << STEPS_BITS) - 1;

/// Nanoseconds in steps, rounded up: what waits until then is never early.
pub(super) fn steps(ns: u64) -> u64 {
    ns.div_ceil(STEP_NS).min(STEPS_MAX)
}

#[cfg(test)]
mod tests {
    use super::{STEP_NS, STEPS_BITS, STEPS_MAX, steps};

    #[test]
    fn steps_are_rounded_up_and_stop_at_the_last_that_fits() {
        assert_eq!([0, 1, STEP_NS, STEP_NS + 1].map(steps), [0, 1, 1, 2]);
        assert_eq!(STEPS_MAX.trailing_ones(), STEPS_BITS);
        for last in [STEPS_MAX * STEP_NS, STEPS_MAX * STEP_NS + 1, u64::MAX] {
            assert_eq!((steps(last), steps(last) >> STEPS_BITS), (STEPS_MAX, 0));
        }
    }
}
