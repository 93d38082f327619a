//! What a pool tells of itself: a snapshot, taken without a lock.

use std::time::Duration;

use crate::sync::Arc;

/// A snapshot of a pool, from [`Pool::status`](crate::Pool::status).
///
/// Each number is read on its own while callers go on, so that two of them may be off against each other by what
/// happened in between.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The registered servers in the order of their registration, then those that are draining.
    pub servers: Vec<ServerStatus>,
    /// How many callers wait in the line.
    pub waiting: usize,
    /// Whether the pool was closed.
    pub closed: bool,
}

/// A snapshot of one server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerStatus {
    /// The address that it was registered with.
    pub address: Arc<str>,
    /// Its health, or that it is draining.
    pub state: ServerState,
    /// Permits taken: connections that are open or being dialled. Exact, never above a maximum that was not lowered.
    pub open: u32,
    /// The most connections that may be open at once.
    pub max_conns: u32,
    /// Connections that wait for a caller. May be momentarily off under load.
    pub idle: usize,
    /// Dials under way.
    pub dialing: u32,
    /// Connections that callers hold: `open - idle - dialing`, clamped at 0. May be momentarily off under load.
    pub in_use: u32,
    /// The rate limit in hand-outs a second, if there is one.
    pub max_rps: Option<f64>,
}

/// The health of a server in a [`ServerStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerState {
    /// It serves.
    Up,
    /// Its probe succeeded and it serves; the first release of a connection dialled since clears its failures.
    Trial {
        /// Failures in a row so far.
        failures: u32,
    },
    /// It failed and is left alone.
    Down {
        /// Failures in a row so far.
        failures: u32,
        /// Until it may be probed. Zero: as soon as somebody calls.
        retry_after: Duration,
    },
    /// Its backoff is over and one dial finds out whether it is back.
    Probing {
        /// Failures in a row so far.
        failures: u32,
    },
    /// It was deregistered, or the pool closed, while connections were out.
    Draining,
}
