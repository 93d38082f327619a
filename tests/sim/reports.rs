//! The model of what spans servers: reports and ejections with their cap, the outage in which no server serves, and the
//! connections that tell whether a server answers.

use std::time::Duration;

use connring::{CloseReason, PoolStatus, ServerState, ServerStatus, StateKind};

use crate::health::{Breaker, Evidence, NOT_TOLD, Outcome, State as Health};
use crate::monitor::status_of;
use crate::observer::Told;
use crate::plan::Plan;
use crate::world::{MS, Server, State, World};

/// The coarse time may be this old, while the pool keeps one.
pub(crate) const TICK: u64 = 104 * MS;
/// Reports further apart than this do not add up.
const STRIKES_LAST: u64 = 10_000 * MS;
/// Served for this long, an ejection is forgiven.
const FORGIVEN_AFTER: u64 = 10_000 * MS;
/// The pool's packed times, in nanoseconds.
pub(crate) const STEP: u64 = 20_000;

/// What the pool keeps about an open connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    pub(crate) server: usize,
    /// The outage number of the server when it was opened or last came back well.
    pub(crate) outage: u64,
    /// The outage number under which it last came back well.
    pub(crate) answered: Option<u64>,
    /// Its caller has said how the use ended, and that it was well.
    pub(crate) verdict: Option<bool>,
    /// Why it must close.
    pub(crate) closes: Option<CloseReason>,
    pub(crate) opened: u64,
    /// Since when it is idle, or in use.
    pub(crate) since: u64,
    /// Since when it is idle, or was before it came into use.
    pub(crate) idle_since: u64,
    pub(crate) in_use: bool,
    pub(crate) returns: u64,
    /// The server's incarnation that it leads to.
    pub(crate) incarnation: usize,
}

impl Open {
    /// A connection that was just opened by an attempt that began in that outage.
    pub(crate) fn new(server: usize, incarnation: usize, outage: u64, now: u64) -> Self {
        let [opened, since, idle_since] = [now; 3];
        let (answered, verdict, closes, in_use, returns) = (None, None, None, false, 0);
        Self { server, outage, answered, verdict, closes, opened, since, idle_since, in_use, returns, incarnation }
    }
}

/// What may follow a report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    server: usize,
    /// It may count as a failure.
    counts: bool,
    /// Failures in a row with it: at least, at most.
    strikes: (u32, u32),
    /// The earliest and the latest time of the first of them.
    struck: (u64, u64),
    /// Enough failures: in any case, in some case.
    enough: (bool, bool),
    allowed: bool,
    eject_for: Option<u64>,
}

impl State {
    /// How many servers are registered, and how many of them serve.
    pub(crate) fn serving(&self) -> (u32, u32) {
        let count = |is: fn(&Server) -> bool| self.servers.iter().filter(|server| is(server)).count() as u32;
        (count(|server| server.is_listed), count(Server::serves))
    }

    /// Acts on a change of any server's health: when no server serves, ejections end.
    pub(crate) fn health_changed(&mut self, now: u64) {
        self.note_all_disabled(now);
        let (listed, serving) = self.serving();
        if listed > 0 && serving == 0 {
            self.outage_since.get_or_insert(now);
            self.servers
                .iter_mut()
                .filter(|server| server.is_listed)
                .for_each(|server| server.health.end_ejection(now));
        } else if self.outage_since.take().is_some() {
            self.healed_at = Some(now);
        }
    }

    /// Learns from the pool what the model leaves open. Only between two actions of the pool.
    pub(crate) fn sync(&mut self, status: &PoolStatus, now: u64) {
        for server in self.servers.iter_mut().filter(|server| server.is_listed && server.may_learn(now)) {
            let Some(listed) = status_of(server, status) else { continue };
            let paused_until = listed.connecting_paused.map(|pause| now + pause.as_nanos() as u64);
            server.health.learn_of_dropped_trial(paused_until, server.reset_at);
            server.health.learn(server.told(listed, now), paused_until, now);
        }
        self.health_changed(now);
    }

