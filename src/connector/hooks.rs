//! What the hooks of a connector are told, and what they answer.

/// How a use of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Its caller released it.
    Released,
    /// Its caller dropped it: a request was cut short, by `?`, by a timeout or by a dropped future.
    Dropped,
}

/// What happens to a connection after a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterUse {
    /// It goes back for reuse.
    Reuse,
    /// It goes back after [`Connector::recycle`](crate::Connector::recycle).
    Recycle,
    /// It closes.
    Close,
}

impl AfterUse {
    /// The default of [`Connector::after_use`](crate::Connector::after_use): one that was released goes back for reuse,
    /// one that was dropped closes.
    // In line, since the release asks it.
    #[inline]
    pub fn of(ended: Ended) -> Self {
        match ended {
            Ended::Released => Self::Reuse,
            Ended::Dropped => Self::Close,
        }
    }
}

/// Why the pool closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// It was idle for the builder's `idle_timeout`.
    IdleTimeout,
    /// It was not needed for as long.
    Surplus,
    /// Its lifetime was over.
    MaxLifetime,
    /// The server's maximum was lowered, or `max_idle_per_server` connections were idle already.
    OverMaximum,
    /// The server was removed or drained.
    Removed,
    /// [`Pool::reset`](crate::Pool::reset), or the server's address or a tag changed.
    Reset,
    /// The pool was closed.
    PoolClosed,
    /// Its caller discarded it, or made it `broken`.
    Discarded,
    /// Its caller dropped it.
    Dropped,
    /// Its caller reported a failure of the server.
    Failed,
    /// Its caller took it out of the pool.
    Detached,
    /// `is_reusable` or `after_use` refused it.
    Unfit,
    /// `check` failed.
    CheckFailed,
    /// `recycle` failed.
    RecycleFailed,
    /// The server went down while it was idle.
    Outage,
    /// The runtime that it was opened on was shut down, or a task of the pool was dropped.
    RuntimeLost,
}

impl CloseReason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 16] = [
        Self::IdleTimeout,
        Self::Surplus,
        Self::MaxLifetime,
        Self::OverMaximum,
        Self::Removed,
        Self::Reset,
        Self::PoolClosed,
        Self::Discarded,
        Self::Dropped,
        Self::Failed,
        Self::Detached,
        Self::Unfit,
        Self::CheckFailed,
        Self::RecycleFailed,
        Self::Outage,
        Self::RuntimeLost,
    ];

    /// The name in events and metrics: `idle_timeout`, `surplus` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::Surplus => "surplus",
            Self::MaxLifetime => "max_lifetime",
            Self::OverMaximum => "over_maximum",
            Self::Removed => "removed",
            Self::Reset => "reset",
            Self::PoolClosed => "pool_closed",
            Self::Discarded => "discarded",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Detached => "detached",
            Self::Unfit => "unfit",
            Self::CheckFailed => "check_failed",
            Self::RecycleFailed => "recycle_failed",
            Self::Outage => "outage",
            Self::RuntimeLost => "runtime_lost",
        }
    }

    /// Whether the connector may say goodbye: the connection works, as far as the pool knows.
    pub(crate) fn is_polite(self) -> bool {
        matches!(
            self,
            Self::IdleTimeout
                | Self::Surplus
                | Self::MaxLifetime
                | Self::OverMaximum
                | Self::Removed
                | Self::Reset
                | Self::PoolClosed
        )
    }
}
