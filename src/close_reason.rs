//! Why a connection was closed.

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
    /// A caller wanted a new connection, and there was no room for it.
    MadeRoom,
    /// The server was removed.
    Removed,
    /// [`Pool::reset`](crate::Pool::reset), [`Pool::drain`](crate::Pool::drain), or the server's address or a tag
    /// changed.
    Reset,
    /// The pool was closed.
    PoolClosed,
    /// Its caller discarded it.
    Discarded,
    /// Its caller called it broken, or it had been idle for as long as one that was.
    Broken,
    /// Its caller dropped it.
    Dropped,
    /// Its caller reported a failure of the server.
    Failed,
    /// Its caller took it out of the pool.
    Detached,
    /// `is_reusable` or `after_use` refused it.
    Unfit,
    /// `check` failed, or it had been idle for as long as one that failed.
    CheckFailed,
    /// `recycle` failed.
    RecycleFailed,
    /// The server went down, and it has not come back well since.
    Outage,
    /// A task that held it was dropped, or a hook panicked.
    Lost,
}

impl CloseReason {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 18] = [
        Self::IdleTimeout,
        Self::Surplus,
        Self::MaxLifetime,
        Self::OverMaximum,
        Self::MadeRoom,
        Self::Removed,
        Self::Reset,
        Self::PoolClosed,
        Self::Discarded,
        Self::Broken,
        Self::Dropped,
        Self::Failed,
        Self::Detached,
        Self::Unfit,
        Self::CheckFailed,
        Self::RecycleFailed,
        Self::Outage,
        Self::Lost,
    ];

    /// The name in events and metrics: `idle_timeout`, `surplus` and so on.
    pub fn name(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::Surplus => "surplus",
            Self::MaxLifetime => "max_lifetime",
            Self::OverMaximum => "over_maximum",
            Self::MadeRoom => "made_room",
            Self::Removed => "removed",
            Self::Reset => "reset",
            Self::PoolClosed => "pool_closed",
            Self::Discarded => "discarded",
            Self::Broken => "broken",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
            Self::Detached => "detached",
            Self::Unfit => "unfit",
            Self::CheckFailed => "check_failed",
            Self::RecycleFailed => "recycle_failed",
            Self::Outage => "outage",
            Self::Lost => "lost",
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
                | Self::MadeRoom
                | Self::Removed
                | Self::Reset
                | Self::PoolClosed
        )
    }
}
