//! Settles the pool: serves waiters, starts attempts for the others.
//!
//! It looks at the pool as it is, not at what happened. A waiter runs it when it joins, rejoins or would give up; the
//! background task runs it at each wake-up while there are waiters.

use crate::acquire_options::Wish;
use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt_counts::Purpose;
use crate::core::hand_over::serve_waiters;
use crate::core::plan::{Candidate, plan};
use crate::core::shared::Shared;
use crate::core::wish::avoids;
use crate::core::{attempt, spill, sweep};
use crate::raw::Time;
use crate::servers::{List, ListEntry};
use crate::sync::Arc;

/// See the module's page.
pub(crate) fn settle<C: Connector>(shared: &Arc<Shared<C>>) {
    serve_waiters(shared);
    while connect_for_waiters(shared) && shared.servers.serving.has_worse(shared.servers.tier_in_use()) {
        // An attempt that just began may have ended a pause or filled its server: worse tiers serve meanwhile.
        serve_waiters(shared);
    }
}

/// Wakes the impatient waiters if no attempt runs or no server has a token: they have nothing to wait for.
pub(crate) fn wake_impatient<C: Connector>(shared: &Shared<C>) {
    // A waiter that joins later looks for itself (see `wait::join`).
    if shared.queue.impatient() > 0 && (!has_attempt(shared) || !any_has_token(shared)) {
        shared.queue.wake_impatient();
    }
}

/// Whether any server that is not disabled has a token or no rate limit.
pub(crate) fn any_has_token<C: Connector>(shared: &Shared<C>) -> bool {
    let (now, list) = (shared.clock.time(), shared.servers.list());
    list.iter().any(|(number, entry)| list.usable(number).is_some() && entry.server().has_token(now))
}

/// Whether an attempt runs.
pub(crate) fn has_attempt<C: Connector>(shared: &Shared<C>) -> bool {
    shared.attempts.running() > 0
}

/// Starts attempts for waiters, and returns whether there was any. None starts while as many run that are younger
/// than the hedge delay as there are waiters.
fn connect_for_waiters<C: Connector>(shared: &Arc<Shared<C>>) -> bool {
    let (young, late) = (shared.attempts.young(), shared.attempts.late());
    let waiters = shared.notifier.signals.waiters();
    if young >= waiters {
        return false;
    }
    let now = shared.clock.time();
    let list = shared.servers.list();
    let Some(first) = shared.connect_rotation.next(0, &list.up) else { return false };
    let first_standby = shared.standby_rotation.next(0, &list.standby).unwrap_or(0);
    let may_wait = waiters > shared.queue.impatient();
    let (wanted, is_hedge) = (waiters - young, young + late >= waiters);
    let choose = |wish: Option<&Wish>, makes_room, wanted| {
        let may_use = |number: &usize| {
            let server = list.entry(*number).map(ListEntry::server);
            !wish.zip(server).is_some_and(|(wish, server)| avoids(&list, wish, server))
        };
        let standby = spill::servers(shared, &list, first_standby, now).map(|(number, _)| number);
        let numbers = list.up.iter_from(first).chain(standby).filter(may_use);
        plan(numbers.filter_map(|number| candidate(shared, &list, number, now, may_wait, makes_room)), wanted, is_hedge)
    };
    // It is not known for which waiters the young attempts were started. Each one that is wanted for a waiter with a
    // wish goes to a server that it accepts.
    let wishes = shared.queue.wishes(wanted);
    let mut has_started = false;
    for number in choose(None, false, wanted - wishes.len()) {
        let Some(generation) = list.generation(number) else { continue };
        // One that loses the race for its permit does not keep the rest of the plan from starting.
        has_started |= attempt::start(shared, &generation, Purpose::Waiters);
    }
    for (earlier, wish) in wishes.into_iter().enumerate() {
        let chosen = || choose(Some(&wish), false, 1).pop();
        let full = || choose(Some(&wish), true, 1).pop().filter(|_| wish.fresh);
        let Some(generation) = chosen().or_else(full).and_then(|number| list.generation(number)) else { continue };
        // A connection that says goodbye makes room in a moment, too: for one of the wishes.
        let is_made = generation.server.closing() as usize > earlier;
        if !generation.server.permits.counts().is_free() && !is_made {
            sweep::make_room(&generation, CloseReason::MadeRoom);
        }
        has_started |= attempt::start(shared, &generation, Purpose::Waiters);
    }
    has_started
}

/// Returns a server as a candidate if it may be connected to now. One without a token gets at most one attempt, and
/// only if a waiter waits for tokens, so that a connection is there when the token comes. `makes_room`: an idle
/// connection of one that is full is room for an attempt.
fn candidate<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    number: usize,
    now: Time,
    may_wait: bool,
    makes_room: bool,
) -> Option<Candidate> {
    let generation = &list.entry(number)?.generation;
    let server = &generation.server;
    let is_trial = server.breaker.snapshot().may_begin(now)?;
    let counts = server.permits.counts();
    let most = if is_trial { 1 } else { shared.settings.max_concurrent_connects_per_server };
    let most = server.most_attempts(most);
    if most == 0 {
        return None;
    }
    let room = match counts.is_free() || !makes_room || generation.idle.is_empty() {
        true => counts.room(most),
        false => u32::from(counts.connecting() < most),
    };
    let room = match server.has_token(now) {
        true => room,
        false if may_wait && counts.connecting() == 0 && generation.idle.is_empty() => room.min(1),
        false => 0,
    };
    Some(Candidate { number, connecting: counts.connecting(), room })
}

/// Returns the earliest time at which a server that callers may use, and that has no token now, gets one.
pub(crate) fn next_token<C: Connector>(shared: &Shared<C>, now: Time) -> Time {
    let list = shared.servers.list();
    if list.limited == 0 {
        return Time::NEVER;
    }
    let buckets = list.iter().filter_map(|(number, _)| list.usable(number)?.0.server().bucket());
    buckets.map(|bucket| bucket.available_at()).filter(|&at| at > now).min().unwrap_or(Time::NEVER)
}
