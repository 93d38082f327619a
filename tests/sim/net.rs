//! The network: connect attempts, and the connections to servers.

use std::collections::VecDeque;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use connring::{AfterUse, CloseReason, ConnInfo, ConnectFault, Connector, Ended, Server, StateKind};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::health::{Begun, Evidence, Outcome, State as Health};
use crate::hooks::Checking;
use crate::observer::Dropped;
use crate::reports::Open;
use crate::weather::Mode;
use crate::world::{Attempt, Event, MS, State, World};

#[derive(Debug)]
pub(crate) struct SimConnector {
    pub(crate) world: Arc<World>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SimError {
    Refused,
    /// The client's own fault.
    Own,
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused",
            Self::Own => "out of descriptors",
        })
    }
}

impl std::error::Error for SimError {}

/// A connection to one incarnation of a server.
#[derive(Debug)]
pub(crate) struct SimConn {
    pub(crate) id: u64,
    pub(crate) server: usize,
    pub(crate) holder: Option<u64>,
    pub(crate) uses: u64,
    /// Whether its last caller released it.
    pub(crate) is_released: bool,
    /// The requests whose answers were not read to the end.
    pub(crate) unread: VecDeque<u64>,
    /// Whether it was detached from the pool.
    pub(crate) is_detached: bool,
    /// How its caller ends the use, and what the connector answers then.
    pub(crate) ending: Option<(Ended, AfterUse)>,
    /// It no longer counts as open.
    left: Option<Dropped>,
    incarnation: usize,
    pub(crate) world: Arc<World>,
}

impl SimConn {
    /// Whether its server has died since.
    pub(crate) fn is_broken(&self) -> bool {
        self.world.state().servers[self.server].incarnation != self.incarnation
    }

    /// Whether the client's end has seen the death.
    pub(crate) fn is_told(&self) -> bool {
        let now = self.world.now();
        let told_at = self.world.state().servers[self.server].told_at.get(self.incarnation).copied();
        told_at.flatten().is_some_and(|at| at <= now)
    }

    /// Whether it is of no use, as the client sees it: a new one counts as a failed connect then.
    fn is_refused(&self) -> bool {
        let is_told = self.is_told();
        let now = self.world.now();
        let mut state = self.world.state();
        let state = &mut *state;
        let unused = state.open.get(&self.id).filter(|open| is_told && open.returns == 0);
        if let Some(open) = unused {
            state.servers[self.server].health.closed_at_once = Some((open.outage, now));
        }
        is_told
    }

    /// Whether it was opened in this instant.
    fn is_new(&self) -> bool {
        let now = self.world.now();
        self.world.state().open.get(&self.id).is_none_or(|open| open.opened == now)
    }

    /// Marks the connection as detached: the server still sees it, but it no longer belongs to the pool.
    pub(crate) fn leave_pool(&mut self) {
        self.is_detached = true;
        let (world, now) = (Arc::clone(&self.world), self.world.now());
        let mut state = world.state();
        let server = &mut state.servers[self.server];
        (server.open, server.touched) = (server.open - 1, now);
        self.leaves(&mut state, None, now);
        self.tell(&mut state);
    }

    /// It closes, with a goodbye for that reason or without.
    pub(crate) fn leaves(&mut self, state: &mut State, asked: Option<CloseReason>, now: u64) {
        state.recycles.remove(&self.id);
        let Some(open) = state.open.remove(&self.id) else { return };
        self.left = Some(Dropped { conn: self.id, open, closed_at: now, uses: self.uses, asked });
    }

    /// The observer hears of it next.
    fn tell(&mut self, state: &mut State) {
        if let Some(before) = std::mem::replace(&mut state.dropped, self.left.take()) {
            state.violated(format!("the observer has not heard that a connection closed: {before:?}"));
        }
    }
}

impl Drop for SimConn {
    fn drop(&mut self) {
        if self.is_detached {
            return;
        }
        self.world.check_permits(self.server);
        let (world, now) = (Arc::clone(&self.world), self.world.now());
        let mut state = world.state();
        let server = &mut state.servers[self.server];
        server.open -= 1;
        server.touched = now;
        state.trace.push((now, Event::ConnCloses { conn: self.id, server: self.server }));
        self.leaves(&mut state, None, now);
        self.tell(&mut state);
        if let Some(ending) = self.ending {
            state.violated(format!("after_use was not asked: {ending:?}, of connection {}", self.id));
        }
    }
}

