//! Checks every few milliseconds the invariants that hold at any time: the pool's status agrees with the model, and no
//! caller waits for an available connection.

use std::sync::Arc;
use std::time::Duration;

use connring::{Pool, PoolStatus, ServerState, ServerStatus};
use tokio::time::sleep;

use crate::health::State as Model;
use crate::net::SimConnector;
use crate::plan::Limits;
use crate::world::{MS, Server, State, World};

const STEP: Duration = Duration::from_millis(4);
/// How late a timer may be: tokio's tick in milliseconds.
const TICK: u64 = 2 * MS;
/// How long a caller may wait for an available connection. It spans two checks, so that changes at the instant of the
/// first are over at the second.
const WAIT: u64 = 6 * MS;

/// Checks until the run is over.
pub(crate) async fn monitor(world: Arc<World>, pool: Pool<SimConnector>) {
    // For each server: the time since which callers wait in vain.
    let mut since: Vec<Option<u64>> = vec![None; world.plan.servers];
    while !world.is_over() && !world.state().is_closed {
        look(&world, &pool.status(), &mut since);
        sleep(STEP).await;
    }
}

/// One check.
fn look(world: &World, status: &PoolStatus, since: &mut [Option<u64>]) {
    let now = world.now();
    for server in 0..since.len() {
        world.check_permits_in(status, server);
    }
    let mut state = world.state();
    let state = &mut *state;
    let unserved = state.wait_queue.unserved();
    if unserved > status.waiters {
        let (waiting, first) = (status.waiters, state.wait_queue.first_unserved());
        state.violated(format!("{unserved} callers wait unwoken, from {first:?}; the wait queue has {waiting}"));
    }
    let no_server = state.servers.iter().all(|server| !server.is_listed && server.listing_changed + WAIT < now);
    if no_server && unserved > 0 {
        state.violated(format!("{unserved} callers wait, and no server is listed"));
    }
    for (index, since) in since.iter_mut().enumerate() {
        let listed = status_of(&state.servers[index], status);
        let Some(listed) = listed.filter(|_| state.servers[index].is_listed) else { continue };
        state.servers[index].learn_of_dropped_probe(status, now);
        let mut problem = state.servers[index].disagrees(status, now);
        let vain = waits_in_vain(world.plan.hedge_delay, state, index, status, listed, now);
        let vain = vain.filter(|_| unserved > 0);
        match vain {
            None => *since = None,
            Some(why) => {
                let begin = *since.get_or_insert(now);
                if state.servers[index].touched > begin {
                    *since = Some(now);
                } else if now - begin >= WAIT {
                    let ms = (now - begin) / MS;
                    problem = Some(format!("{unserved} callers have waited {ms} ms in vain: {why}"));
                }
            }
        }
        if let Some(problem) = problem {
            let what = format!("{}: {problem}", state.servers[index].address);
            state.violated(what);
        }
    }
}

fn status_of<'a>(server: &Server, status: &'a PoolStatus) -> Option<&'a ServerStatus> {
    let listed = |s: &&ServerStatus| *s.address == *server.address && s.state != ServerState::Draining;
    status.servers.iter().find(listed)
}

/// The reason why this server should have served a waiter, or been connected to for it.
fn waits_in_vain(
    hedge_delay: u64,
    state: &State,
    index: usize,
    status: &PoolStatus,
    listed: &ServerStatus,
    now: u64,
) -> Option<&'static str> {
    let server = &state.servers[index];
    let is_any_up = state.servers.iter().any(|server| server.is_listed && server.health.is_up());
    // A waiter that was woken and not polled may receive a connection and a token without another wake.
    let has_token = server.held.rate().is_none_or(|rate| {
        let interval = (1e9 / rate.rps) as u64 + TICK;
        !state.wait_queue.has_woken() && now >= server.touched.max(state.tokens_touched) + interval
    });
    if listed.idle > 0 && has_token && (server.health.is_up() || !is_any_up) {
        return Some("a connection is idle and may be checked out");
    }
    let has_permit = listed.open < listed.max_conns;
    if server.health.pause_until + TICK > now {
        return None;
    }
    if let Model::Down { retry_at, .. } = server.health.state {
        // An idle connection makes room.
        let may_probe = listed.connecting == 0 && (has_permit || listed.idle > 0);
        return (retry_at + TICK < now && may_probe).then_some("the server is down and its retry is overdue");
    }
    let is_young = |began: u64| began + hedge_delay * MS + TICK >= now;
    let young = state.attempts.values().filter(|attempt| is_young(attempt.began)).count();
    let may_connect = server.health.is_up() && has_permit && listed.connecting == 0 && listed.idle == 0;
    (may_connect && young < status.waiters).then_some("a permit is free and no attempt runs")
}

impl Server {
    /// Lists the server with these limits, and returns whether it is new to the pool. Without connections the network
    /// cannot tell whether the pool has dropped the server's state, so the status decides.
    pub(crate) fn adopt(&mut self, status: &PoolStatus, now: u64, limits: Limits) -> bool {
        let mut is_new = false;
        if !self.is_listed && self.open == 0 {
            match status_of(self, status).map(|listed| listed.state) {
                Some(ServerState::Down { failures, retry_after }) if failures == self.health.failures => {
                    // A probe that was scheduled and never begun was dropped, too.
                    let retry_at = now + retry_after.as_nanos() as u64;
                    if let Model::Down { retry_at: known, .. } = &mut self.health.state {
                        *known = retry_at.max(*known);
                    }
                }
                Some(ServerState::Up) => {
                    is_new = true;
                    self.health.reset();
                }
                _ => {}
            }
        }
        self.is_listed = true;
        (self.listing_changed, self.touched) = (now, now);
        self.held.change(limits, now, is_new);
        is_new
    }

    /// A probe that was scheduled before a removal, and whose attempt never began, is dropped unseen by the network. It
    /// moves the retry to a later time.
    fn learn_of_dropped_probe(&mut self, status: &PoolStatus, now: u64) {
        let listed = status_of(self, status).map(|listed| listed.state);
        let Some(ServerState::Down { failures, retry_after }) = listed else { return };
        if let Model::Down { retry_at, .. } = &mut self.health.state {
            if failures == self.health.failures
                && *retry_at <= self.listing_changed
                && now < self.listing_changed + WAIT
            {
                *retry_at = (*retry_at).max(now + retry_after.as_nanos() as u64);
            }
        }
    }

    /// Describes a disagreement between the pool's status and the model.
    pub(crate) fn disagrees(&self, status: &PoolStatus, now: u64) -> Option<String> {
        let listed = status_of(self, status)?;
        let health = &self.health;
        let agrees = match (listed.state, health.state) {
            (ServerState::Up, Model::Up { .. }) => true,
            (ServerState::Recovering { failures }, Model::Recovering)
            | (ServerState::Probing { failures }, Model::Probing) => failures == health.failures,
            // Scheduled, and not yet begun.
            (ServerState::Probing { failures }, Model::Down { retry_at, .. }) => {
                failures == health.failures && retry_at <= now
            }
            (ServerState::Down { failures, retry_after }, Model::Down { retry_at, .. }) => {
                let said = now + retry_after.as_nanos() as u64;
                let retry_at = retry_at.max(health.pause_until);
                // The pool counts in ticks of 10 us, and a retry that is past has no time left.
                failures == health.failures && said + 10_000 >= retry_at && said <= retry_at.max(now) + 10_000
            }
            _ => false,
        };
        let it_is =
            format!("the pool says {:?}, it is {:?} after {} failures", listed.state, health.state, health.failures);
        (!agrees).then_some(it_is)
    }
}
