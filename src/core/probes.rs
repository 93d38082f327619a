//! Runs what is due: the probes of servers that are down, the ends of recoveries, the refill of servers that are up.
//!
//! The background task alone runs it. Without a caller since the last look no probe starts: the task then says in the
//! signals that one is due, and the next caller clears it and wakes the task. With a minimum of idle connections it is
//! as if callers always waited.
//!
//! In a total outage, while no server serves, probes keep a distance. If callers wait then, each server is probed at
//! least once in `outage_retry`, whatever its pause. This goes on for the same time after the first server has come
//! back.

use std::collections::HashMap;
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt::{self, Purpose};
use crate::core::grant::Grant;
use crate::core::shared::Shared;
use crate::core::{disable, idle_conns, outage, refill, transition};
use crate::raw::{BreakerState, HealthState, Outage, Time};
use crate::server::{Generation, ServerRecord};
use crate::settings::LEAST_PROBE_DISTANCE;
use crate::sync::{Arc, Ordering, fence};

/// When a recovery whose connections are in use is looked at again.
const RECOVERY_RETRY: Duration = Duration::from_millis(100);
/// The recovery of a server that was ejected ends after this time, though the probe's connection is still in use.
const LONGEST_RECOVERY: Duration = Duration::from_secs(30);

/// What the background task remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    /// Servers are due and wait for a caller.
    waits_for_caller: bool,
    /// There was a total outage at the last look.
    all_down: bool,
    /// Until then, after the first server came back, the others are probed ahead of their time.
    healing_until: Time,
    /// When the next probe may start in a total outage.
    next_trial: Time,
    /// When each server was probed last, by its number.
    probed: HashMap<usize, Time>,
}

impl Probes {
    /// Runs what is due. Returns when to look next.
    pub(crate) fn run<C: Connector>(&mut self, shared: &Arc<Shared<C>>, now: Time) -> Time {
        let signals = &shared.signals;
        // A caller of `acquire_now` waits for the probes that are due when it comes, not for later ones.
        let has_waiters = signals.waiters() > shared.queue.impatient();
        let callers = shared.due_times.unheard_callers();
        // A minimum of idle connections wants each server up, as a caller does.
        let keeps_idle = shared.settings.min_idle() > 0;
        let has_caller =
            keeps_idle || has_waiters || callers.is_some() || (self.waits_for_caller && !signals.is_probe_due());
        while let Some(number) = shared.due_times.pop(now) {
            handle_due(shared, number, now);
        }
        // After the looks, which enable servers.
        let servers = shared.servers.list().len.saturating_sub(shared.servers.disabled());
        self.note_outage(shared, servers, now);
        shared.due_times.ready_full();
        let mut next = self.start_ready_probes(shared, has_caller, now);
        // These callers are heard once their probes have started, or none could. If one is only put off by its distance
        // to the one before, they go on waiting for it.
        if let Some(callers) = callers.filter(|_| next == Time::NEVER || shared.attempts.running() > 0) {
            shared.due_times.hear_callers(callers);
        }
        let is_outage = self.all_down && (has_waiters || keeps_idle) || now < self.healing_until;
        let retry = shared.settings.outage_retry.filter(|_| is_outage);
        if let Some((retry, distance)) = retry.zip(shared.settings.ahead_distance(servers)) {
            next = next.min(self.try_ahead(shared, retry, distance, now));
        }
        next.min(shared.due_times.next())
    }

    fn note_outage<C: Connector>(&mut self, shared: &Shared<C>, servers: usize, now: Time) {
        let is_outage = outage::is_total_outage(shared);
        let was_down = std::mem::replace(&mut self.all_down, servers > 0 && is_outage);
        let Some(retry) = shared.settings.outage_retry else { return };
        // Not where the last server was removed or disabled.
        if was_down && !is_outage {
            self.healing_until = now.after(retry);
        }
    }

    /// Starts the probes that are due. Returns when the next one may start.
    fn start_ready_probes<C: Connector>(&mut self, shared: &Arc<Shared<C>>, has_caller: bool, now: Time) -> Time {
        let mut next = Time::NEVER;
        let waited = std::mem::replace(&mut self.waits_for_caller, false);
        while let Some(number) = shared.due_times.pop_ready() {
            if !has_caller || self.all_down && now < self.next_trial {
                shared.due_times.postpone(number);
                self.waits_for_caller = !has_caller;
                next = if has_caller { self.next_trial } else { next };
                break;
            }
            self.try_server(shared, number, false, now);
        }
        // If it waited for a caller before, too, one may just have cleared the signal, which must not be set again.
        if has_caller || waited != self.waits_for_caller {
            shared.signals.set_probe_due(self.waits_for_caller);
        }
        next
    }

