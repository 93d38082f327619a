//! The errors of a pool, with their numbers and reasons.

mod failure;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::sync::Arc;

pub use self::failure::Failure;

/// Why [`Pool::acquire`](crate::Pool::acquire) or another call of its kind returned no connection:
/// [`acquire_timeout`](crate::Pool::acquire_timeout), [`acquire_with`](crate::Pool::acquire_with),
/// [`acquire_owned`](crate::Pool::acquire_owned), [`acquire_now`](crate::Pool::acquire_now). `E` is the connector's
/// error.
///
/// It prints its reason in one line. Its source is the failure of the first server that has one.
///
/// [`Unavailable`](Self::Unavailable) and [`Timeout`](Self::Timeout) tell of servers: they begin with the pool's name,
/// if the [builder](crate::Builder::name) gave it one. The others, and [`TryAcquireError`], are about the call alone
/// and copy nothing: a refusal under load shares no counter between threads.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<E: Error + 'static> {
    /// No server is registered, or the last one was removed while the caller waited.
    NoServers,
    /// No server can serve now. From `acquire_now`; from the others only where waiting is pointless: no server serves,
    /// is connected to or has an open connection, and none is tried before the wait ends; or by `fail_fast_when_down`.
    Unavailable(Unavailable<E>),
    /// The caller waited for the whole of `wait_timeout`, or of the timeout that it gave itself.
    Timeout {
        /// How long the caller waited.
        waited: Duration,
        /// Why no server could serve at the end of that time.
        reason: Unavailable<E>,
    },
    /// The wait queue is full.
    QueueFull {
        /// How many callers wait: at least the builder's `max_waiters`. A waiter that got a dead connection rejoins the
        /// queue even if it is full.
        waiters: usize,
    },
    /// The pool is closed.
    Closed,
}

// Written by hand: the text contains the reason, so the source is that of the reason, and no chain prints a text twice.
impl<E: Error + 'static> fmt::Display for AcquireError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServers => f.write_str("no servers are registered"),
            Self::Unavailable(reason) => reason.fmt(f),
            Self::Timeout { waited, reason } => {
                reason.report.begin(f)?;
                write!(f, "timed out after {waited:?}: {}", reason.counts())
            }
            Self::QueueFull { waiters } => write!(f, "wait queue is full ({waiters} waiters)"),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl<E: Error + 'static> Error for AcquireError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(reason) | Self::Timeout { reason, .. } => reason.source(),
            Self::NoServers | Self::QueueFull { .. } | Self::Closed => None,
        }
    }
}

impl<E: Error + 'static> AcquireError<E> {
    /// The earliest time, from when the error was made, at which a server may serve again, if one is known. At least
    /// 1 ms.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(reason) | Self::Timeout { reason, .. } => reason.retry_after(),
            Self::NoServers | Self::QueueFull { .. } | Self::Closed => None,
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
    /// The pool's name, if it was given one.
    pub(crate) pool: Option<Arc<str>>,
    pub(crate) servers: Vec<ServerReport<E>>,
    pub(crate) counts: Counts,
}

impl<E> Report<E> {
    /// Begins a text with the pool's name.
    fn begin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.as_ref().map_or(Ok(()), |name| write!(f, "pool {name:?}: "))
    }
}

/// How many servers could not serve, by the reason. Each server counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Down: they are avoided for a time, or being probed.
    pub down: usize,
    /// Up, but without a token.
    pub limited: usize,
    /// Up, but all of their `max_conns` connections are in use.
    pub full: usize,
    /// Up and below `max_conns`, but without an idle connection, and connecting pauses.
    pub paused: usize,
    /// Up, without an idle connection, but not all of their `max_conns` are in use: some are being opened, or may be.
    pub empty: usize,
    /// Up, but the caller [avoids](crate::AcquireOptions::avoid) them.
    pub avoided: usize,
    /// Up, but of a worse [tier](crate::Server::tier) than those in use.
    pub standby: usize,
    /// Disabled, and used by nobody.
    pub disabled: usize,
    /// Callers in the wait queue, which come first.
    pub waiters: usize,
    /// The earliest time at which a server may serve again, if one is known. At least
    /// 1 ms.
    pub retry_after: Option<Duration>,
}

/// One server that could not serve. It prints its name and the reason, without the cause.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerReport<E> {
    /// Its name: its address, unless it has one of its own.
    pub name: Arc<str>,
    /// Why it could not serve.
    pub reason: Reason<E>,
}

/// Why one server could not serve. It prints its numbers, without the cause.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reason<E> {
    /// It failed and is avoided for a time, or it is being probed.
    Down {
        /// What took it down.
        cause: Option<Arc<Failure<E>>>,
        /// Why the last attempt failed, if none has connected since: the cause, or a later failure.
        connect_error: Option<Arc<Failure<E>>>,
        /// Failed attempts in a row.
        failures: u32,
        /// Until it is probed, at least 1 ms.
        retry_after: Duration,
    },
    /// It is up, but nothing is idle and connecting pauses after a failed attempt, or one attempt tries whether it can
    /// go on. Or the server recovers: then the connection of its probe serves alone.
    Paused {
        /// Why the last attempt failed. Of a server that recovers: what took it down.
        cause: Option<Arc<Failure<E>>>,
        /// Failed attempts in a row.
        failures: u32,
        /// Until connecting resumes, at least 1 ms.
        retry_after: Duration,
    },
    /// It is up, but without a token.
    Limited {
        /// Until it has a token, at least 1 ms.
        retry_after: Duration,
    },
    /// All its connections are in use.
    Full {
        /// How many it may have.
        max_conns: u32,
    },
    /// Servers of a better tier are up.
    Standby {
        /// Its tier.
        tier: u32,
    },
    /// It is up, but the caller [avoids](crate::AcquireOptions::avoid) it, since another server serves.
    Avoided,
    /// Not all its connections are in use, but none was idle: some are being opened, or may be.
    Empty {
        /// Connect attempts that run.
        connecting: u32,
    },
    /// It was disabled.
    Disabled {
        /// Until it is enabled again, at least 1 ms. `None`: by order only.
        ends_in: Option<Duration>,
    },
}

