//! How a pool works: acquire, wait, connect, release, and the background task.
//!
//! Calls go one way, down this table; `tests/tidy.rs` checks it.
//!
//! | file | what it does |
//! |---|---|
//! | `wait` | a caller that found nothing joins the wait queue |
//! | `acquire` | the fast path, the pass over all servers, the future |
//! | `background` | the one task of a pool |
//! | `settle` | tries due servers, serves waiters, starts attempts |
//! | `attempt` | one connect attempt |
//! | `change`, `release`, `sweep` | servers come and go; a connection comes back; old connections close |
//! | `hand_over`, `transition`, `report` | delivers a connection; follows a change of state; errors and status |
//! | `shared` | holds the parts |
//! | `attempts`, `due`, `grant`, `plan`, `random`, `runtime` | the parts |

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

#[cfg(test)]
mod tests;

pub(crate) use self::acquire::{Acquired, take_idle, try_acquire};
pub(crate) use self::background::ensure as ensure_background;
pub(crate) use self::change::{close, deregister, register, set_servers};
pub(crate) use self::release::{fail, release};
pub(crate) use self::report::status;
pub(crate) use self::shared::Shared;
pub(crate) use self::wait::{wait, wait_for_attempt};
