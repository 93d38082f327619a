//! The unit in which packed words keep a time.
//!
//! Arithmetic: a tick is 10 µs, and a time has 45 bits of them, 11.1 years. It stops there and does not wrap.

/// A tick in nanoseconds.
pub(super) const TICK_NS: u64 = 10_000;
/// The bits that a time takes.
pub(super) const TICKS_BITS: u32 = 45;
/// The last time.
pub(super) const TICKS_MAX: u64 = (1 << TICKS_BITS) - 1;

/// Nanoseconds in ticks, rounded up: what waits until then is never early.
pub(super) fn ticks(ns: u64) -> u64 {
    ns.div_ceil(TICK_NS).min(TICKS_MAX)
}

#[cfg(test)]
mod tests {
    use super::{TICK_NS, TICKS_BITS, TICKS_MAX, ticks};

    #[test]
    fn ticks_are_rounded_up_and_stop_at_the_last_that_fits() {
        assert_eq!([0, 1, TICK_NS, TICK_NS + 1].map(ticks), [0, 1, 1, 2]);
        assert_eq!(TICKS_MAX.trailing_ones(), TICKS_BITS);
        for last in [TICKS_MAX * TICK_NS, TICKS_MAX * TICK_NS + 1, u64::MAX] {
            assert_eq!((ticks(last), ticks(last) >> TICKS_BITS), (TICKS_MAX, 0));
        }
    }
}
