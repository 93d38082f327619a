//! The sequential specification: the state of the pool, and the steps that it allows.
//!
//! Most operations are one step, which takes effect at one moment between invocation and return. A refusal is one step
//! only if a single queue decides it. A caller that searches several servers or shards visits them one after the other,
//! while other threads check out and release. It may find each of them empty although they were never all empty at
//! once. So a refusal has one step for each place, each at its own moment; it is an *interval-linearizable* operation
//! (Castañeda, Rajsbaum, Raynal, "Unifying Concurrent Objects and Distributed Tasks: Interval-Linearizability", JACM
//! 2018). The remaining guarantee: no connection was idle from the beginning of the refusal to its end.
//!
//! For the same reason a checkout from a server that can be ejected has several steps: at one moment the server may
//! serve, at another the connection is taken. A connection of an ejected server that came back well since then may be
//! taken too, by a caller that found nothing at the other server.
//!
//! A `fail` that ejects has three steps: it is decided that the server goes (so that the last one stays), the server's
//! health changes, and callers no longer find the server in the up set. A release reads the health first and puts the
//! connection into the idle queue later.

use crate::history::{Action, Conn, History, Operation, Order, Server};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The idle connections of each server, in the order of their release, or sorted if the order does not matter.
    idle: Vec<Vec<Conn>>,
    /// The operation that ejects each server.
    ejected_by: Vec<Option<usize>>,
    /// The server's health has changed.
    has_fallen: Vec<bool>,
    /// Callers do not find the server any more.
    is_out: Vec<bool>,
    /// The connection came back well after the change of its server's health.
    has_answered: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Take {
        conn: Conn,
        /// The connections that the checkout may pass over although they were released before `conn`.
        past: Vec<Conn>,
    },
    /// The connection comes back well.
    Answer(Conn),
    Put(Conn),
    /// The connection closes.
    Close,
    /// An operation decides that the server is ejected, unless it is already or no other server would be left.
    Decide {
        server: Server,
        operation: usize,
    },
    /// If it was decided so, the server's health changes.
    Fall {
        server: Server,
        operation: usize,
    },
    /// If it was decided so, callers no longer find the server.
    Out {
        server: Server,
        operation: usize,
    },
    /// The caller observes a fact and changes nothing.
    Observe(Fact),
}

/// A fact about the state. `in_flux`: a server is being ejected during the operation. `is_alone`: no other checkout
/// overlaps the operation, so none has taken out a connection for a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The server serves, or no connection of the other one can be checked out.
    ServesAloneIfOut { server: Server, in_flux: bool },
    /// The same for one connection of the other server.
    ServesUnlessIdle { server: Server, conn: Conn, in_flux: bool },
    /// No connection of the server can be checked out.
    ServerHasNone { server: Server, in_flux: bool, is_alone: bool },
    /// This connection cannot be checked out.
    IsUnavailable { conn: Conn, in_flux: bool, is_alone: bool },
}