    /// Probes the server that was probed longest ago, ahead of its time, if that was `outage_retry` ago. Returns when
    /// to look for the next one.
    fn try_ahead<C: Connector>(
        &mut self,
        shared: &Arc<Shared<C>>,
        retry: Duration,
        distance: Duration,
        now: Time,
    ) -> Time {
        let due = shared.due_times.ahead().max(if self.all_down { self.next_trial } else { Time::ZERO });
        if now < due {
            return due;
        }
        let is_candidate = |server: &ServerRecord<C>| {
            let health = server.health.snapshot();
            let is_paused = server.breaker.snapshot().state() == BreakerState::Paused;
            let is_ejected = server.health.ejected_until().is_some_and(|until| until > now);
            health.is_down() && !health.is_disabled() && !is_ejected && is_paused
        };
        let turn = |number| self.probed.get(&number).map_or(Time::ZERO, |probed| probed.after(retry));
        let candidate = {
            let list = shared.servers.list();
            let candidates = list.iter().filter(|(_, entry)| is_candidate(entry.server()));
            candidates.map(|(number, _)| (turn(number), number)).min()
        };
        let mut next = now.after(distance);
        match candidate {
            Some((turn, number)) if turn <= now => self.try_server(shared, number, true, now),
            Some((turn, _)) => next = next.min(turn),
            None => {}
        }
        shared.due_times.set_ahead(next);
        next
    }

    /// Starts the probe of a server that is down. Without a free permit an idle connection closes to make room, one of
    /// an older outage if there is one.
    fn try_server<C: Connector>(&mut self, shared: &Arc<Shared<C>>, number: usize, ahead: bool, now: Time) {
        let Some(generation) = shared.servers.list().generation(number) else { return };
        let server = &generation.server;
        // It may have changed since it became due, or another one has its number.
        let is_due = server.down_until().is_some_and(|until| ahead || until <= now);
        if !is_due {
            return;
        }
        let is_full = !server.permits.counts().has_free();
        if is_full {
            // First: the drop of a connection may panic. If the probe starts, it is not due when it is looked at.
            shared.due_times.add_full(number);
            idle_conns::make_room(&generation, CloseReason::Outage);
        }
        if attempt::start(shared, &generation, Purpose::Probe { ahead }) {
            self.next_trial = now.after(LEAST_PROBE_DISTANCE);
            self.probed.insert(number, now);
        } else if !ahead && !is_full {
            shared.due_times.add_full(number);
        }
    }
}

/// Looks at a server whose time has come. One that is disabled is looked at again when it is enabled.
fn handle_due<C: Connector>(shared: &Arc<Shared<C>>, number: usize, now: Time) {
    let Some(generation) = shared.servers.list().generation(number) else { return };
    let server = &generation.server;
    disable::enable_if_due(shared, number, now);
    let health = server.health.snapshot();
    if health.is_disabled() {
        return;
    }
    match health.state() {
        HealthState::Up => refill::refill(shared, &generation, now),
        HealthState::Recovering => {
            // Acquire: the end of the recovery was set before the state; pairs with the CAS of
            // `Health::begin_recovery`.
            fence(Ordering::Acquire);
            let until = server.recovering_until();
            // A server that was ejected may hang again: the use of its connection tells.
            let was_ejected = server.last_failure().is_some_and(|failure| !failure.is_of_connect());
            let is_in_use = || is_any_in_use(shared, &generation, health.outage());
            let may_hang = was_ejected && now.since(until) < LONGEST_RECOVERY && is_in_use();
            if now >= until && !may_hang {
                transition::end_recovery(shared, &generation, health.outage());
            } else {
                shared.due_times.push(until.max(now.after(RECOVERY_RETRY)), number);
            }
        }
        HealthState::Down => match server.down_until() {
            // Its probe runs.
            None => {}
            Some(until) if until > now => shared.due_times.push(until, number),
            Some(_) => shared.due_times.add_ready(number),
        },
    }
}

/// Whether a caller has a connection of a server that recovers from `outage`, which was opened since the outage began
/// or has come back well since: usually the probe's.
///
/// Not counted: those from before, which were out when the server failed and tell nothing; one with which a waiter was
/// served that has not taken it, since it may never be polled again; and those that say goodbye.
fn is_any_in_use<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, outage: Outage) -> bool {
    let is_one = |grant: &Grant<C>| {
        grant.conn.outage() == outage && Arc::ptr_eq(&grant.conn.generation().server, &generation.server)
    };
    // The idle connections from before were closed when the recovery began.
    let not_in_use = generation.idle.len() + shared.queue.count_served(is_one);
    generation.server.answered.open(outage) > not_in_use as u64
}
