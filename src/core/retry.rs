//! Runs what is due: the trials of servers that are down, and the ends of recoveries.
//!
//! The background task alone runs it. Without a caller since the last trial nothing is connected to: the task then sets
//! the signal that a retry is due, and the next caller clears it and wakes the task.
//!
//! While no server serves, trials keep a distance, and while callers wait, no server is left alone for longer than
//! `outage_retry`, whatever its pause; so for as long after the first one has come back.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::attempt;
use crate::core::attempt_counts::Purpose;
use crate::core::grant::Grant;
use crate::core::shared::Shared;
use crate::core::{sweep, transition};
use crate::error::Failure;
use crate::raw::{BreakerState, HealthState, Time};
use crate::server::Generation;
use crate::settings::LEAST_TRIAL_DISTANCE;
use crate::sync::Arc;

/// When a recovery whose connections are in use is looked at again.
const RECOVERY_RETRY: Duration = Duration::from_millis(100);
/// The recovery of a server that was ejected ends after this time, though its connection is still in use.
const LONGEST_RECOVERY: Duration = Duration::from_secs(30);

/// What the background task remembers between two looks.
#[derive(Debug)]
pub(crate) struct Retries {
    /// Servers are due and wait for a caller.
    waits_for_caller: bool,
    /// No server served at the last look.
    all_down: bool,
    /// For so long after the first server came back, the others are tried ahead of their time.
    healing_until: Time,
    /// When the next trial may start while no server serves.
    next_trial: Time,
    /// The number of the server after the one that was tried ahead of its time last.
    cursor: usize,
}

impl Retries {
    pub(crate) fn new() -> Self {
        let [healing_until, next_trial] = [Time::ZERO; 2];
        Self { waits_for_caller: false, all_down: false, healing_until, next_trial, cursor: 0 }
    }

    /// Runs what is due. Returns when to look next.
    pub(crate) fn run<C: Connector>(&mut self, shared: &Arc<Shared<C>>, now: Time) -> Time {
        let signals = &shared.notifier.signals;
        // A caller of `acquire_now` waits for the trials that are due when it comes, not for later ones.
        let has_waiters = signals.waiters() > shared.queue.impatient();
        let callers = shared.due_times.unheard_callers();
        let has_caller = has_waiters || callers.is_some() || self.waits_for_caller && !signals.is_retry_due();
        let servers = shared.servers.list().len;
        self.note_outage(shared, servers, now);
        while let Some(number) = shared.due_times.pop(now) {
            look(shared, number, now);
        }
        shared.due_times.ready_full();
        let mut next = self.run_trials(shared, has_caller, now);
        // After the trials have started: until then such a caller has something to wait for. One whose trial waits for
        // its turn goes on waiting.
        if let Some(callers) = callers.filter(|_| next == Time::NEVER || shared.attempts.running() > 0) {
            shared.due_times.hear_callers(callers);
        }
        let is_outage = self.all_down && has_waiters || now < self.healing_until;
        if let Some(distance) = shared.settings.ahead_distance(servers).filter(|_| is_outage) {
            next = next.min(self.try_ahead(shared, distance, now));
        }
        next.min(shared.due_times.next())
    }

    fn note_outage<C: Connector>(&mut self, shared: &Shared<C>, servers: usize, now: Time) {
        let was_down = std::mem::replace(&mut self.all_down, servers > 0 && shared.servers.serving.serving() == 0);
        let Some(retry) = shared.settings.outage_retry else { return };
        if was_down && !self.all_down {
            self.healing_until = now.after(retry);
        }
    }

    /// Starts the trials that are due. Returns when the next one may start.
    fn run_trials<C: Connector>(&mut self, shared: &Arc<Shared<C>>, has_caller: bool, now: Time) -> Time {
        let mut next = Time::NEVER;
        let waited = std::mem::replace(&mut self.waits_for_caller, false);
        while let Some(number) = shared.due_times.pop_ready() {
            if !has_caller || self.all_down && now < self.next_trial {
                shared.due_times.put_back(number);
                self.waits_for_caller = !has_caller;
                next = if has_caller { self.next_trial } else { next };
                break;
            }
            self.try_server(shared, number, false, now);
        }
        // Not if it goes on waiting: a caller may just have cleared the signal.
        if has_caller || waited != self.waits_for_caller {
            shared.notifier.signals.set_retry_due(self.waits_for_caller);
        }
        next
    }

