//! The sequential specification: the state of the pool, and the steps that it allows.
//!
//! Most operations are one step, which takes effect at one moment between invocation and return. A refusal is one step
//! only if a single queue decides it. A caller that searches several servers or shards visits them one after the other,
//! while other threads check out and release. It may find each of them empty although they were never all empty at
//! once. So a refusal has one step for each place, each at its own moment; it is an *interval-linearizable* operation
//! (Castañeda, Rajsbaum, Raynal, "Unifying Concurrent Objects and Distributed Tasks: Interval-Linearizability", JACM
//! 2018). The remaining guarantee: no connection was idle from the beginning of the refusal to its end.
//!
//! For the same reason a checkout from a server that can go down has two steps: at one moment the server may serve, at
//! another the connection is taken.

use crate::history::{Action, Conn, History, Operation, Order, Server};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The idle connections of each server, in the order of their release, or sorted if the order does not matter.
    idle: Vec<Vec<Conn>>,
    is_down: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Take {
        conn: Conn,
        /// The connections that the checkout may pass over although they were released before `conn`.
        past: Vec<Conn>,
    },
    Put(Conn),
    /// The connection closes.
    Close,
    /// The server goes down.
    Down(Server),
    /// The caller observes a fact and changes nothing.
    Observe(Fact),
}

/// A fact about the state. `in_flux`: a server goes down during the refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The server is up, or no server is.
    MayServe(Server),
    /// No connection of the server can be checked out.
    ServerHasNone { server: Server, in_flux: bool },
    /// This connection cannot be checked out.
    IsUnavailable { conn: Conn, in_flux: bool },
}

impl State {
    /// Returns the state at the beginning of the history.
    pub(crate) fn first(history: &History) -> Self {
        let mut first = Self { idle: vec![Vec::new(); history.servers], is_down: vec![false; history.servers] };
        for &conn in &history.idle {
            first.put(history, conn);
        }
        first
    }

    fn put(&mut self, history: &History, conn: Conn) {
        let idle = &mut self.idle[history.server_of[conn]];
        idle.push(conn);
        if history.guarantees.order == Order::Any {
            idle.sort_unstable();
        }
    }

    fn may_serve(&self, server: Server) -> bool {
        !self.is_down[server] || self.is_down.iter().all(|&is_down| is_down)
    }

    /// Returns whether a caller passes over the idle connections of the server.
    ///
    /// Idle connections of down servers are a last resort, for callers that find the up set empty. A server's health
    /// changes before its bit in the up set. In between, a caller finds the server down and the up set not yet empty,
    /// so it passes over the server even if there is no other.
    fn is_passed_over(&self, server: Server, in_flux: bool) -> bool {
        !self.may_serve(server) || in_flux && self.is_down[server]
    }

    pub(crate) fn satisfies(&self, history: &History, fact: Fact) -> bool {
        match fact {
            Fact::MayServe(server) => self.may_serve(server),
            Fact::ServerHasNone { server, in_flux } => {
                self.idle[server].is_empty() || self.is_passed_over(server, in_flux)
            }
            Fact::IsUnavailable { conn, in_flux } => {
                let server = history.server_of[conn];
                !self.idle[server].contains(&conn) || self.is_passed_over(server, in_flux)
            }
        }
    }

    /// Returns the state after a step, or `None` if the state does not allow the step.
    pub(crate) fn after(&self, history: &History, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        match *step {
            Step::Take { conn, ref past } => {
                let idle = &mut next.idle[history.server_of[conn]];
                let at = idle.iter().position(|&other| other == conn)?;
                if !idle[..at].iter().all(|ahead| past.contains(ahead)) {
                    return None;
                }
                idle.remove(at);
            }
            Step::Put(conn) => next.put(history, conn),
            Step::Close => {}
            Step::Down(server) => next.is_down[server] = true,
            Step::Observe(fact) => return self.satisfies(history, fact).then_some(next),
        }
        Some(next)
    }
}

/// Returns the steps of an operation. Each takes effect at its own moment within the operation's interval.
pub(crate) fn steps(history: &History, operation: &Operation) -> Vec<Step> {
    let History { guarantees, servers, server_of, operations, .. } = history;
    match operation.action {
        Action::Checkout(conn) => {
            let past = match guarantees.order {
                Order::Any => (0..server_of.len()).collect(),
                Order::Fifo => Vec::new(),
                Order::FifoUpToOverlap => {
                    let overlapping = operations.iter().filter(|other| other.overlaps(operation));
                    overlapping.filter_map(Operation::released).collect()
                }
            };
            let may_serve = guarantees.fail_takes_down.then(|| Step::Observe(Fact::MayServe(server_of[conn])));
            may_serve.into_iter().chain([Step::Take { conn, past }]).collect()
        }
        Action::Release(conn) => vec![Step::Put(conn)],
        Action::Fail(conn) if guarantees.fail_takes_down => vec![Step::Down(server_of[conn])],
        Action::Discard(_) | Action::Fail(_) => vec![Step::Close],
        Action::Refused => {
            let fails = |other: &Operation| matches!(other.action, Action::Fail(_)) && other.overlaps(operation);
            let in_flux = guarantees.fail_takes_down && operations.iter().any(fails);
            if guarantees.order != Order::Any {
                (0..*servers).map(|server| Step::Observe(Fact::ServerHasNone { server, in_flux })).collect()
            } else {
                (0..server_of.len()).map(|conn| Step::Observe(Fact::IsUnavailable { conn, in_flux })).collect()
            }
        }
    }
}
