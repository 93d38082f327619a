//! How a pool works: acquire, wait, connect, release, and the background task.
//!
//! Calls go one way, down this table; `tests/tidy.rs` checks it.
//!
//! | file | what it does |
//! |---|---|
//! | `wait` | joins the wait queue and waits |
//! | `acquire` | the fast path, the pass over all servers |
//! | `background` | the one task of a pool |
//! | `retry`, `settle` | tries servers that are down, ends recoveries; serves waiters, starts attempts |
//! | `ratio` | ejects servers by the part of their results that failed |
//! | `attempt` | one connect attempt |
//! | `membership`, `release` | changes the set of servers; ends a use |
//! | `recycle` | makes a used connection fit for the next caller |
//! | `verdict` | what a use says of its server |
//! | `transition` | changes a server's breaker and health |
//! | `sweep` | closes idle connections |
//! | `hand_over`, `report` | delivers a connection; errors and status |
//! | `closing` | closes a connection, with a goodbye where one is due |
//! | `shared` | holds the parts |
//! | `attempt_counts`, `due_times`, `grant`, `plan`, `random`, `runtime` | the parts |

mod acquire;
mod attempt;
mod attempt_counts;
mod background;
mod closing;
mod due_times;
mod grant;
mod hand_over;
mod membership;
mod plan;
mod random;
mod ratio;
mod recycle;
mod release;
mod report;
mod retry;
mod runtime;
mod settle;
mod shared;
mod sweep;
mod transition;
mod verdict;
mod wait;

#[cfg(test)]
mod tests;

pub(crate) use self::acquire::{Acquired, take_idle, try_acquire};
pub(crate) use self::background::ensure as ensure_background;
pub(crate) use self::membership::{close, deregister, register, reset, reset_server, set_servers, update};
pub(crate) use self::release::{broken, detach, discard, dropped, fail, release};
pub(crate) use self::report::status;
pub(crate) use self::shared::Shared;
pub(crate) use self::verdict::{report_failure, report_success};
pub(crate) use self::wait::{wait, wait_for_attempt};