impl<E> Unavailable<E> {
    /// The pool's name, if the [builder](crate::Builder::name) gave it one.
    pub fn pool(&self) -> Option<&str> {
        self.report.pool.as_deref()
    }

    /// At most 8 servers, each with why it could not serve. [`counts`](Self::counts) has them all.
    pub fn servers(&self) -> &[ServerReport<E>] {
        &self.report.servers
    }

    /// How many servers could not serve, by the reason.
    pub fn counts(&self) -> Counts {
        self.report.counts
    }

    /// The earliest time, from when the error was made, at which a server may serve again, if one is known. At least
    /// 1 ms.
    pub fn retry_after(&self) -> Option<Duration> {
        self.report.counts.retry_after
    }
}

impl<E> fmt::Display for Unavailable<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.begin(f)?;
        self.report.counts.fmt(f)
    }
}

impl<E: Error + 'static> Error for Unavailable<E> {
    /// The failure of the first server that has one.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.report.servers.iter().find_map(|server| match &server.reason {
            Reason::Down { cause: Some(cause), .. } | Reason::Paused { cause: Some(cause), .. } => {
                Some(&**cause as &(dyn Error + 'static))
            }
            _ => None,
        })
    }
}

impl<E> fmt::Display for ServerReport<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.reason)
    }
}

impl<E> fmt::Display for Reason<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused { failures, retry_after, .. } => {
                write!(f, "paused after failed connects (failures: {failures}, retried in {retry_after:?})")
            }
            Self::Down { failures: 0, retry_after, .. } => write!(f, "ejected (retried in {retry_after:?})"),
            Self::Down { failures, retry_after, .. } => {
                write!(f, "down (failures: {failures}, retried in {retry_after:?})")
            }
            Self::Limited { retry_after } => write!(f, "rate limited (for {retry_after:?})"),
            Self::Avoided => f.write_str("avoided by the caller"),
            Self::Standby { tier } => write!(f, "standby (tier: {tier})"),
            Self::Full { max_conns } => write!(f, "full (max_conns: {max_conns})"),
            Self::Empty { connecting } => write!(f, "without an idle connection (connecting: {connecting})"),
            Self::Disabled { ends_in: Some(time) } => write!(f, "disabled (for {time:?})"),
            Self::Disabled { ends_in: None } => f.write_str("disabled"),
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (self.down, "down"),
            (self.limited, "rate limited"),
            (self.full, "full"),
            (self.paused, "paused after failed connects"),
            (self.empty, "without an idle connection"),
            (self.avoided, "avoided by the caller"),
            (self.standby, "standby"),
            (self.disabled, "disabled"),
        ];
        let mut present = reasons.iter().filter(|(count, _)| *count > 0);
        match (present.next(), present.next()) {
            (None, _) => f.write_str("no servers are registered")?,
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
        match self.waiters {
            0 => {}
            1 => f.write_str("; 1 waiter in the queue")?,
            waiters => write!(f, "; {waiters} waiters in the queue")?,
        }
        Ok(())
    }
}

/// Why [`Pool::try_acquire`](crate::Pool::try_acquire) returned no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TryAcquireError {
    /// No server is registered.
    #[error("no servers are registered")]
    NoServers,
    /// No server can serve now, or callers wait and come first ([`Counts::waiters`]).
    #[error("{0}")]
    Unavailable(Counts),
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

impl TryAcquireError {
    /// The earliest time at which a server may serve again, if one is known. At least
    /// 1 ms.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable(counts) => counts.retry_after,
            Self::NoServers | Self::Closed => None,
        }
    }
}

/// Why a server was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A name or an address is empty.
    #[error("server {name:?} has an empty address or name")]
    EmptyAddress {
        /// The server's name, empty if that is.
        name: Arc<str>,
    },
    /// A name or an address has blanks around it.
    #[error("server {text:?} has blanks around its address or name")]
    Blanks {
        /// The text with the blanks.
        text: Arc<str>,
    },
    /// A name is listed twice, or is registered already.
    #[error("server {name:?} is registered already or listed twice")]
    Duplicate {
        /// The name.
        name: Arc<str>,
    },
    /// A name is not registered.
    #[error("server {name:?} is not registered")]
    Unknown {
        /// The name.
        name: Arc<str>,
    },
    /// A setting of a server is out of its range.
    #[error("server {name:?}: {setting} is {value}, outside {range}")]
    OutOfRange {
        /// The server's name.
        name: Arc<str>,
        /// The name of the setting.
        setting: &'static str,
        /// The value that was refused.
        value: String,
        /// The range of values.
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
    /// The pool's name is empty.
    #[error("pool name is empty")]
    EmptyName,
    /// A setting is out of its range.
    #[error("{setting} is {value}, outside {range}")]
    OutOfRange {
        /// The name of the setting: that of the field of [`PoolConfig`](crate::PoolConfig), which is the key in a file
        /// and, with dashes, the flag.
        setting: &'static str,
        /// The value that was refused.
        value: String,
        /// The range of values.
        range: String,
    },
    /// A server was refused.
    #[error(transparent)]
    Server(#[from] ServerError),
}
