//! The sequential specification: which connections are idle, and which steps that allows.
//!
//! Most operations are one step: they take effect at one moment between their beginning and their end. A refusal is one
//! step only where a single queue decides it. A caller that looks into several servers or shards looks at one after the
//! other, while connections come and go: none of its looks finds one, though at no single moment all places are empty.
//! So a refusal is a step for each place, each at a moment of its own (an *interval-linearizable* operation: Castañeda,
//! Rajsbaum, Raynal, "Unifying Concurrent Objects and Distributed Tasks: Interval-Linearizability", JACM 2018). The
//! promise that remains is that no connection was idle from its beginning to its end.
//!
//! For the same reason a checkout from a server that can go down has two steps: the server may serve, at one moment,
//! and the connection is taken, at another.

use crate::history::{Action, Conn, History, Operation, Order, Server};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// The idle connections of each server, in the order of their release; sorted where the order does not matter.
    idle: Vec<Vec<Conn>>,
    is_down: Vec<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Take {
        conn: Conn,
        /// The connections that it may leave behind although they were released before.
        past: Vec<Conn>,
    },
    Put(Conn),
    /// The connection closes.
    Close,
    /// The server goes down.
    Down(Server),
    See(Sight),
}

/// What a caller sees without changing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The server is up, or no server is.
    MayServe(Server),
    /// No connection of the server may be handed out. `in_flux`: a server goes down during the refusal.
    Nothing { server: Server, in_flux: bool },
    /// This connection may not be handed out.
    Without { conn: Conn, in_flux: bool },
}

impl State {
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
        if history.promises.order == Order::Any {
            idle.sort_unstable();
        }
    }

    fn may_serve(&self, server: Server) -> bool {
        !self.is_down[server] || self.is_down.iter().all(|&is_down| is_down)
    }

    /// Idle connections of a server that is down are the last resort. A server goes down before the set of the servers
    /// that are up says so. A caller that comes in between finds the server down and takes it for still not the last
    /// resort, even if it is the only server.
    fn is_passed_over(&self, server: Server, in_flux: bool) -> bool {
        !self.may_serve(server) || in_flux && self.is_down[server]
    }

    pub(crate) fn sees(&self, history: &History, sight: Sight) -> bool {
        match sight {
            Sight::MayServe(server) => self.may_serve(server),
            Sight::Nothing { server, in_flux } => self.idle[server].is_empty() || self.is_passed_over(server, in_flux),
            Sight::Without { conn, in_flux } => {
                let server = history.server_of[conn];
                !self.idle[server].contains(&conn) || self.is_passed_over(server, in_flux)
            }
        }
    }

    /// The state after a step, if the step is allowed.
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
            Step::See(sight) => return self.sees(history, sight).then_some(next),
        }
        Some(next)
    }
}

/// The steps of an operation, each at some moment of its interval.
pub(crate) fn steps(history: &History, operation: &Operation) -> Vec<Step> {
    let History { promises, servers, server_of, operations, .. } = history;
    match operation.action {
        Action::Checkout(conn) => {
            let past = match promises.order {
                Order::Any => (0..server_of.len()).collect(),
                Order::Fifo => Vec::new(),
                Order::FifoUpToOverlap => {
                    let overlapping = operations.iter().filter(|other| other.overlaps(operation));
                    overlapping.filter_map(Operation::released).collect()
                }
            };
            let may_serve = promises.fail_takes_down.then(|| Step::See(Sight::MayServe(server_of[conn])));
            may_serve.into_iter().chain([Step::Take { conn, past }]).collect()
        }
        Action::Release(conn) => vec![Step::Put(conn)],
        Action::Fail(conn) if promises.fail_takes_down => vec![Step::Down(server_of[conn])],
        Action::Discard(_) | Action::Fail(_) => vec![Step::Close],
        Action::Refused => {
            let fails = |other: &Operation| matches!(other.action, Action::Fail(_)) && other.overlaps(operation);
            let in_flux = promises.fail_takes_down && operations.iter().any(fails);
            if promises.order != Order::Any {
                (0..*servers).map(|server| Step::See(Sight::Nothing { server, in_flux })).collect()
            } else {
                (0..server_of.len()).map(|conn| Step::See(Sight::Without { conn, in_flux })).collect()
            }
        }
    }
}
