//! The lock-free kernel: one small protocol a file.
//!
//! Each file opens with its protocol, its invariants and what its orderings pair with. They import
//! `crate::sync` and, apart from `core`, nothing else, so that the model checks compile these very files against loom.
//! Time comes in as nanoseconds since the pool's origin.

mod alarm;
mod bucket;
mod health;
mod idle;
mod line;
mod pause;
mod permits;
mod tick;

pub(crate) use self::alarm::Alarm;
pub(crate) use self::bucket::{Bucket, MAX_RPS, MIN_RPS, Rate, Receipt};
pub(crate) use self::health::{Generation, Health, HealthState, Probe, ProbeOwner, Reported, Snapshot};
pub(crate) use self::idle::Idle;
pub(crate) use self::line::{Line, Place};
pub(crate) use self::pause::Pause;
pub(crate) use self::permits::Permits;