/// A running attempt. A drop before its end means that it timed out or its server was removed.
struct RunningAttempt {
    world: Arc<World>,
    id: u64,
    server: usize,
    is_over: bool,
}

impl RunningAttempt {
    fn begin(world: &Arc<World>, address: &str) -> Self {
        world.sync();
        let now = world.now();
        let (mut is_probing, mut waiters) = (true, 0);
        if let Some(pool) = world.pool() {
            let status = pool.status();
            let listed = status.servers.iter().filter(|server| *server.address == *address);
            let state = world.state();
            let server = &state.servers[state.find(address)];
            is_probing = listed.map(|listed| server.told(listed, now)).any(|told| told.kind == StateKind::Probing);
            waiters = status.waiters;
        }
        let (id, server) = {
            let mut state = world.state();
            let state = &mut *state;
            let ahead = is_probing && state.may_try_ahead(&world.plan, waiters, now);
            let (id, index) = (state.id(), state.find(address));
            let server = &mut state.servers[index];
            server.open += 1;
            server.connecting += 1;
            server.touched = now;
            let max_conns = server.held.max_conns(now);
            let mut wrong = Vec::new();
            if server.open > max_conns {
                wrong.push(format!("{} connections, where {max_conns} are allowed", server.open));
            }
            if server.connecting > world.plan.max_attempts {
                wrong.push(format!("{} attempts at a time", server.connecting));
            }
            // A drain ends what was scheduled, too.
            if server.is_out(|since| since == now) {
                wrong.push(format!("an attempt at a server that is out of rotation: {:?}", server.disabled));
            }
            if !server.is_listed && server.listing_changed != now {
                wrong.push("an attempt at a server that was removed".into());
            }
            let is_up = server.health.state == Health::Up;
            let is_alone = server.open == 1;
            let begun = server.health.attempt_began(now, ahead, is_alone).unwrap_or_else(|why| {
                wrong.push(why);
                Begun::default()
            });
            let is_probe = begun.is_probe;
            if is_up && !begun.is_trial && state.is_unwanted(&world.plan, waiters, now) {
                wrong.push(format!("an attempt beside others or recycles, for {waiters} waiters"));
            }
            state.servers[index].tried = now;
            if is_probe {
                state.servers[index].probed = now;
                let last = state.last_probe.replace(now);
                let is_outage = |last: &u64| state.outage_since.is_some_and(|since| since < *last);
                if let Some(last) = last.filter(is_outage).filter(|last| now < last + 10 * MS) {
                    wrong.push(format!("a trial {} ms after another, while no server serves", (now - last) / MS));
                }
            }
            state.attempts.insert(id, Attempt { server: index, began: now, begun, is_removed: false });
            state.trace.push((now, Event::AttemptBegins { attempt: id, server: index, is_probe }));
            wrong.into_iter().for_each(|wrong| state.violated(format!("{address}: {wrong}")));
            (id, index)
        };
        world.check_permits(server);
        Self { world: Arc::clone(world), id, server, is_over: false }
    }

    /// Ends the attempt: the pool sees it before any other event.
    fn end(&mut self, outcome: Outcome) -> u64 {
        self.is_over = true;
        self.world.sync();
        let now = self.world.now();
        let mut state = self.world.state();
        let attempt = state.attempts.remove(&self.id).expect("an attempt ends once");
        state.trace.push((now, Event::AttemptEnds { attempt: self.id, server: self.server, outcome }));
        if now > attempt.began + (self.world.plan.connect_timeout + 1) * MS {
            state.violated(format!("an attempt lasted {} ms", (now - attempt.began) / MS));
        }
        let is_failure = matches!(outcome, Outcome::Refused | Outcome::OwnFault | Outcome::TimedOut);
        state.counts.connects += u64::from(outcome == Outcome::Connected);
        state.counts.connect_failures += u64::from(is_failure);
        state.counts.connect_timeouts += u64::from(outcome == Outcome::TimedOut);
        let evidence = match outcome {
            Outcome::Refused | Outcome::TimedOut => {
                state.evidence(&self.world.plan, self.server, outcome, attempt.began, now)
            }
            _ => Evidence::No,
        };
        let server = &mut state.servers[self.server];
        server.connecting -= 1;
        server.touched = now;
        if outcome != Outcome::Connected {
            server.open -= 1;
        }
        server.health.attempt_ended(attempt.begun, outcome, evidence, now);
        state.health_changed(now);
        attempt.begun.outage
    }
}

