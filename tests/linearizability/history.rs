//! A history of recorded operations, and its rendering in failure messages.

use std::fmt;

/// A connection, as an index into [`History::server_of`].
pub(crate) type Conn = usize;
pub(crate) type Server = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Checkout(Conn),
    /// A checkout that returned no connection.
    Refused,
    Release(Conn),
    Discard(Conn),
    Fail(Conn),
}

/// One call with its result and its interval. All stamps within a history differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) thread: usize,
    pub(crate) invoked: u64,
    pub(crate) returned: u64,
    pub(crate) action: Action,
}

impl Operation {
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.invoked < other.returned && other.invoked < self.returned
    }

    /// Returns whether the other one is not this operation, and overlaps it. All stamps differ.
    pub(crate) fn overlaps_other(&self, other: &Self) -> bool {
        self.invoked != other.invoked && self.overlaps(other)
    }

    /// Returns the released connection, if the operation is a release.
    pub(crate) fn released(&self) -> Option<Conn> {
        if let Action::Release(conn) = self.action { Some(conn) } else { None }
    }
}

/// Which of a server's idle connections a checkout may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Any connection, because the threads use several shards.
    Any,
    /// The connection that was released first.
    Fifo,
    /// The connection that was released first, not counting connections whose release overlaps the checkout.
    FifoUpToOverlap,
}

/// The guarantees that a history is checked against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guarantees {
    pub(crate) order: Order,
    /// One failure ejects a server for good, unless no other server would be left.
    pub(crate) fail_ejects: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) guarantees: Guarantees,
    pub(crate) servers: usize,
    /// All servers went down before the history began, because they refused.
    pub(crate) all_down: bool,
    /// The server of each connection.
    pub(crate) server_of: Vec<Server>,
    /// The initially idle connections, in the order of their release.
    pub(crate) idle: Vec<Conn>,
    pub(crate) operations: Vec<Operation>,
}

impl History {
    /// Returns whether operations of different threads overlap.
    pub(crate) fn overlaps(&self) -> bool {
        let pair = |a: &Operation| self.operations.iter().any(|b| a.thread != b.thread && a.overlaps(b));
        self.operations.iter().any(pair)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checkout(conn) => write!(f, "checkout -> {conn}"),
            Self::Refused => write!(f, "checkout -> none"),
            Self::Release(conn) => write!(f, "release {conn}"),
            Self::Discard(conn) => write!(f, "discard {conn}"),
            Self::Fail(conn) => write!(f, "fail {conn}"),
        }
    }
}

/// Writes one line for each operation, with its interval as a bar along the stamps.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.guarantees)?;
        writeln!(f, "server of each connection: {:?}; initially idle: {:?}", self.server_of, self.idle)?;
        let mut operations = self.operations.clone();
        operations.sort_unstable_by_key(|operation| operation.invoked);
        writeln!(f, "thread  operation         interval")?;
        for Operation { thread, invoked, returned, action } in operations {
            let (before, within) = (invoked as usize, (returned - invoked) as usize - 1);
            writeln!(f, "{thread:>6}  {:<16}  {}|{}|", action.to_string(), " ".repeat(before), "-".repeat(within))?;
        }
        Ok(())
    }
}