    /// Whether trials may begin ahead of their time: while no server serves, and for as long afterwards.
    pub(crate) fn may_try_ahead(&self, plan: &Plan, waiters: usize, now: u64) -> bool {
        let Some(retry) = plan.outage_retry else { return false };
        // The background task learns it late where no caller waits.
        let late = plan.backoff_max + 104;
        let heals = self.healed_at.is_some_and(|at| now <= at + (retry + late) * MS);
        // In this instant the last waiter may have left.
        let waits = plan.kept_idle() > 0 || waiters > 0 || !self.wait_queue.is_empty() || self.call_ended == Some(now);
        heals || self.outage_since.is_some() && waits
    }

    /// Whether others of the server's connections answer, at the end of an attempt that failed.
    pub(crate) fn evidence(&self, plan: &Plan, server: usize, outcome: Outcome, began: u64, now: u64) -> Evidence {
        let health = &self.servers[server].health;
        if outcome == Outcome::TimedOut {
            return came_back(plan, health.answered, began, 1);
        }
        let mut evidence = Evidence::No;
        let answered = |open: &&Open| open.server == server;
        for open in self.open.values().filter(answered) {
            if open.answered != Some(health.outage) {
                continue;
            }
            let ends = plan.max_lifetime.is_some_and(|ms| now >= open.opened + ms * MS);
            let idles = plan.idle_timeout.is_some_and(|ms| now + TICK >= open.since + ms * MS);
            if open.in_use || !(ends || idles || self.is_told(open, now)) {
                return Evidence::Yes;
            }
            evidence = Evidence::Maybe;
        }
        evidence
    }

    /// Whether the client's end has seen its death.
    pub(crate) fn is_told(&self, open: &Open, now: u64) -> bool {
        let told_at = self.servers[open.server].told_at.get(open.incarnation).copied();
        told_at.flatten().is_some_and(|at| at <= now)
    }

    /// What follows a report of a connection, made now.
    pub(crate) fn expect(
        &self,
        plan: &Plan,
        conn: u64,
        evidence: Evidence,
        eject_for: Option<u64>,
        now: u64,
    ) -> Expected {
        let open = self.open[&conn];
        let server = &self.servers[open.server];
        let health = &server.health;
        let mut expected = Expected {
            server: open.server,
            counts: false,
            strikes: health.strikes,
            struck: health.struck,
            enough: (false, false),
            allowed: false,
            eject_for,
        };
        if open.verdict.is_some() || !health.serves() || open.outage != health.outage || evidence == Evidence::Yes {
            return expected;
        }
        expected.counts = true;
        let is_sure = evidence == Evidence::No;
        let (earliest, latest) = health.struck;
        let (least, most) = match () {
            () if now > latest + STRIKES_LAST + STEP => (0, 0),
            () if now + STEP > earliest + STRIKES_LAST => (0, health.strikes.1),
            () => health.strikes,
        };
        expected.struck = match (least, most) {
            (_, 0) => (now, now),
            (0, _) => (earliest, now),
            _ => health.struck,
        };
        expected.strikes = (least + u32::from(is_sure), most + 1);
        let at_once = eject_for.is_some() || matches!(health.state, Health::Recovering { .. });
        let enough = |strikes| at_once || strikes >= plan.consecutive_failures;
        expected.enough = (is_sure && enough(expected.strikes.0), enough(expected.strikes.1));
        expected.allowed = plan.enforce && server.is_listed && self.is_within_cap(plan, server);
        expected
    }

