//! How a pool works: acquire, wait, connect, release, and the background task.
//!
//! Calls go one way, down this table; `tests/tidy.rs` checks it.
//!
//! | file | what it does |
//! |---|---|
//! | `hot`, `wait` | the hot paths of an acquire and a release; joins the wait queue and waits |
//! | `warm_up`, `follow` | opens connections ahead of the callers; applies a stream of server sets |
//! | `acquire` | looks everywhere for an idle connection, where the hot path found none |
//! | `background` | the one task of a pool |
//! | `probes`, `settle` | tries servers that are down, ends recoveries; serves waiters, starts attempts |
//! | `sweep` | looks at the idle connections at intervals |
//! | `ratio` | ejects servers by the part of their results that failed |
//! | `refill` | connects to servers below their minimum of idle connections |
//! | `order` | starts the attempts of waiters that accept no idle connection |
//! | `attempt` | one connect attempt |
//! | `disable` | takes servers out of rotation by order, and back |
//! | `membership`, `release` | changes the set of servers; ends a use, by what it says of its server |
//! | `idle_check` | runs the check of an idle connection |
//! | `transition` | changes a server's breaker and health |
//! | `idle_conns` | puts connections into the idle queue of their server, takes them out, closes them |
//! | `hand_over` | serves waiters, with new connections and from the idle queues |
//! | `closing`, `report` | closes a connection, with a goodbye where one is due; errors and status |
//! | `candidates` | which servers to connect to for waiters |
//! | `outage`, `spill` | whether the pool can serve at all; when callers use standby tiers |
//! | `hook`, `look_again` | runs a hook of the connector; has the background task look at a server |
//! | `shared` | holds the parts |
//! | `attempt_counts`, `drops`, `due_times`, `first_sets`, `grant`, `plan`, `random`, `runtime`, `wish` | the parts |

mod acquire;
mod attempt;
mod attempt_counts;
mod background;
mod candidates;
mod closing;
mod disable;
mod drops;
mod due_times;
mod first_sets;
mod follow;
mod grant;
mod hand_over;
mod hook;
mod hot;
mod idle_check;
mod idle_conns;
mod look_again;
mod membership;
mod order;
mod outage;
mod plan;
mod probes;
mod random;
mod ratio;
mod refill;
mod release;
mod report;
mod runtime;
mod settle;
mod shared;
mod spill;
mod sweep;
mod transition;
mod wait;
mod warm_up;
mod wish;

#[cfg(test)]
mod tests;

pub(crate) use self::acquire::Acquired;
pub(crate) use self::background::ensure as ensure_background;
pub(crate) use self::disable::{disable, drain, enable};
pub(crate) use self::follow::follow;
pub(crate) use self::hot::{release, take_idle, try_acquire};
pub(crate) use self::membership::{
    close, deregister, register, reset, reset_server, set_load_balancing, set_servers, update,
};
pub(crate) use self::release::{broken, detach, discard, dropped, fail, report_failure, report_success};
pub(crate) use self::report::{not_returned, servers, status};
pub(crate) use self::shared::Shared;
pub(crate) use self::wait::{acquire_with, wait};
pub(crate) use self::warm_up::warm_up;
