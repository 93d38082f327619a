//! What can go wrong, with the numbers and the reasons.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::sync::Arc;

/// Why [`Pool::acquire`](crate::Pool::acquire), [`acquire_timeout`](crate::Pool::acquire_timeout) or
/// [`acquire_now`](crate::Pool::acquire_now) gave no connection. `E` is the connector's error.
///
/// It prints its reason in one line; its source is what went wrong last at the first server that is down.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E: Error + 'static> {
    /// No server is registered, or the last one was removed while the caller waited.
    NoServers,
    /// No server can serve now. Only from `acquire_now`.
    Unavailable(Unavailable<E>),
    /// The caller waited in the line until its time was up: `wait_timeout`, or what it gave to `acquire_timeout`.
    Timeout {
        /// How long the caller waited.
        waited: Duration,
        /// What it was waiting for.
        reason: Unavailable<E>,
    },
    /// As many callers wait in the line as may.
    Overloaded {
        /// How many wait: the builder's `max_waiting`, or a few more.
        waiting: usize,
    },
    /// The pool is closed.
    Closed,
}

// By hand: the reason is in the text, so the source is that of the reason, and no chain says anything twice.
impl<E: Error + 'static> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServers => f.write_str("no servers are registered"),
            Self::Unavailable(reason) => reason.fmt(f),
            Self::Timeout { waited, reason } => write!(f, "timed out after {waited:?}: {reason}"),
            Self::Overloaded { waiting } => write!(f, "{waiting} waiting in line already, the most allowed"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(reason) | Self::Timeout { reason, .. } => reason.source(),
            Self::NoServers | Self::Overloaded { .. } | Self::Closed => None,
        }
    }
}

impl<E: Error + 'static> AcquireError<E> {
    /// The earliest time, from when the error was made, at which a server may serve again, if one is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(reason) | Self::Timeout { reason, .. } => reason.retry_after(),
            Self::NoServers | Self::Overloaded { .. } | Self::Closed => None,
        }
    }
}

/// Why no server could serve: the first servers one by one, the others counted.
#[derive(Debug)]
pub struct Unavailable<E> {
    /// Boxed, so that the result of an acquire that finds a connection is small.
    pub(crate) report: Box<Report<E>>,
}

#[derive(Debug)]
pub(crate) struct Report<E> {
    pub(crate) servers: Vec<ServerReport<E>>,
    pub(crate) counts: Counts,
}

/// How many servers could not serve, by the reason. Each server counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// In backoff, or being probed.
    pub down: usize,
    /// Up, but without a token.
    pub limited: usize,
    /// Up, but with as many connections out as are allowed.
    pub full: usize,
    /// Up, with a permit free, but without an idle connection: one is being dialled, or may be.
    pub empty: usize,
    /// Callers that wait in the line, who come first.
    pub waiting: usize,
    /// The earliest time at which a server may serve again, if one is known.
    pub retry_after: Option<Duration>,
}

/// One server that could not serve. It prints its address and the reason, without the cause.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerReport<E> {
    /// The address that it was registered with.
    pub address: Arc<str>,
    /// Why it could not serve.
    pub reason: Reason<E>,
}

/// Why one server could not serve. It prints its numbers, without the cause.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason<E> {
    /// It failed and is left alone, or is being probed.
    Down {
        /// What went wrong last.
        cause: Option<Arc<Failure<E>>>,
        /// Failures in a row so far.
        failures: u32,
        /// Until it is probed. Zero: it is being probed, or would be by the next caller.
        retry_after: Duration,
    },
    /// It is up, but without a token.
    Limited {
        /// Until it has a token.
        retry_after: Duration,
    },
    /// As many connections are out as are allowed.
    Full {
        /// How many are allowed.
        max_conns: u32,
    },
    /// A permit is free, but no connection was idle.
    Empty {
        /// Dials under way.
        dialing: u32,
    },
}