    /// What followed a report.
    pub(crate) fn reported(&mut self, plan: &Plan, expected: Expected, status: &PoolStatus, now: u64) {
        let Expected { server: index, counts, strikes, struck, enough, allowed, eject_for } = expected;
        let server = &mut self.servers[index];
        let was_serving = server.health.serves();
        let listed = status_of(server, status).filter(|_| server.is_listed && was_serving);
        let until = listed.and_then(|listed| match listed.state {
            ServerState::Ejected { retry_after } => Some(now + retry_after.as_nanos() as u64),
            // The trial of a server that was up.
            ServerState::Probing { .. } => Some(NOT_TOLD),
            // It served beneath.
            ServerState::Disabled { .. } if server.heard.kind == StateKind::Ejected => server.heard.until,
            _ => None,
        });
        let wrong = match until {
            Some(_) if !enough.1 => Some("is ejected after too few failures"),
            Some(_) if !allowed => Some("is ejected beyond the cap"),
            None if enough.0 && allowed => Some("is not ejected"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let what = format!("{} {wrong}: {expected:?} of {}", server.address, plan.consecutive_failures);
            let states: Vec<_> = status.servers.iter().map(|server| (&server.name, server.state)).collect();
            let what = format!("{what}; {states:?}; {:?}", self.serving());
            return self.violated(what);
        }
        if !counts {
            return;
        }
        let health = &mut server.health;
        health.struck = struck;
        let Some(until) = until else {
            health.strikes = match enough {
                (true, _) => (0, 0),
                (false, true) if !allowed => (0, strikes.1.min(plan.consecutive_failures - 1)),
                (false, true) => (strikes.0, plan.consecutive_failures - 1),
                (false, false) => strikes,
            };
            return;
        };
        // The model may learn a few milliseconds late when the server began or ceased to serve.
        let forgiven = |ms: i64| (health.served(now).saturating_add_signed(ms * MS as i64) / FORGIVEN_AFTER) as u32;
        let (least, most) = health.ejections;
        let (least, most) = (least.saturating_sub(forgiven(100)) + 1, most.saturating_sub(forgiven(-100)) + 1);
        health.ejections = (least, most);
        let paused_until = health.paused_until();
        health.goes_down(Some(until), now);
        let nominal = |k: u32| (plan.ejection_base * MS) as f64 * 1.5f64.powi(k as i32 - 1);
        let nominal = |k: u32| nominal(k).min((plan.ejection_max * MS) as f64);
        let [shortest, longest] = match eject_for {
            Some(time) => [now + time, now + time],
            None => [now + (0.5 * nominal(least)) as u64, now + (1.5 * nominal(most)) as u64],
        };
        health.ejected_from = shortest.saturating_sub(STEP);
        let is_told = until != NOT_TOLD;
        if is_told && (until + STEP < shortest.max(paused_until) || until > longest.max(paused_until) + STEP) {
            let us = (until - now) / 1_000;
            let what = format!("{} is ejected for {us} us, {:?} in a row, {expected:?}", server.address, (least, most));
            self.violated(what);
        }
        self.health_changed(now);
    }
}

impl Server {
    /// What the pool says of its health. The status hides it while the server is disabled.
    pub(crate) fn told(&self, listed: &ServerStatus, now: u64) -> Told {
        if matches!(listed.state, ServerState::Disabled { .. }) { self.heard } else { Told::of(listed.state, now) }
    }

    /// Whether the pool may know better.
    fn may_learn(&self, now: u64) -> bool {
        self.health.may_learn() || now < self.listing_changed.max(self.reset_at) + 6 * MS
    }
}

/// Whether a connection came back well in the tick of `since` or later. The pool may be off by so many ticks.
fn came_back(plan: &Plan, answered: Option<u64>, since: u64, ticks: u64) -> Evidence {
    let Some(at) = answered else { return Evidence::No };
    // A return in the first tick of all does not count.
    let slack = if plan.maintenance { TICK } else { 0 };
    if at + ticks * slack < since {
        Evidence::No
    } else if at > since && at > slack {
        Evidence::Yes
    } else {
        Evidence::Maybe
    }
}

impl World {
    /// Learns from the pool what the model leaves open. Only between two actions of the pool.
    pub(crate) fn sync(&self) {
        let now = self.now();
        let may_learn = self.state().servers.iter().any(|server| server.is_listed && server.may_learn(now));
        if let Some(pool) = self.pool().filter(|_| may_learn) {
            let status = pool.status();
            self.state().sync(&status, now);
        }
    }

    /// Changes what is known of an open connection.
    pub(crate) fn note(&self, conn: u64, change: impl FnOnce(&mut Open)) {
        if let Some(open) = self.state().open.get_mut(&conn) {
            change(open);
        }
    }