impl State {
    /// Returns the state at the beginning of the history.
    pub(crate) fn first(history: &History) -> Self {
        let mut first = Self {
            idle: vec![Vec::new(); history.servers],
            ejected_by: vec![None; history.servers],
            has_fallen: vec![false; history.servers],
            is_out: vec![false; history.servers],
            has_answered: vec![false; history.server_of.len()],
        };
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

    /// Returns whether a caller finds the server in the up set.
    fn serves(&self, server: Server) -> bool {
        !self.is_out[server]
    }

    /// Returns whether a caller passes over an idle connection of the server.
    ///
    /// A server's health changes before its bit in the up set. In between, a caller may find the server by neither.
    fn is_passed_over(&self, server: Server, conn: Conn, in_flux: bool, is_alone: bool) -> bool {
        let is_ejected = self.is_out[server] || in_flux && self.has_fallen[server];
        is_ejected && (in_flux || !is_alone || !self.has_answered[conn])
    }

    pub(crate) fn satisfies(&self, history: &History, fact: Fact) -> bool {
        let has_none = |server: Server, in_flux: bool, is_alone: bool| {
            self.idle[server].iter().all(|&conn| self.is_passed_over(server, conn, in_flux, is_alone))
        };
        let is_unavailable = |conn: Conn, in_flux: bool, is_alone: bool| {
            let server = history.server_of[conn];
            !self.idle[server].contains(&conn) || self.is_passed_over(server, conn, in_flux, is_alone)
        };
        match fact {
            Fact::ServesAloneIfOut { server, in_flux } => {
                let others = (0..history.servers).filter(|&other| other != server);
                self.serves(server) || others.into_iter().all(|other| has_none(other, in_flux, false))
            }
            Fact::ServesUnlessIdle { server, conn, in_flux } => {
                self.serves(server) || is_unavailable(conn, in_flux, false)
            }
            Fact::ServerHasNone { server, in_flux, is_alone } => has_none(server, in_flux, is_alone),
            Fact::IsUnavailable { conn, in_flux, is_alone } => is_unavailable(conn, in_flux, is_alone),
        }
    }

    /// Returns the state after a step, or `None` if the state does not allow the step.
    pub(crate) fn after(&self, history: &History, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        match *step {
            Step::Take { conn, ref past } => {
                let server = history.server_of[conn];
                if !self.serves(server) && !self.has_answered[conn] {
                    return None;
                }
                let idle = &mut next.idle[server];
                let at = idle.iter().position(|&other| other == conn)?;
                // A search for connections that have answered since the ejection changes the order of the others.
                if !self.has_fallen[server] && !idle[..at].iter().all(|ahead| past.contains(ahead)) {
                    return None;
                }
                idle.remove(at);
            }
            Step::Answer(conn) => next.has_answered[conn] = self.has_fallen[history.server_of[conn]],
            Step::Put(conn) => next.put(history, conn),
            Step::Close => {}
            Step::Decide { server, operation } => {
                let others = (0..history.servers).filter(|&other| other != server);
                let is_last = others.into_iter().all(|other| self.ejected_by[other].is_some());
                if self.ejected_by[server].is_none() && !is_last {
                    next.ejected_by[server] = Some(operation);
                }
            }
            Step::Fall { server, operation } => next.has_fallen[server] |= self.ejected_by[server] == Some(operation),
            Step::Out { server, operation } => next.is_out[server] |= self.ejected_by[server] == Some(operation),
            Step::Observe(fact) => return self.satisfies(history, fact).then_some(next),
        }
        Some(next)
    }
}

/// Returns the steps of an operation. Each takes effect at its own moment within the operation's interval, those that
/// are no observations in this order.
pub(crate) fn steps(history: &History, operation: usize) -> Vec<Step> {
    let History { guarantees, servers, server_of, operations, .. } = history;
    let this = &operations[operation];
    let fails = |other: &Operation| matches!(other.action, Action::Fail(_)) && other.overlaps(this);
    let in_flux = guarantees.fail_ejects && operations.iter().any(fails);
    match this.action {
        Action::Checkout(conn) => {
            let past = match guarantees.order {
                Order::Any => (0..server_of.len()).collect(),
                Order::Fifo => Vec::new(),
                Order::FifoUpToOverlap => {
                    let overlapping = operations.iter().filter(|other| other.overlaps(this));
                    overlapping.filter_map(Operation::released).collect()
                }
            };
            let server = server_of[conn];
            let mut steps = match guarantees.order {
                _ if !guarantees.fail_ejects => Vec::new(),
                Order::Any => {
                    let others = (0..server_of.len()).filter(|&other| server_of[other] != server);
                    let idle = |conn| Step::Observe(Fact::ServesUnlessIdle { server, conn, in_flux });
                    others.map(idle).collect()
                }
                _ => vec![Step::Observe(Fact::ServesAloneIfOut { server, in_flux })],
            };
            steps.push(Step::Take { conn, past });
            steps
        }
        Action::Release(conn) if guarantees.fail_ejects => vec![Step::Answer(conn), Step::Put(conn)],
        Action::Release(conn) => vec![Step::Put(conn)],
        Action::Fail(conn) if guarantees.fail_ejects => {
            let server = server_of[conn];
            vec![Step::Decide { server, operation }, Step::Fall { server, operation }, Step::Out { server, operation }]
        }
        Action::Discard(_) | Action::Fail(_) => vec![Step::Close],
        Action::Refused => {
            let searches = |other: &Operation| matches!(other.action, Action::Checkout(_) | Action::Refused);
            let is_alone = !operations.iter().any(|other| other.overlaps_other(this) && searches(other));
            if guarantees.order != Order::Any {
                (0..*servers).map(|server| Step::Observe(Fact::ServerHasNone { server, in_flux, is_alone })).collect()
            } else {
                (0..server_of.len())
                    .map(|conn| Step::Observe(Fact::IsUnavailable { conn, in_flux, is_alone }))
                    .collect()
            }
        }
    }
}
