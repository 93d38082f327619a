//! How a pool works: acquire, wait, release, connect, and the background task.
//!
//! Calls go one way: acquire → wait → settle → {plan, attempt} → {hand_over, transition}; background → settle; release →
//! hand_over; change → hand_over.

mod acquire;
mod attempt;
mod attempts;
mod background;
mod change;
mod due;
mod grant;
mod hand_over;
mod plan;
mod random;
mod release;
mod report;
mod runtime;
mod settle;
mod shared;
mod sweep;
mod transition;
mod wait;

pub(crate) use self::acquire::{Acquire, Acquired, try_acquire};
pub(crate) use self::background::ensure as ensure_background;
pub(crate) use self::change::{close, deregister, register, set_servers};
pub(crate) use self::release::{fail, release};
pub(crate) use self::report::status;
pub(crate) use self::shared::Shared;
pub(crate) use self::wait::{wait, wait_for_attempt};
