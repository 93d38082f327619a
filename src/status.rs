//! A snapshot of a pool.

use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::sync::Arc;

mod table;

/// A snapshot of a pool, from [`Pool::status`](crate::Pool::status).
///
/// Each number is read by itself while the pool is in use, so two of them may disagree by what happened in between.
///
/// It prints as a table, for a person to read; its form may change. [`metrics`](crate::metrics) is for programs.
///
/// ```text
/// pool sessions: waiters 2, waits 120 (1 timed out), queue full 0, checkouts 48210, failures 3, ejections 0
/// server  state             open/max  idle  in use  connecting  closing  checkouts  failures  connects/failed  closed
/// db-1    up                    8/10     5       2           1        0      48210         3              9/1       2
/// db-2    down, retry 1.2s      0/10     0       0           0        0          0         0              0/4       0
///   last connect error: connect failed: Connection refused (os error 111)
/// ```
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
    /// What happened at all servers since the pool was built, those that are gone included.
    pub totals: Totals,
    /// Callers that joined the wait queue.
    pub waits: u64,
    /// Those of them whose timeout came first.
    pub wait_timeouts: u64,
    /// Callers that found the wait queue full.
    pub queue_full: u64,
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
    /// Its weight, as set.
    pub weight: u32,
    /// Its tier.
    pub tier: u32,
    /// It is up, but its tier is not in use: servers of a better one are up.
    pub standby: bool,
    /// Permits taken: connections that are open or being opened. Exact, and never above `max_conns` unless that was
    /// lowered.
    pub open: u32,
    /// The most connections that may be open at once.
    pub max_conns: u32,
    /// Idle connections. May be momentarily off under load.
    pub idle: usize,
    /// The most connections that may be idle. 0 while it is draining.
    pub max_idle: u32,
    /// How many connections are kept idle: the builder's `min_idle_per_server`. 0 without `maintenance`.
    pub min_idle: u32,
    /// Connect attempts that run.
    pub connecting: u32,
    /// Connections that say goodbye: [`Connector::close`](crate::Connector::close).
    pub closing: u32,
    /// Connections that are checked out, or out of the pool for a check or a recycle:
    /// `open - idle - connecting - closing`, clamped at 0. May be momentarily off under load.
    pub in_use: u32,
    /// The rate limit in checkouts a second, if there is one.
    pub max_rps: Option<f64>,
    /// Until connecting to it resumes, if it pauses after a failed attempt. Also of a server that is up.
    pub connecting_paused: Option<Duration>,
    /// Why the last attempt failed, with its causes, if none has connected since.
    pub connect_error: Option<String>,
    /// What happened at it since it was registered first.
    pub totals: Totals,
}

impl PoolStatus {
    /// The status of a server, by its name. `None` if it is neither registered nor draining.
    pub fn server(&self, name: &str) -> Option<&ServerStatus> {
        self.servers.iter().find(|server| *server.name == *name)
    }
}

/// Counts since a server was registered, or since the pool was built.
///
/// A use is counted within about a second of its end, or when its connection comes back if that was checked out again
/// before. When all connections were returned and a second has passed, the counts are exact.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Uses of connections that ended.
    pub checkouts: u64,
    /// Uses that ended well: released, kept after a drop, or reported a success.
    pub successes: u64,
    /// Failures of the server: reported by callers, abandoned uses, failed recycles, and checks of idle connections
    /// that timed out.
    pub failures: u64,
    /// How often reported failures took the server out of use.
    pub ejections: u64,
    /// Attempts that connected.
    pub connects: u64,
    /// Attempts that failed, those that timed out among them.
    pub connect_failures: u64,
    /// Attempts that timed out.
    pub connect_timeouts: u64,
    pub(crate) closes: [u64; CloseReason::ALL.len()],
}

impl Totals {
    /// Connections that were closed for that reason.
    pub fn closes(&self, why: CloseReason) -> u64 {
        self.closes[why as usize]
    }

    /// Connections that were closed.
    pub fn closed(&self) -> u64 {
        self.closes.iter().sum()
    }
}

/// The health of a server in a [`ServerStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerState {
    /// It serves.
    Up,
    /// Its probe succeeded, and the probe's connection serves. The first good return makes it up, and so does one
    /// backoff interval without a failure; after an ejection, only once that connection is back, or after 30 s.
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
    /// It was [disabled](crate::Pool::disable) or [drained](crate::Pool::drain) by order, whatever its health.
    Disabled {
        /// Until it is enabled again. `None`: by order only.
        ends_in: Option<Duration>,
    },
    /// It was deregistered, or the pool closed, while connections were in use. Not [`Pool::drain`](crate::Pool::drain).
    Draining,
}

impl ServerState {
    /// The state without its numbers.
    pub fn kind(self) -> StateKind {
        match self {
            Self::Up => StateKind::Up,
            Self::Recovering => StateKind::Recovering,
            Self::Down { .. } => StateKind::Down,
            Self::Ejected { .. } => StateKind::Ejected,
            Self::Probing { .. } => StateKind::Probing,
            Self::Disabled { .. } => StateKind::Disabled,
            Self::Draining => StateKind::Draining,
        }
    }
}

/// A state of a server without its numbers, as events, metrics and an [`Observer`](crate::Observer) name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StateKind {
    /// See [`ServerState::Up`].
    Up,
    /// See [`ServerState::Recovering`].
    Recovering,
    /// See [`ServerState::Down`].
    Down,
    /// See [`ServerState::Ejected`].
    Ejected,
    /// See [`ServerState::Probing`].
    Probing,
    /// See [`ServerState::Disabled`].
    Disabled,
    /// See [`ServerState::Draining`].
    Draining,
    /// In events alone: the server was added.
    Registered,
    /// In events alone: it is no longer disabled, and its health decides.
    Enabled,
    /// In events alone: its last connection was closed after it was removed.
    Gone,
}

impl StateKind {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Up,
        Self::Recovering,
        Self::Down,
        Self::Ejected,
        Self::Probing,
        Self::Disabled,
        Self::Draining,
        Self::Registered,
        Self::Enabled,
        Self::Gone,
    ];

    /// The name in events and metrics: `up`, `recovering` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Recovering => "recovering",
            Self::Down => "down",
            Self::Ejected => "ejected",
            Self::Probing => "probing",
            Self::Disabled => "disabled",
            Self::Draining => "draining",
            Self::Registered => "registered",
            Self::Enabled => "enabled",
            Self::Gone => "gone",
        }
    }
}