    /// Runs what reports a failure of a connection's server, and checks what follows. `abandoned`: a drop, which counts
    /// after a long use without an answer.
    pub(crate) fn report(&self, conn: u64, abandoned: bool, eject_for: Option<Duration>, act: impl FnOnce()) {
        self.sync();
        let (now, plan) = (self.now(), &self.plan);
        let expected = {
            let state = self.state();
            let evidence = if abandoned { state.abandoned(plan, conn, now) } else { Evidence::No };
            let eject_for = eject_for.map(|time| time.as_nanos() as u64);
            state.expect(plan, conn, evidence, eject_for, now)
        };
        act();
        if let Some(pool) = self.pool() {
            let status = pool.status();
            self.state().reported(plan, expected, &status, now);
        }
    }
}

impl State {
    /// Whether a drop counts as a failure: `No` answer, or `Yes`, there was one or the use was short.
    fn abandoned(&self, plan: &Plan, conn: u64, now: u64) -> Evidence {
        let Some(after) = plan.abandoned_after else { return Evidence::Yes };
        let open = self.open[&conn];
        let slack = if plan.maintenance { TICK } else { 0 };
        let (used, after) = (now - open.since, after * MS);
        if used + slack < after {
            return Evidence::Yes;
        }
        let came_back = came_back(plan, self.servers[open.server].health.answered, open.since, 2);
        if used < after + slack && came_back == Evidence::No { Evidence::Maybe } else { came_back }
    }
}

impl State {
    /// A caller says that the server answers well.
    pub(crate) fn said_well(&mut self, conn: u64, now: u64) {
        let Some(open) = self.open.get_mut(&conn).filter(|open| open.verdict.is_none()) else { return };
        let health = &mut self.servers[open.server].health;
        health.answers(open.answered != Some(health.outage), now);
        (open.verdict, open.outage, open.answered) = (Some(true), health.outage, Some(health.outage));
    }

    /// A caller releases a connection: it answered well, unless the caller has said how the use ended.
    pub(crate) fn came_back(&mut self, conn: u64, now: u64) {
        let Some(open) = self.open.get_mut(&conn) else { return };
        let health = &mut self.servers[open.server].health;
        // What was said during the use was counted then.
        if open.verdict.take().is_none() {
            health.answers(open.answered != Some(health.outage), now);
            (open.outage, open.answered) = (health.outage, Some(health.outage));
        }
        (open.in_use, open.since, open.idle_since, open.returns) = (false, now, now, open.returns + 1);
    }

    /// Whether an attempt could run for a caller of `acquire_now`.
    pub(crate) fn could_connect(&self, plan: &Plan, now: u64) -> bool {
        let could = |(index, server): (usize, &Server)| {
            let connecting = self.attempts.values().filter(|attempt| attempt.server == index).count() as u32;
            let recovers_alone = matches!(server.health.state, Health::Recovering { .. }) && server.open == 0;
            let is_up = server.health.state == Health::Up || recovers_alone;
            let is_plain = is_up && server.health.breaker == Breaker::Closed;
            let is_quiet = server.touched < now && server.health.turned < now && server.listing_changed < now;
            let has_permit = server.open < server.held.max_conns(now) && connecting < plan.max_attempts;
            self.is_of_best_tier(index) && is_plain && is_quiet && has_permit && server.held.rate().is_none()
        };
        self.wait_queue.is_empty() && self.servers.iter().enumerate().any(could)
    }

    /// Whether a caller that waits until its deadline would wait in vain.
    pub(crate) fn is_pointless(&self, plan: &Plan, started: u64, timeout: Option<u64>, now: u64) -> bool {
        // In this instant a server may have come up.
        let is_outage = self.outage_since.is_some() || self.healed_at == Some(now);
        if plan.fail_fast && is_outage {
            return true;
        }
        let Some(timeout) = timeout else { return false };
        let deadline = started + timeout * MS;
        let ahead = plan.outage_retry.map(|retry| started + retry * MS);
        let listed = || self.servers.iter().filter(|server| server.is_listed);
        // Servers that are disabled are not tried ahead of their time, nor do their connections serve.
        let are_all_disabled = listed().all(|server| server.disabled.is_some());
        let ahead = ahead.filter(|_| !are_all_disabled);
        let due = listed().filter_map(Server::due).chain(ahead).min();
        let has_none = |server: &Server| server.open == 0 || server.disabled.is_some();
        let is_quiet = self.attempts.is_empty() && self.recycles.is_empty() && self.checks == 0;
        let is_idle = are_all_disabled || is_quiet && listed().all(has_none);
        // A caller that waits already is told if all are disabled.
        let is_told = are_all_disabled || started == now;
        is_outage && is_idle && is_told && due.is_none_or(|due| due + STEP > deadline)
    }
}
