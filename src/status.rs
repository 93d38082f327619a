//! A snapshot of a pool, taken without a lock.

use std::time::Duration;

use crate::sync::Arc;

/// A snapshot of a pool, from [`Pool::status`](crate::Pool::status).
///
/// Each number is read by itself while the pool is in use, so two of them may disagree by what happened in between.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PoolStatus {
    /// The pool's name.
    pub name: Arc<str>,
    /// The registered servers, then the removed ones with open connections. A server keeps its place for as long as it
    /// is registered; a new one takes the first place that is free.
    pub servers: Vec<ServerStatus>,
    /// How many callers are in the wait queue.
    pub waiters: usize,
    /// Whether the pool was closed.
    pub closed: bool,
}

/// A snapshot of one server.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its name: its address, unless it has one of its own.
    pub name: Arc<str>,
    /// The address that it was registered with.
    pub address: Arc<str>,
    /// Its health, or that it is draining.
    pub state: ServerState,
    /// Permits taken: connections that are open or being opened. Exact, and never above `max_conns` unless that was
    /// lowered.
    pub open: u32,
    /// The most connections that may be open at once.
    pub max_conns: u32,
    /// Idle connections. May be momentarily off under load.
    pub idle: usize,
    /// Connect attempts that run.
    pub connecting: u32,
    /// Connections that are checked out, or out of the pool for a check: `open - idle - connecting`, clamped at 0. May
    /// be momentarily off under load.
    pub in_use: u32,
    /// The rate limit in checkouts a second, if there is one.
    pub max_rps: Option<f64>,
    /// Until connecting to it resumes, if it pauses after a failed attempt. Also of a server that is up.
    pub connecting_paused: Option<Duration>,
    /// Why the last attempt failed, with its causes, if none has connected since.
    pub connect_error: Option<String>,
}

/// The health of a server in a [`ServerStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerState {
    /// It serves.
    Up,
    /// Its probe succeeded, and the probe's connection serves. The first good return makes it up, and so does one
    /// backoff interval without a failure.
    Recovering,
    /// Connecting failed by its fault, and callers avoid it.
    Down {
        /// Failed attempts in a row.
        failures: u32,
        /// Until it may be probed. Zero: when the next caller comes.
        retry_after: Duration,
    },
    /// Callers reported failures, and it is avoided for a time.
    Ejected {
        /// Until it may be probed. Zero: when the next caller comes.
        retry_after: Duration,
    },
    /// It is down, and one attempt finds out whether it is back.
    Probing {
        /// Failed attempts in a row.
        failures: u32,
    },
    /// It was deregistered, or the pool closed, while connections were in use.
    Draining,
}
