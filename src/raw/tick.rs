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
