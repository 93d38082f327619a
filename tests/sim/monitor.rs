//! Checks every few milliseconds the invariants that hold at any time: the pool's status agrees with the model, and no
//! caller waits for an available connection.

use std::sync::Arc;
use std::time::Duration;

use connring::{Pool, PoolStatus, ServerState, ServerStatus, StateKind};
use tokio::time::sleep;

use crate::health::{Breaker, State as Model};
use crate::net::SimConnector;
use crate::observer::Told;
use crate::orders::NO_END;
use crate::plan::{Limits, Plan};
use crate::reports::STEP as PACKED;
use crate::world::{Attempt, MS, Server, State, World};

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
    // The time since which it has too few idle connections and may have more.
    let mut unfilled = since.clone();
    while !world.is_over() && !world.state().is_closed {
        let status = pool.status();
        look(&world, &status, &mut since);
        look_at_idle(&world, &status, &mut unfilled);
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
    state.sync(status, now);
    let unserved = state.wait_queue.unserved();
    if unserved > status.waiters {
        let (waiting, first) = (status.waiters, state.wait_queue.first_unserved());
        state.violated(format!("{unserved} callers wait unwoken, from {first:?}; the wait queue has {waiting}"));
    }
    let no_server = state.servers.iter().all(|server| !server.is_listed && server.listing_changed + WAIT < now);
    if no_server && unserved > 0 {
        state.violated(format!("{unserved} callers wait, and no server is listed"));
    }
    let overdue = state.overdue_order(now);
    if let Some(overdue) = overdue.or_else(|| overdue_in_outage(&world.plan, state, status, now)) {
        state.violated(overdue);
    }
    for (index, since) in since.iter_mut().enumerate() {
        let listed = status_of(&state.servers[index], status);
        let Some(listed) = listed.filter(|_| state.servers[index].is_listed) else { continue };
        let ahead = state.may_try_ahead(&world.plan, status.waiters, now);
        let mut problem = state.servers[index].disagrees(status, ahead, now);
        problem = problem.or_else(|| state.tier_disagrees(index, listed));
        let vain = waits_in_vain(&world.plan, state, index, status, listed, now);
        // A waiter with wishes may not accept what is there, and keeps a token for what it ordered.
        let is_young = |attempt: &Attempt| is_young(&world.plan, attempt.began, now);
        let mut of_server = state.attempts.values().filter(|attempt| attempt.server == index && is_young(attempt));
        let has_kept = listed.max_rps.is_some() && of_server.next().is_some() && state.wait_queue.choosy() > 0;
        let vain = vain.filter(|_| unserved > state.wait_queue.choosy() && !has_kept);
        let vain = vain.or_else(|| lacks_order(&world.plan, state, index, status, listed, now));
        match vain {
            None => *since = None,
            Some(why) => {
                let begin = *since.get_or_insert(now);
                if state.servers[index].touched > begin {
                    *since = Some(now);
                } else if now - begin >= WAIT {
                    let ms = (now - begin) / MS;
                    let health = &state.servers[index].health;
                    problem =
                        Some(format!("{unserved} callers have waited {ms} ms in vain: {why}; {listed:?}, {health:?}"));
                }
            }
        }
        if let Some(problem) = problem {
            let what = format!("{}: {problem}", state.servers[index].address);
            state.violated(what);
        }
    }
}

/// The idle connections of a healthy server with a free permit are refilled, by the next sweep at the latest.
fn look_at_idle(world: &World, status: &PoolStatus, unfilled: &mut [Option<u64>]) {
    let (now, plan) = (world.now(), &world.plan);
    let mut state = world.state();
    for (index, unfilled) in unfilled.iter_mut().enumerate() {
        let server = &state.servers[index];
        let lacks = status_of(server, status).filter(|listed| {
            let may_connect = listed.state == ServerState::Up && listed.connecting_paused.is_none();
            let lacks = listed.idle < plan.kept_idle() && listed.open < listed.max_conns && listed.connecting == 0;
            server.is_listed && may_connect && lacks
        });
        let Some(listed) = lacks else {
            *unfilled = None;
            continue;
        };
        // It may have been filled for a moment between two checks.
        let since = server.tried.max(*unfilled.get_or_insert(now));
        if now - since > plan.sweep() * MS + WAIT {
            let what = format!("{} was not refilled for {} ms: {listed:?}", server.address, (now - since) / MS);
            state.violated(what);
        }
    }
}

pub(crate) fn status_of<'a>(server: &Server, status: &'a PoolStatus) -> Option<&'a ServerStatus> {
    let listed = |s: &&ServerStatus| *s.address == *server.address && s.state != ServerState::Draining;
    status.servers.iter().find(listed)
}

