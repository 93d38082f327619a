//! Looks every few milliseconds at what must hold at any time: the pool's account of itself, and that nobody waits for
//! what is there.

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
/// For how long somebody may wait for what is there. Two looks, so that what happens at the instant of the first is
/// over at the second.
const WAIT: u64 = 6 * MS;

/// Looks until the run is over.
pub(crate) async fn watch(world: Arc<World>, pool: Pool<SimConnector>) {
    // For each server: since when somebody waits in vain.
    let mut since: Vec<Option<u64>> = vec![None; world.plan.servers];
    while !world.is_over() && !world.state().is_closed {
        look(&world, &pool.status(), &mut since);
        sleep(STEP).await;
    }
}

/// One look.
fn look(world: &World, status: &PoolStatus, since: &mut [Option<u64>]) {
    let now = world.now();
    for server in 0..since.len() {
        world.check_permits_in(status, server);
    }
    let mut state = world.state();
    let state = &mut *state;
    let unserved = state.line.unserved();
    if unserved > status.waiters {
        let (waiting, first) = (status.waiters, state.line.first_unserved());
        state.violated(format!("{unserved} callers wait unwoken, from {first:?}; {waiting} are in the line"));
    }
    let no_server = state.servers.iter().all(|server| !server.is_listed && server.listing_changed + WAIT < now);
    if no_server && unserved > 0 {
        state.violated(format!("{unserved} callers wait, and no server is listed"));
    }
    for (index, since) in since.iter_mut().enumerate() {
        let listed = status_of(&state.servers[index], status);
        let Some(listed) = listed.filter(|_| state.servers[index].is_listed) else { continue };
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

/// Why somebody who waits should have been served, or dialled for, by this server.
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
    // Who was woken and has not looked may be given a connection, and a token, without being woken again.
    let has_token = server.held.rate().is_none_or(|rate| {
        let interval = (1e9 / rate.rps) as u64 + TICK;
        !state.line.has_woken() && now >= server.touched.max(state.tokens_touched) + interval
    });
    if listed.idle > 0 && has_token && (server.health.is_up() || !is_any_up) {
        return Some("a connection is idle and may be handed out");
    }
    let has_permit = listed.open < listed.max_conns;
    if server.health.pause_until + TICK > now {
        return None;
    }
    if let Model::Down { retry_at, .. } = server.health.state {
        // An idle connection makes room.
        let may_probe = listed.connecting == 0 && (has_permit || listed.idle > 0);
        return (retry_at + TICK < now && may_probe).then_some("it is down and its retry is overdue");
    }
    let is_young = |began: u64| began + hedge_delay * MS + TICK >= now;
    let young = state.dials.values().filter(|dial| is_young(dial.began)).count();
    let may_dial = server.health.is_up() && has_permit && listed.connecting == 0 && listed.idle == 0;
    (may_dial && young < status.waiters).then_some("it has a permit and nobody dials it")
}

impl Server {
    /// Listed, with these limits. Whether the pool knew it still, the network cannot tell if it has no connections: it
    /// may have forgotten it, or not yet. Returns whether it is new.
    pub(crate) fn adopt(&mut self, status: &PoolStatus, now: u64, limits: Limits) -> bool {
        let mut is_new = false;
        if !self.is_listed && self.open == 0 {
            match status_of(self, status).map(|listed| listed.state) {
                Some(ServerState::Down { failures, retry_after }) if failures == self.health.failures => {
                    // A probe that was decided on and never begun was dropped, too.
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

    /// What the pool says of its health that the model does not.
    pub(crate) fn disagrees(&self, status: &PoolStatus, now: u64) -> Option<String> {
        let listed = status_of(self, status)?;
        let health = &self.health;
        let agrees = match (listed.state, health.state) {
            (ServerState::Up, Model::Up { .. }) => true,
            (ServerState::Recovering { failures }, Model::Trial)
            | (ServerState::Probing { failures }, Model::Probing) => failures == health.failures,
            // Decided on, and not yet begun.
            (ServerState::Probing { failures }, Model::Down { retry_at, .. }) => {
                failures == health.failures && retry_at <= now
            }
            (ServerState::Down { failures, retry_after }, Model::Down { retry_at, .. }) => {
                let said = now + retry_after.as_nanos() as u64;
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
