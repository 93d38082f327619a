//! Settles the pool: serves waiters, starts attempts for the others.
//!
//! It looks at the pool as it is, not at what happened. A waiter runs it when it joins, rejoins or would give up; the
//! background task runs it at each wake-up while there are waiters.

use crate::connector::Connector;
use crate::core::attempt::Purpose;
use crate::core::candidates::{Need, ReservedTokens, choose, is_hedge, lacking};
use crate::core::hand_over::Served;
use crate::core::order::place_orders;
use crate::core::shared::Shared;
use crate::core::wish::WaiterWish;
use crate::core::{attempt, hand_over, idle_conns, spill};
use crate::raw::Time;
use crate::sync::Arc;

/// See the module's page. False if no waiter was served.
pub(crate) fn settle<C: Connector>(shared: &Arc<Shared<C>>) -> bool {
    let Served { mut count, is_stopped } = serve(shared, true);
    if shared.queue.wishing() > 0 {
        place_orders(shared);
    }
    if is_stopped {
        count += serve(shared, false).count;
    }
    while connect_for_waiters(shared) && shared.servers.serving.has_worse(shared.servers.tier_in_use()) {
        // An attempt that just began may have ended a pause or filled its server: worse tiers serve meanwhile.
        count += serve(shared, false).count;
    }
    count > 0
}

/// Serves waiters from all servers.
fn serve<C: Connector>(shared: &Shared<C>, to_first_order: bool) -> Served {
    let (served, left) = hand_over::serve_waiters(shared, to_first_order);
    idle_conns::finish_leftover(shared, left);
    served
}

/// Wakes the impatient waiters if no attempt runs that may serve them: they have nothing to wait for.
pub(crate) fn wake_impatient<C: Connector>(shared: &Shared<C>) {
    // A waiter that joins later looks for itself (see `wait::join`).
    if shared.queue.impatient() > 0 && !attempt_may_serve(shared) {
        shared.queue.wake_impatient();
    }
}

/// Whether any server that is not disabled has a token or no rate limit.
pub(crate) fn any_has_token<C: Connector>(shared: &Shared<C>) -> bool {
    let (now, list) = (shared.clock.time(), shared.servers.list());
    list.iter().any(|(number, entry)| list.usable(number).is_some() && entry.server().has_token(now))
}

/// Whether an attempt runs that may serve a waiter at once: at a server with a token.
pub(crate) fn attempt_may_serve<C: Connector>(shared: &Shared<C>) -> bool {
    let (mut running, list, now) = (shared.attempts.running(), shared.servers.list(), shared.clock.time());
    if running == 0 || list.limited == 0 && shared.servers.disabled() == 0 && list.standby.is_empty() {
        return running > 0;
    }
    for (_, entry) in list.iter() {
        let server = entry.server();
        let connecting = server.permits.counts().connecting() as usize;
        if connecting > 0 && server.has_token(now) && spill::helps(shared, &list, server, now) {
            return true;
        }
        running = running.saturating_sub(connecting);
    }
    // A hook that runs on a connection, or an attempt that delivers one.
    running > 0 && any_has_token(shared)
}

/// Starts attempts for waiters, and returns whether there was any. None starts while young attempts and recycles are as
/// many as the waiters.
fn connect_for_waiters<C: Connector>(shared: &Arc<Shared<C>>) -> bool {
    let is_hedge = is_hedge(shared);
    let lacking = lacking(shared).saturating_sub(shared.attempts.recycling());
    if lacking == 0 {
        return false;
    }
    let (now, list) = (shared.clock.time(), shared.servers.list());
    let may_wait = shared.signals.waiters() > shared.queue.impatient();
    let reserved = ReservedTokens::of_orders(shared, &list);
    let choose_for = |wish, is_hedge, most| {
        choose(shared, &list, now, Need { most, is_hedge, may_wait, makes_room: false, wish, reserved: &reserved })
    };
    // Each waiter with a wish orders for itself.
    let choosy = shared.queue.wishes(lacking, WaiterWish::has_no_order);
    let mut has_started = false;
    for number in choose_for(None, is_hedge, lacking - choosy.len()) {
        let Some(generation) = list.generation(number) else { continue };
        // One that loses the race for its permit does not keep the rest of the plan from starting.
        has_started |= attempt::start(shared, &generation, Purpose::Waiters);
    }
    for waiter in choosy.iter().filter(|waiter| !waiter.wish.fresh) {
        let number = choose_for(Some(&waiter.wish), is_hedge || waiter.has_late_order(), 1).pop();
        let Some(generation) = number.and_then(|number| list.generation(number)) else { continue };
        let Some(order) = shared.attempts.begin_order(waiter, generation.number()) else { continue };
        has_started |= attempt::start_order(shared, &generation, order);
    }
    has_started
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