/// While no server serves and callers wait, each server is tried every `outage_retry`.
fn overdue_in_outage(plan: &Plan, state: &mut State, status: &PoolStatus, now: u64) -> Option<String> {
    // Trials keep a distance.
    let retry = plan.outage_retry?;
    let patience = (retry + 10 + 15 * state.servers.len() as u64) * MS;
    let waits = plan.kept_idle() > 0 || status.waiters > 0 && state.wait_queue.unserved() > 0;
    let since = match (state.outage_since, waits) {
        (Some(since), true) => *state.waits_since.get_or_insert(now.max(since)),
        _ => {
            state.waits_since = None;
            return None;
        }
    };
    for server in state.servers.iter().filter(|server| server.is_listed && server.disabled.is_none()) {
        let listed = status_of(server, status)?;
        if server.health.breaker == Breaker::Trying || listed.open >= listed.max_conns {
            continue;
        }
        let tried = server
            .probed
            .max(server.listing_changed)
            .max(server.touched)
            .max(server.health.paused_at.unwrap_or(0))
            .max(since);
        // A server that was listed since takes its turn, too.
        let is_changed = state.servers.iter().any(|other| other.listing_changed > tried);
        if now > tried + patience + if is_changed { retry * MS } else { 0 } {
            let ms = (now - tried) / MS;
            return Some(format!("callers wait, no server serves, and {} is not tried for {ms} ms", server.address));
        }
    }
    None
}

/// The reason why this server should have served a waiter, or been connected to for it.
fn waits_in_vain(
    plan: &Plan,
    state: &State,
    index: usize,
    status: &PoolStatus,
    listed: &ServerStatus,
    now: u64,
) -> Option<&'static str> {
    let server = &state.servers[index];
    if server.disabled.is_some() {
        return None;
    }
    let health = &server.health;
    let is_any_up = state.outage_since.is_none();
    let mut of_server = state.open.values().filter(|open| open.server == index && !open.in_use);
    let has_answered = of_server.any(|open| open.answered == Some(health.outage));
    let is_in_use = state.may_use_tier_of(plan, index, status, false, now);
    if listed.idle > 0
        && has_token(state, server, now)
        && is_in_use
        && (health.serves() || !is_any_up || has_answered && listed.in_use == 0)
    {
        return Some("a connection is idle and may be checked out");
    }
    let has_permit = listed.open < listed.max_conns;
    if let Some(due) = health.due() {
        // An idle connection makes room.
        let may_probe = listed.connecting == 0 && (has_permit || listed.idle > 0);
        // While no server serves, trials keep a distance, also from one that a caller just began by coming.
        let probed = state.servers.iter().map(|server| server.probed).max().unwrap_or(0);
        let (from, distance) = if is_any_up { (0, 0) } else { (probed, 10 * MS * state.servers.len() as u64) };
        return (due.max(health.due_from).max(server.listing_changed).max(from) + TICK + distance < now && may_probe)
            .then_some("the server is down and its trial is overdue");
    }
    let recovers_alone = matches!(health.state, Model::Recovering { .. }) && listed.open == 0;
    if health.state != Model::Up && !recovers_alone || !is_in_use {
        return None;
    }
    if is_connecting_held(plan, server, now) {
        return None;
    }
    let recycles = state.recycles.values().map(|recycle| recycle.began);
    let young = state.attempts.values().map(|attempt| attempt.began).chain(recycles);
    let young = young.filter(|&began| is_young(plan, began, now)).count();
    let may_connect = has_permit && listed.connecting == 0 && listed.idle == 0;
    (may_connect && young + state.wait_queue.all_choosy() < status.waiters)
        .then_some("a permit is free and no attempt runs")
}

/// The reason why this server should have been connected to for a waiter that accepts new connections only.
fn lacks_order(
    plan: &Plan,
    state: &State,
    index: usize,
    status: &PoolStatus,
    listed: &ServerStatus,
    now: u64,
) -> Option<&'static str> {
    let server = &state.servers[index];
    let is_up = server.disabled.is_none() && server.health.state == Model::Up;
    let has_room = listed.open < listed.max_conns || listed.idle > 0;
    // Any young attempt may be for it.
    let runs_young = state.attempts.values().any(|attempt| is_young(plan, attempt.began, now));
    let runs = listed.connecting > 0 || listed.closing > 0 || runs_young;
    let may_connect = has_room && !runs && !is_connecting_held(plan, server, now);
    let may_order = state.wait_queue.wants_new() && is_up && may_connect;
    (may_order && has_token(state, server, now) && state.may_use_tier_of(plan, index, status, false, now))
        .then_some("no attempt runs for a waiter that accepts new connections only")
}

/// Whether an attempt, or a recycle, may still be younger than the hedge delay.
fn is_young(plan: &Plan, began: u64, now: u64) -> bool {
    began + plan.hedge_delay * MS + TICK >= now
}