/// What took a server down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The connector returned an error.
    #[error("the dial failed")]
    Connect(#[source] E),
    /// The connector did not return in time.
    #[error("the dial took longer than {after:?}")]
    ConnectTimeout {
        /// The builder's `connect_timeout`.
        after: Duration,
    },
    /// The connector panicked.
    #[error("the connector panicked")]
    ConnectPanicked,
    /// The probe ended undecided: its runtime has gone, or the client was out of descriptors, ports or buffers.
    #[error("the probe was abandoned")]
    Abandoned,
    /// A caller counted a failure against it by [`PooledConn::fail`](crate::PooledConn::fail).
    #[error("a caller reported a failure")]
    Reported(#[source] Box<dyn Error + Send + Sync>),
}

impl<E> Unavailable<E> {
    /// At most 8 servers, each with why it could not serve. [`counts`](Self::counts) has them all.
    pub fn servers(&self) -> &[ServerReport<E>] {
        &self.report.servers
    }

    /// How many servers could not serve, by the reason.
    pub fn counts(&self) -> Counts {
        self.report.counts
    }

    /// The earliest time, from when the error was made, at which a server may serve again, if one is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.report.counts.retry_after
    }
}

impl<E> fmt::Display for Unavailable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.counts.fmt(f)
    }
}

impl<E: Error + 'static> Error for Unavailable<E> {
    /// What went wrong last at the first server that is down.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.report.servers.iter().find_map(|server| match &server.reason {
            Reason::Down { cause: Some(cause), .. } => Some(&**cause as &(dyn Error + 'static)),
            _ => None,
        })
    }
}

impl<E> fmt::Display for ServerReport<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.reason)
    }
}

impl<E> fmt::Display for Reason<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down { failures, retry_after: Duration::ZERO, .. } => write!(f, "down (failures: {failures})"),
            Self::Down { failures, retry_after, .. } => {
                write!(f, "down (failures: {failures}, retried in {retry_after:?})")
            }
            Self::Limited { retry_after } => write!(f, "rate limited (for {retry_after:?})"),
            Self::Full { max_conns } => write!(f, "full (max_conns: {max_conns})"),
            Self::Empty { dialing } => write!(f, "without an idle connection (being dialled: {dialing})"),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.down, "down"),
            (self.limited, "rate limited"),
            (self.full, "full"),
            (self.empty, "without an idle connection"),
        ];
        let mut present = reasons.iter().filter(|(count, _)| *count > 0);
        match (present.next(), present.next()) {
            (None, _) => f.write_str("no server can serve")?,
            (Some((_, reason)), None) => write!(f, "all servers are {reason}")?,
            (Some(_), Some(_)) => {
                f.write_str("no server can serve: ")?;
                let mut separator = "";
                for (count, reason) in reasons.iter().filter(|(count, _)| *count > 0) {
                    write!(f, "{separator}{count} {reason}")?;
                    separator = ", ";
                }
            }
        }
        if self.waiting > 0 {
            write!(f, "; {} waiting in line", self.waiting)?;
        }
        Ok(())
    }
}

/// Why [`Pool::try_acquire`](crate::Pool::try_acquire) gave no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// No server is registered.
    #[error("no servers are registered")]
    NoServers,
    /// No server can serve now, or callers wait in the line and come first ([`Counts::waiting`]).
    #[error("{0}")]
    Unavailable(Counts),
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

impl TryAcquireError {
    /// The earliest time at which a server may serve again, if one is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(counts) => counts.retry_after,
            Self::NoServers | Self::Closed => None,
        }
    }
}

/// Why [`Pool::close_timeout`](crate::Pool::close_timeout) gave up waiting. The pool is closed all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("connections still out after {waited:?}: {open}")]
#[non_exhaustive]
pub struct CloseTimeout {
    /// How long it waited.
    pub waited: Duration,
    /// How many connections had not come back.
    pub open: usize,
}

/// Why a server was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An address is empty.
    #[error("the address of a server is empty")]
    EmptyAddress,
    /// An address is given twice, or is registered already.
    #[error("the server {address:?} is there twice")]
    Duplicate {
        /// The address.
        address: Arc<str>,
    },
    /// An address is not registered.
    #[error("the server {address:?} is not registered")]
    Unknown {
        /// The address.
        address: Arc<str>,
    },
    /// A setting of a server is out of its range.
    #[error("server {address:?}: {setting} is {value}, outside {range}")]
    OutOfRange {
        /// The address.
        address: Arc<str>,
        /// The name of the setting.
        setting: &'static str,
        /// The value that was refused.
        value: String,
        /// The range of values that are taken.
        range: String,
    },
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

/// Why [`Builder::build`](crate::Builder::build) refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A setting is out of its range.
    #[error("{setting} is {value}, outside {range}")]
    OutOfRange {
        /// The name of the setting.
        setting: &'static str,
        /// The value that was refused.
        value: String,
        /// The range of values that are taken.
        range: String,
    },
    /// A server was refused.
    #[error(transparent)]
    Server(#[from] ServerError),
}
