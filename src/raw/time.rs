//! A moment on the pool's clock, and the unit in which packed words keep it.
//!
//! Arithmetic: a step is 10 µs, and a packed time has 45 bits of them, 11.1 years. It stops there and does not wrap.

use core::time::Duration;

/// A step in nanoseconds.
const STEP_NS: u64 = 10_000;
/// The bits that a packed time takes.
pub(super) const STEPS_BITS: u32 = 45;
/// The last packed time.
pub(super) const STEPS_MAX: u64 = (1 << STEPS_BITS) - 1;

/// A moment: nanoseconds since the pool's clock began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(u64);

impl Time {
    pub(crate) const ZERO: Self = Self(0);
    /// Later than any other.
    pub(crate) const NEVER: Self = Self(u64::MAX);

    pub(crate) fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub(crate) fn as_nanos(self) -> u64 {
        self.0
    }

    pub(crate) fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The duration since an earlier moment; zero if it is not earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Rounded up: what waits until then is never early.
    pub(super) fn steps(self) -> u64 {
        self.0.div_ceil(STEP_NS).min(STEPS_MAX)
    }

    pub(super) fn from_steps(steps: u64) -> Self {
        Self(steps * STEP_NS)
    }
}
