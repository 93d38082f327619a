//! The words of a pool, one small protocol a file, and the wait queue. A word is one atomic integer.
//!
//! Each file opens with its protocol, its invariants and what its orderings pair with. The files import `crate::sync`,
//! Rust's `core` library and one another, so that the model checks compile these very files against loom.

mod answered;
mod breaker;
mod bucket;
mod changed;
mod gauge;
mod health;
mod idle;
mod line;
mod permits;
mod server_set;
mod serving;
mod signals;
mod slot;
mod strikes;
mod tier_in_use;
mod time;
mod wait_queue;
mod wake_at;

pub(crate) use self::answered::Answered;
pub(crate) use self::breaker::{Breaker, BreakerState, Pass};
pub(crate) use self::bucket::{Bucket, MAX_RPS, MIN_RPS, Rate, Receipt};
pub(crate) use self::changed::Changed;
pub(crate) use self::gauge::Gauge;
pub(crate) use self::health::{Ejected, Health, HealthSnapshot, HealthState, Outage};
pub(crate) use self::idle::Idle;
pub(crate) use self::permits::{PermitCounts, Permits};
pub(crate) use self::server_set::{ANYWHERE, ServerSet};
pub(crate) use self::serving::{Serving, TIERS};
pub(crate) use self::signals::Signals;
pub(crate) use self::strikes::Strikes;
pub(crate) use self::tier_in_use::TierInUse;
pub(crate) use self::time::{TICK, Time};
pub(crate) use self::wait_queue::{Ticket, WaitQueue};
pub(crate) use self::wake_at::WakeAt;