impl Drop for RunningAttempt {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        let now = self.world.now();
        let (is_removed, began) = {
            let state = self.world.state();
            let attempt = &state.attempts[&self.id];
            (attempt.is_removed, attempt.began)
        };
        if !is_removed && now < began + self.world.plan.connect_timeout * MS {
            self.world.violated(format!("attempt {} was dropped before its time", self.id));
        }
        self.end(if is_removed { Outcome::Removed } else { Outcome::TimedOut });
    }
}

impl SimConnector {
    /// The outcome of the attempt, with the incarnation that it connected to.
    async fn outcome(&self, server: usize) -> Result<usize, Outcome> {
        let (mode, incarnation, latency, yields) = {
            let mut state = self.world.state();
            let latency = state.network.pick(&[0, 0, 1, 1, 3]);
            let yields = state.network.pick(&[0, 0, 1, 2]);
            let (mode, incarnation) = (state.servers[server].mode, state.servers[server].incarnation);
            (if state.own_faults { Mode::OwnFault } else { mode }, incarnation, latency, yields)
        };
        for _ in 0..yields {
            yield_now().await;
        }
        let latency = if let Mode::Slow { connect_ms, .. } = mode { connect_ms } else { latency };
        if latency > 0 {
            sleep(Duration::from_millis(latency)).await;
        }
        match mode {
            Mode::OwnFault => return Err(Outcome::OwnFault),
            Mode::Refuses => return Err(Outcome::Refused),
            Mode::Hangs => pending().await,
            Mode::Limited { conns } => {
                let server = &self.world.state().servers[server];
                if server.open - server.connecting >= conns {
                    return Err(Outcome::Refused);
                }
            }
            Mode::Good | Mode::Slow { .. } | Mode::Fails { .. } | Mode::Mute => {}
        }
        if self.world.state().servers[server].incarnation != incarnation {
            return Err(Outcome::Refused);
        }
        Ok(incarnation)
    }
}

impl Connector for SimConnector {
    type Conn = SimConn;
    type Error = SimError;

    async fn connect(&self, server: &Server) -> Result<SimConn, SimError> {
        let mut attempt = RunningAttempt::begin(&self.world, server.address());
        let outcome = self.outcome(attempt.server).await;
        let outage = attempt.end(outcome.err().unwrap_or(Outcome::Connected));
        let (id, server) = (attempt.id, attempt.server);
        match outcome {
            Ok(incarnation) => {
                let now = self.world.now();
                self.world.state().open.insert(id, Open::new(server, incarnation, outage, now));
                Ok(SimConn {
                    id,
                    server,
                    holder: None,
                    uses: 0,
                    is_released: false,
                    unread: VecDeque::new(),
                    is_detached: false,
                    ending: None,
                    left: None,
                    incarnation,
                    world: Arc::clone(&self.world),
                })
            }
            Err(Outcome::OwnFault) => Err(SimError::Own),
            Err(_) => Err(SimError::Refused),
        }
    }

    /// Half an answer is not detected here: only a release may make a connection reusable.
    fn is_reusable(&self, conn: &mut SimConn, _info: &ConnInfo) -> bool {
        !conn.is_refused()
    }

    /// Takes its time, and fails once the client's end has seen the death.
    async fn check(&self, conn: &mut SimConn) -> Result<(), SimError> {
        let _checking = Checking::begin(&self.world);
        // The probe's connection was opened in this instant.
        let latency = if conn.is_new() { 0 } else { self.world.state().network.pick(&[0, 0, 1, 3]) };
        if latency > 0 {
            sleep(Duration::from_millis(latency)).await;
        }
        let now = self.world.now();
        self.world.state().servers[conn.server].touched = now;
        if conn.is_refused() { Err(SimError::Refused) } else { Ok(()) }
    }

    fn after_use(&self, conn: &mut SimConn, ended: Ended) -> AfterUse {
        self.answer_of(conn, ended)
    }

    async fn recycle(&self, conn: &mut SimConn) -> Result<(), SimError> {
        self.make_fit(conn).await
    }

    fn close(&self, conn: SimConn, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.say_goodbye(conn, why)
    }

    fn classify(&self, error: &SimError) -> ConnectFault {
        if *error == SimError::Own { ConnectFault::Client } else { ConnectFault::Server }
    }
}
