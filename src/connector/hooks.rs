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
