//! Settles the pool: probes due servers, serves waiters, starts attempts for the other waiters.
//!
//! It looks at the pool as it is, not at what happened. A waiter runs it when it joins, rejoins or would give up; the
//! background task runs it at each wake-up while there are waiters.

use crate::connector::Connector;
use crate::core::attempt;
use crate::core::attempt_counts::Purpose;
use crate::core::due_times::DueTimes;
use crate::core::hand_over::serve_waiters;
use crate::core::plan::{Candidate, plan};
use crate::core::shared::Shared;
use crate::raw::Time;
use crate::servers::{List, thread_number};
use crate::sync::{Arc, Ordering};

/// See the module's page.
pub(crate) fn settle<C: Connector>(shared: &Arc<Shared<C>>) {
    start_due(shared);
    serve_waiters(shared);
    connect_for_waiters(shared);
}

/// Starts a probe of each server that is due.
#[cold]
pub(crate) fn start_due<C: Connector>(shared: &Arc<Shared<C>>) {
    let now = shared.clock.time();
    shared.notifier.signals.set_retry_due(false);
    if !shared.due_times.make_ready(now).0 {
        return;
    }
    // Counts as an attempt: a caller that finds the due servers taken must not conclude that no attempt will run.
    let starting = shared.attempts.begin(Purpose::Balance, 0);
    let mut taken = Taken { due: &shared.due_times, numbers: shared.due_times.take_ready() };
    taken.numbers.retain(|&number| !try_due(shared, number, now));
    let first_left = taken.numbers.first().copied();
    drop(taken);
    // Room made meanwhile woke the background task, which found no due server.
    if first_left.is_some_and(|number| has_room(shared, number)) {
        shared.notifier.wake();
    }
    drop(starting);
    // An impatient waiter may have taken `starting` for an attempt.
    wake_impatient(shared);
}

/// Due servers. Its drop puts back those that are left, also after a panic in user code.
struct Taken<'a> {
    due: &'a DueTimes,
    numbers: Vec<usize>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.due.put_back(std::mem::take(&mut self.numbers));
    }
}

/// Starts a probe of a server that is due. False if it cannot start yet.
fn try_due<C: Connector>(shared: &Arc<Shared<C>>, number: usize, now: Time) -> bool {
    let Some(generation) = shared.servers.list().generation(number) else { return true };
    let server = &generation.server;
    // `None`: the server is up, or its probe runs.
    let Some(until) = server.down_until() else { return true };
    if until > now {
        shared.due_times.push(until, number);
        return true;
    }
    if !server.permits.counts().is_free() {
        // Closing an idle connection makes room.
        drop(generation.idle.pop(thread_number()));
    }
    // No permit, or too many attempts from before it went down: a release of one wakes the background task.
    attempt::start(shared, &generation, Purpose::Probe) || server.down_until().is_none()
}

/// Whether a server is down and has room for an attempt. Its time is not checked.
fn has_room<C: Connector>(shared: &Shared<C>, number: usize) -> bool {
    let list = shared.servers.list();
    list.entry(number).is_some_and(|entry| {
        let most = shared.settings.max_concurrent_connects_per_server;
        entry.server().down_until().is_some() && entry.server().permits.counts().room(most) > 0
    })
}

/// Wakes the impatient waiters if no attempt runs: they have nothing to wait for.
pub(crate) fn wake_impatient<C: Connector>(shared: &Shared<C>) {
    // Relaxed: a waiter that joins later looks for itself (see `wait::join`).
    if shared.impatient.load(Ordering::Relaxed) > 0 && !has_attempt(shared) {
        shared.queue.wake_impatient();
    }
}

/// Whether an attempt runs.
pub(crate) fn has_attempt<C: Connector>(shared: &Shared<C>) -> bool {
    shared.attempts.running() > 0
}

/// Starts attempts for waiters. Attempts for waiters that are younger than the hedge delay never exceed the waiters.
fn connect_for_waiters<C: Connector>(shared: &Arc<Shared<C>>) {
    let (young, late) = (shared.attempts.young(), shared.attempts.late());
    let waiters = shared.notifier.signals.waiters();
    if young >= waiters {
        return;
    }
    let now = shared.clock.time();
    let list = shared.servers.list();
    let Some(first) = shared.connect_rotation.next(0, &list.up) else { return };
    // Relaxed: a hint.
    let may_wait = waiters > shared.impatient.load(Ordering::Relaxed);
    let candidates = list.up.iter_from(first).filter_map(|number| candidate(shared, &list, number, now, may_wait));
    for number in plan(candidates, waiters - young, young + late >= waiters) {
        let Some(generation) = list.generation(number) else { continue };
        // One that loses the race for its permit does not keep the rest of the plan from starting.
        attempt::start(shared, &generation, Purpose::Waiters);
    }
}

/// Returns a server as a candidate if it is up and may be connected to now. One without a token gets at most one
/// attempt, and only if a waiter waits for tokens, so that a connection is there when the token comes.
fn candidate<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    number: usize,
    now: Time,
    may_wait: bool,
) -> Option<Candidate> {
    let generation = &list.entry(number)?.generation;
    let server = &generation.server;
    if !server.is_up() || server.pause.until() > now {
        return None;
    }
    let counts = server.permits.counts();
    let room = counts.room(shared.settings.max_concurrent_connects_per_server);
    let room = match server.has_token(now) {
        true => room,
        false if may_wait && counts.connecting() == 0 && generation.idle.is_empty() => room.min(1),
        false => 0,
    };
    Some(Candidate { number, connecting: counts.connecting(), room })
}

/// Returns the earliest time at which a serving server that has no token at `now` gets one.
pub(crate) fn next_token<C: Connector>(shared: &Shared<C>, now: Time) -> Time {
    let list = shared.servers.list();
    if list.limited == 0 {
        return Time::NEVER;
    }
    let buckets = list.iter().filter_map(|(number, _)| list.serving(number)?.server().bucket());
    buckets.map(|bucket| bucket.available_at()).filter(|&at| at > now).min().unwrap_or(Time::NEVER)
}