    /// Tries the next server that is down ahead of its time. Returns when the one after it is due.
    fn try_ahead<C: Connector>(&mut self, shared: &Arc<Shared<C>>, distance: Duration, now: Time) -> Time {
        let due = shared.due_times.ahead().max(if self.all_down { self.next_trial } else { Time::ZERO });
        if now < due {
            return due;
        }
        let list = shared.servers.list();
        let is_candidate = |number: &usize| {
            let server = list.entry(*number).map(|entry| entry.server());
            server.is_some_and(|server| {
                let health = server.health.snapshot();
                let is_paused = server.breaker.snapshot().state() == BreakerState::Paused;
                let is_ejected = server.health.ejected_until().is_some_and(|until| until > now);
                health.is_down() && !is_ejected && is_paused
            })
        };
        let numbers = || list.iter().map(|(number, _)| number);
        let after = numbers().filter(|&number| number >= self.cursor).find(is_candidate);
        if let Some(number) = after.or_else(|| numbers().find(is_candidate)) {
            self.cursor = number + 1;
            self.try_server(shared, number, true, now);
        }
        let next = now.after(distance);
        shared.due_times.set_ahead(next);
        next
    }

    /// Starts the trial of a server that is down. Without a permit, an idle connection of an older outage makes room.
    fn try_server<C: Connector>(&mut self, shared: &Arc<Shared<C>>, number: usize, ahead: bool, now: Time) {
        let Some(generation) = shared.servers.list().generation(number) else { return };
        let server = &generation.server;
        // It may have changed since it became due, or another one has its number.
        let is_due = server.down_until().is_some_and(|until| ahead || until <= now);
        if !is_due {
            return;
        }
        if !server.permits.counts().is_free() {
            sweep::make_room(&generation);
        }
        if attempt::start(shared, &generation, Purpose::Probe { ahead }) {
            self.next_trial = now.after(LEAST_TRIAL_DISTANCE);
        } else if !ahead {
            shared.due_times.add_full(number);
        }
    }
}

/// Looks at a server whose time has come.
fn look<C: Connector>(shared: &Arc<Shared<C>>, number: usize, now: Time) {
    let Some(generation) = shared.servers.list().generation(number) else { return };
    let server = &generation.server;
    let health = server.health.snapshot();
    match health.state() {
        HealthState::Up => {}
        HealthState::Recovering => {
            let until = server.recovering_until();
            // A server that was ejected may hang again: the use of its connection tells.
            let was_ejected =
                matches!(server.last_failure().as_deref(), Some(Failure::Reported(_) | Failure::Unanswered { .. }));
            let may_hang = was_ejected && is_in_use(shared, &generation) && now.since(until) < LONGEST_RECOVERY;
            if now >= until && !may_hang {
                transition::recovered(shared, &generation, health.outage());
            } else {
                shared.due_times.push(until.max(now.after(RECOVERY_RETRY)), number);
            }
        }
        HealthState::Down => match server.down_until() {
            // Its trial runs.
            None => {}
            Some(until) if until > now => shared.due_times.push(until, number),
            Some(_) => shared.due_times.add_ready(number),
        },
    }
}

/// Whether a caller has a connection of the server. One with which a waiter was served that has not taken it is not in
/// use: the waiter may never be polled again.
fn is_in_use<C: Connector>(shared: &Shared<C>, generation: &Generation<C>) -> bool {
    let of_server = |grant: &Grant<C>| Arc::ptr_eq(&grant.conn.generation().server, &generation.server);
    let served = shared.queue.count_served(of_server);
    generation.server.permits.counts().established() as usize > generation.idle.len() + served
}
