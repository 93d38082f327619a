//! What the calls that wait for many connections report.

use std::fmt;
use std::time::Duration;

use crate::sync::Arc;

/// How many servers the text of an error names.
const NAMED_SERVERS: usize = 8;

/// How a [`Pool::drain`](crate::Pool::drain) ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainReport {
    /// How many connections of the server were still open at the end: zero if it is drained.
    pub open: usize,
    /// How long it took.
    pub waited: Duration,
}

impl DrainReport {
    /// Whether no connection of the server is open any more.
    pub fn is_drained(&self) -> bool {
        self.open == 0
    }
}

/// What a [`Pool::warm_up`](crate::Pool::warm_up) has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUpReport {
    /// The servers that were registered all the while and are not disabled, in the order of the pool's status.
    pub servers: Vec<WarmUpServer>,
    /// How long it took.
    pub waited: Duration,
}

impl WarmUpReport {
    /// Whether no server lacks a connection. So it is where there is no server.
    pub fn is_complete(&self) -> bool {
        self.servers.iter().all(|server| server.missing == 0)
    }
}

/// One server in a [`WarmUpReport`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WarmUpServer {
    /// Its name: its address, unless it has one of its own.
    pub name: Arc<str>,
    /// Idle connections. Callers may have taken some already.
    pub idle: usize,
    /// How many connections it lacks.
    pub missing: usize,
    /// Why the last attempt failed, with its causes, if none has connected since.
    pub connect_error: Option<String>,
}

/// Why [`Pool::close_timeout`](crate::Pool::close_timeout) gave up waiting. The pool is closed all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connections still open after {waited:?}: {open} ({})", Listed(.servers))]
#[non_exhaustive]
pub struct CloseTimeout {
    /// How long it waited.
    pub waited: Duration,
    /// How many connections were open: not returned, or saying goodbye.
    pub open: usize,
    /// The servers with open connections, by name, and how many of each.
    pub servers: Vec<(Arc<str>, usize)>,
}

/// Prints the first servers and how many more there are.
struct Listed<'a>(&'a [(Arc<str>, usize)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, open) in self.0.iter().take(NAMED_SERVERS) {
            write!(f, "{separator}{name}: {open}")?;
            separator = ", ";
        }
        match self.0.len().saturating_sub(NAMED_SERVERS) {
            0 => Ok(()),
            more => write!(f, ", and {more} more servers"),
        }
    }
}