/// Whether connecting to a server may be held up: it pauses, its trial runs, or an attempt that has just connected
/// keeps its place for a tenth of the usual connect time.
fn is_connecting_held(plan: &Plan, server: &Server, now: u64) -> bool {
    let pauses = server.health.breaker == Breaker::Trying || server.health.paused_until() + TICK > now;
    pauses || now <= server.touched + plan.connect_timeout * MS / 10 + TICK
}

/// A waiter that was woken and not polled may receive a connection and a token without another wake.
fn has_token(state: &State, server: &Server, now: u64) -> bool {
    server.held.rate().is_none_or(|rate| {
        let interval = (1e9 / rate.rps) as u64 + TICK;
        !state.wait_queue.has_woken() && now >= server.touched.max(state.tokens_touched) + interval
    })
}

impl Server {
    /// Lists the server with these limits, and returns whether it is new to the pool. Without connections the network
    /// cannot tell whether the pool has dropped the server's state, so the status decides.
    pub(crate) fn adopt(&mut self, status: &PoolStatus, now: u64, limits: Limits) -> bool {
        let mut is_new = false;
        let health = &mut self.health;
        let ejected_until = if let Model::Down { ejected_until } = health.state { ejected_until } else { None };
        let may_be_new = health.paused_until().max(ejected_until.unwrap_or(0)) <= now && self.open == 0;
        if !self.is_listed {
            self.enabled_at = now;
        }
        if !self.is_listed && may_be_new {
            self.is_listed = true;
            match status_of(self, status).map(|listed| listed.state) {
                Some(ServerState::Up) if self.health.state != Model::Up => {
                    is_new = true;
                    self.health.reset();
                }
                Some(ServerState::Up) => self.health.may_be_reset(),
                _ => {}
            }
        }
        self.is_listed = true;
        self.health.set_removed(false, now);
        (self.listing_changed, self.touched) = (now, now);
        if let Some(listed) = status_of(self, status) {
            self.heard = self.told(listed, now);
        }
        self.held.change(limits, now);
        is_new
    }

    /// Describes a disagreement between the pool's status and the model.
    pub(crate) fn disagrees(&self, status: &PoolStatus, ahead: bool, now: u64) -> Option<String> {
        let listed = status_of(self, status)?;
        let health = &self.health;
        let remaining =
            |said: Duration, until: u64| (said.as_nanos() as u64).abs_diff(until.saturating_sub(now)) <= PACKED;
        let has_failures = |failures| failures == health.failures;
        let is_due = health.due().is_some_and(|due| due <= now);
        let state = match (listed.state, health.state) {
            // The observer hears of what goes on beneath, but not that a trial failed or that an ejection ended.
            (ServerState::Disabled { ends_in }, _) => {
                let is_down = matches!(self.heard.kind, StateKind::Down | StateKind::Ejected | StateKind::Probing);
                let is_in_time = self.disabled.is_some_and(|disabled| match ends_in {
                    None => disabled.until == NO_END,
                    Some(ends_in) => disabled.until != NO_END && remaining(ends_in, disabled.until),
                });
                is_in_time
                    && match health.state {
                        Model::Up => self.heard.kind == StateKind::Up,
                        Model::Recovering { .. } => self.heard.kind == StateKind::Recovering,
                        Model::Down { .. } => is_down,
                    }
            }
            _ if self.disabled.is_some() || self.heard.serves() != Told::of(listed.state, now).serves() => false,
            (ServerState::Up, Model::Up) | (ServerState::Recovering, Model::Recovering { .. }) => true,
            // Scheduled, and not yet begun.
            (ServerState::Probing { failures }, Model::Down { .. }) => {
                has_failures(failures)
                    && (health.breaker == Breaker::Trying || is_due || ahead && !health.stays_ejected(now))
            }
            (ServerState::Ejected { retry_after }, Model::Down { ejected_until: Some(_) }) => {
                health.due().is_some_and(|due| remaining(retry_after, due))
            }
            (ServerState::Down { failures, retry_after }, Model::Down { ejected_until: None }) => {
                has_failures(failures) && health.due().is_some_and(|due| remaining(retry_after, due))
            }
            _ => false,
        };
        let pause = match (listed.connecting_paused, health.breaker) {
            (None, _) if self.told(listed, now).kind == StateKind::Probing => true,
            (said, Breaker::Paused { until }) => remaining(said.unwrap_or_default(), until),
            (said, _) => said.is_none(),
        };
        let (said, model) = ((listed.state, listed.connecting_paused), (health.state, health.breaker, health.failures));
        let orders = (self.disabled, self.heard);
        (!state || !pause).then(|| format!("the pool says {said:?}, it is {model:?}, {orders:?}"))
    }
}
