//! Brings the pool to where it should be: due servers are tried, waiters are served, attempts run for the others.
//!
//! It looks at the words, not at what happened: a caller that joins the wait queue runs it once, and the background
//! task runs it each time that it is woken.

use crate::connector::Connector;
use crate::core::attempt;
use crate::core::attempts::Purpose;
use crate::core::due::Due;
use crate::core::hand_over::serve_waiters;
use crate::core::plan::{Candidate, plan};
use crate::core::shared::Shared;
use crate::servers::{List, near};
use crate::sync::{Arc, Ordering};

/// See the module's page.
pub(crate) fn settle<C: Connector>(shared: &Arc<Shared<C>>) {
    start_due(shared);
    serve_waiters(shared);
    connect_for_waiters(shared);
}

/// Starts an attempt at each server that is down and whose retry is due.
#[cold]
pub(crate) fn start_due<C: Connector>(shared: &Arc<Shared<C>>) {
    let now_ns = shared.clock.now_ns();
    shared.notifier.signals.set_retry_due(false);
    if !shared.due.make_ready(now_ns).0 {
        return;
    }
    // Counts as an attempt: a caller that finds the servers taken from the list must not think that none will run.
    let starting = shared.attempts.begin(Purpose::Balance, 0);
    let mut taken = Taken { due: &shared.due, numbers: shared.due.take_ready() };
    taken.numbers.retain(|&number| !try_due(shared, number, now_ns));
    let first_left = taken.numbers.first().copied();
    drop(taken);
    // Room that was made while the numbers were taken woke a task that found none.
    if first_left.is_some_and(|number| has_room(shared, number)) {
        shared.notifier.wake();
    }
    drop(starting);
    // An impatient waiter may have taken this for an attempt.
    wake_impatient(shared);
}

/// Servers that are due. Those that are left are made ready again, also after a panic of the user's.
struct Taken<'a> {
    due: &'a Due,
    numbers: Vec<usize>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.due.put_back(std::mem::take(&mut self.numbers));
    }
}

/// Starts an attempt at a server that is due. False if it cannot start yet.
fn try_due<C: Connector>(shared: &Arc<Shared<C>>, number: usize, now_ns: u64) -> bool {
    let Some(generation) = shared.servers.list().generation(number) else { return true };
    let server = &generation.server;
    // Without a time the server is up, or its attempt runs.
    let Some(until) = server.down_until() else { return true };
    if until > now_ns {
        shared.due.push(until, number);
        return true;
    }
    if !server.permits.counts().is_free() {
        // An idle connection makes room.
        drop(generation.idle.pop(near()));
    }
    // No permit, or too many attempts from before it went down: a release of one wakes the background task.
    attempt::start(shared, &generation, Purpose::Probe) || server.down_until().is_none()
}

/// Whether an attempt may start at a server that is due, but for its time.
fn has_room<C: Connector>(shared: &Shared<C>, number: usize) -> bool {
    let list = shared.servers.list();
    list.seat(number).is_some_and(|seat| {
        let most = shared.settings.max_concurrent_connects_per_server;
        seat.server().down_until().is_some() && seat.server().permits.counts().room(most) > 0
    })
}

/// Without an attempt that runs, impatient waiters have nothing to wait for.
pub(crate) fn wake_impatient<C: Connector>(shared: &Shared<C>) {
    if shared.impatient.load(Ordering::Relaxed) > 0 && !has_attempt(shared) {
        shared.queue.wake_impatient();
    }
}

/// Whether an attempt runs.
pub(crate) fn has_attempt<C: Connector>(shared: &Shared<C>) -> bool {
    shared.attempts.running() > 0
}

/// Starts attempts for waiters: those younger than the hedge delay never exceed the waiters.
fn connect_for_waiters<C: Connector>(shared: &Arc<Shared<C>>) {
    let (young, late) = (shared.attempts.young(), shared.attempts.late());
    let waiters = shared.notifier.signals.waiters();
    if young >= waiters {
        return;
    }
    let now_ns = shared.clock.now_ns();
    let list = shared.servers.list();
    let Some(first) = shared.connect_rotation.next(0, &list.up) else { return };
    let may_wait = waiters > shared.impatient.load(Ordering::Relaxed);
    let candidates = list.up.iter_from(first).filter_map(|number| candidate(shared, &list, number, now_ns, may_wait));
    for number in plan(candidates, waiters - young, young + late >= waiters) {
        let Some(generation) = list.generation(number) else { continue };
        // One that lost a race for its permit leaves the others of the plan to be tried.
        attempt::start(shared, &generation, Purpose::Waiters);
    }
}

/// A server that is up, if it may be connected to now. One without a token gets one attempt at most, if a waiter waits
/// for tokens, so that a connection is there when the token comes.
fn candidate<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    number: usize,
    now_ns: u64,
    may_wait: bool,
) -> Option<Candidate> {
    let generation = &list.seat(number)?.generation;
    let server = &generation.server;
    if !server.is_up() || server.pause.until() > now_ns {
        return None;
    }
    let counts = server.permits.counts();
    let room = counts.room(shared.settings.max_concurrent_connects_per_server);
    let room = match server.has_token(now_ns) {
        true => room,
        false if may_wait && counts.connecting() == 0 && generation.idle.is_empty() => room.min(1),
        false => 0,
    };
    Some(Candidate { number, connecting: counts.connecting(), room })
}

/// When a server that callers may use next has a token, where it has none at `now_ns`. The due times are the background
/// task's.
pub(crate) fn next_token<C: Connector>(shared: &Shared<C>, now_ns: u64) -> u64 {
    let list = shared.servers.list();
    if list.limited == 0 {
        return u64::MAX;
    }
    let buckets = list.iter().filter_map(|(number, _)| list.serving(number)?.server().bucket());
    buckets.map(|bucket| bucket.available_at()).filter(|&at_ns| at_ns > now_ns).min().unwrap_or(u64::MAX)
}
