//! Closes idle connections: those that may not be reused, that an outage or a report makes suspect, or that were idle
//! for longest. `upkeep` says when.

use std::cell::Cell;

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::closing::close;
use crate::core::hand_over::{after_push, move_or_close};
use crate::core::shared::Shared;
use crate::raw::{Outage, Time};
use crate::server::{Connection, Generation};
use crate::servers::thread_number;
use crate::sync::Arc;

/// Whether an open connection of the server has come back well since the server last went down: in use, or idle and
/// reusable. Asks the connector about the idle ones, and closes those that may not be reused.
pub(crate) fn has_answering_connection<C: Connector>(shared: &Shared<C>, generation: &Generation<C>) -> bool {
    let server = &generation.server;
    let outage = server.health.snapshot().outage();
    if server.answered.is_any_open(outage) {
        let now = shared.clock.time();
        if let Some(generation) = shared.servers.list().generation(generation.number) {
            close_unfit(&generation, |conn| {
                let over = conn.is_over(now, shared.idle_timeout);
                let is_fit = conn.is_reusable(now, shared.idle_timeout);
                over.or((!is_fit).then_some(CloseReason::Unfit))
            });
        }
    }
    server.answered.is_any_open(outage)
}

/// Closes the idle connections that have not come back well since `outage` began.
pub(crate) fn close_of_older_outages<C: Connector>(generation: &Arc<Generation<C>>, outage: Outage) {
    close_unfit(generation, |conn| (conn.outage != outage).then_some(CloseReason::Outage));
}

/// Closes the connections that have been idle since `idle_since` or longer.
pub(crate) fn close_idle_since<C: Connector>(generation: &Arc<Generation<C>>, idle_since: Time) {
    close_unfit(generation, |conn| (conn.info().idle_since() <= idle_since).then_some(CloseReason::Broken));
}

/// Closes one idle connection of a server, to make room for an attempt: the oldest that has not come back well since
/// the server last went down, if there is one, else the oldest of a shard.
pub(crate) fn make_room<C: Connector>(generation: &Generation<C>) {
    let (near, outage) = (thread_number(), generation.server.health.snapshot().outage());
    let older = generation.idle.pop_if(near, |conn| conn.outage != outage, move_or_close);
    if let Some(conn) = older.or_else(|| generation.idle.pop(near)) {
        close(conn, CloseReason::Outage);
    }
}

/// Closes so many idle connections, if there are as many: those that have been idle for longest. Returns how many.
/// `why` tells the reason of each.
pub(crate) fn close_longest_idle<C: Connector>(
    generation: &Arc<Generation<C>>,
    count: usize,
    why: impl Fn(&Connection<C>) -> CloseReason,
) -> usize {
    let mut times = Vec::new();
    close_unfit(generation, |conn| {
        times.push(conn.info().idle_since());
        None
    });
    times.sort_unstable();
    let last = times.get(count.saturating_sub(1)).copied().unwrap_or(Time::NEVER);
    let mut left = count;
    close_unfit(generation, |conn| {
        let closes = left > 0 && conn.info().idle_since() <= last;
        left -= usize::from(closes);
        closes.then(|| why(conn))
    });
    count - left
}

/// Closes the idle connections for which `unfit` gives a reason.
pub(crate) fn close_unfit<C: Connector>(
    generation: &Arc<Generation<C>>,
    mut unfit: impl FnMut(&mut Connection<C>) -> Option<CloseReason>,
) {
    let mut reasons = Vec::new();
    let closed = take_out(generation, |conn| {
        let why = unfit(conn);
        reasons.extend(why);
        why.is_none()
    });
    closed.into_iter().zip(reasons).for_each(|(conn, why)| close(conn, why));
}

/// Takes the idle connections out that do not stay. Each of the others leaves the queue for a moment, so waiters are
/// served afterwards.
pub(crate) fn take_out<C: Connector>(
    generation: &Arc<Generation<C>>,
    mut stays: impl FnMut(&mut Connection<C>) -> bool,
) -> Vec<Box<Connection<C>>> {
    let is_taken = Cell::new(false);
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    generation.idle.retain(
        |conn| {
            is_taken.set(!stays(conn));
            !is_taken.get()
        },
        // Also refuses connections that stay, of a closed generation: those move.
        |conn| if is_taken.take() { taken.push(conn) } else { refused.push(conn) },
    );
    refused.into_iter().for_each(move_or_close);
    after_push(generation, thread_number());
    taken
}
