//! The idle connections of a server: puts them into its queue, takes them out, closes them.
//!
//! User code runs where a connection is asked about or dropped, so no lock may be held.

use std::cell::Cell;

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::closing::close;
use crate::core::hand_over::{Leftover, serve_from};
use crate::core::shared::{Shared, pool_of};
use crate::raw::{Outage, Time};
use crate::server::{Connection, Generation};
use crate::servers::thread_number;
use crate::sync::Arc;

/// Puts a connection into the idle queue of its server, and serves waiters from there. Closes it instead if
///
/// - its epoch is over,
/// - an outage is over, and it was neither opened nor returned well since that began: the idle ones were closed then.
#[cold]
pub(crate) fn make_idle<C: Connector>(conn: Box<Connection<C>>) {
    if let Some(why) = why_outdated(&conn) {
        return close(conn, why);
    }
    let thread = thread_number();
    let generation = Arc::clone(conn.generation());
    let outage = conn.outage();
    generation.idle.push(conn, thread, move_or_close);
    if let Some(shared) = pool_of(&generation.server) {
        after_push(&shared, &generation, thread, outage);
    }
}

/// Why a connection may not stay, if it is of an epoch that is over, or from before an outage that is over.
pub(crate) fn why_outdated<C: Connector>(conn: &Connection<C>) -> Option<CloseReason> {
    let (generation, health) = (conn.generation(), conn.server().health.snapshot());
    if let Some(why) = generation.why_over() {
        return Some(why);
    }
    (!health.is_down() && conn.outage() != health.outage()).then_some(CloseReason::Outage)
}

/// Moves a connection that may not stay in its idle queue to the generation that took over. Closes it if there is none,
/// if the queue is full, or if the maximum was lowered.
#[cold]
pub(crate) fn move_or_close<C: Connector>(mut conn: Box<Connection<C>>) {
    let generation = conn.generation();
    if let Some(why) = generation.why_over() {
        return close(conn, why);
    }
    // A queue that is not closed is full.
    let next = || pool_of(&generation.server).and_then(|shared| shared.servers.current(generation));
    let next = generation.idle.is_closed().then(next).flatten();
    match next.filter(|next| !next.server.is_over_maximum()) {
        Some(next) => {
            conn.move_to(next);
            make_idle(conn);
        }
        None => close(conn, CloseReason::OverMaximum),
    }
}

/// Acts on a push into an idle queue of a connection whose outage number is `outage`.
#[cold]
pub(crate) fn after_push<C: Connector>(
    shared: &Shared<C>,
    generation: &Arc<Generation<C>>,
    thread: usize,
    outage: Outage,
) {
    let health = generation.server.health.snapshot_after_push();
    if !health.is_down() && health.outage() != outage {
        // The server went down and recovered since the look before the push, and closed its idle connections before it.
        return close_of_older_outages(generation, health.outage());
    }
    serve_and_wake(shared, generation, thread);
}

/// Serves waiters with what was just put into an idle queue. If the server is down, a due probe may need its room.
pub(crate) fn serve_and_wake<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, thread: usize) {
    if generation.server.health.snapshot_after_push().is_down() {
        // A due attempt may close this connection to make room.
        shared.notifier.wake();
    }
    if shared.signals.waiters() > 0 {
        finish_leftover(shared, serve_from(shared, generation, thread));
    }
}

/// Moves or closes what is left after waiters were served.
pub(crate) fn finish_leftover<C: Connector>(shared: &Shared<C>, Leftover { refused, looked }: Leftover<C>) {
    refused.into_iter().for_each(move_or_close);
    looked.iter().for_each(|generation| after_look_for_proven(shared, generation));
}

/// Acts on connections that a look for proven ones has put back. While they were out,
///
/// - the server may have recovered: then they close,
/// - the last server that served may have gone down: then waiters may have them.
pub(crate) fn after_look_for_proven<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>) {
    let health = generation.server.health.snapshot_after_push();
    if !health.is_down() {
        close_of_older_outages(generation, health.outage());
    } else if shared.signals.waiters_after_change() > 0 && shared.servers.list().up.is_empty() {
        // After a fence, which pairs with that of `ServerSet::refresh`.
        shared.notifier.wake();
    }
}

/// Takes the idle connections out that `pick` picks, with what it gives for each. Each of the others leaves the queue
/// for a moment, so waiters are served afterwards.
pub(crate) fn take_out<C: Connector, T>(
    generation: &Arc<Generation<C>>,
    mut pick: impl FnMut(&mut Connection<C>) -> Option<T>,
) -> Vec<(Box<Connection<C>>, T)> {
    let present = generation.server.health.snapshot().outage();
    let (picked, older) = (Cell::new(None), Cell::new(present));
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    generation.idle.retain(
        |conn| {
            let why = pick(conn);
            let stays = why.is_none();
            if stays && conn.outage() != present {
                older.set(conn.outage());
            }
            picked.set(why);
            stays
        },
        // Also refuses connections that stay, of a closed generation: those move.
        |conn| match picked.take() {
            Some(why) => taken.push((conn, why)),
            None => refused.push(conn),
        },
    );
    refused.into_iter().for_each(move_or_close);
    if let Some(shared) = pool_of(&generation.server) {
        // While it was out, the server may have recovered and closed its idle connections.
        after_push(&shared, generation, thread_number(), older.get());
    }
    taken
}

/// Closes the idle connections for which `unfit` gives a reason.
pub(crate) fn close_unfit<C: Connector>(
    generation: &Arc<Generation<C>>,
    unfit: impl FnMut(&mut Connection<C>) -> Option<CloseReason>,
) {
    take_out(generation, unfit).into_iter().for_each(|(conn, why)| close(conn, why));
}

/// Closes the idle connections that have not come back well since `outage` began.
pub(crate) fn close_of_older_outages<C: Connector>(generation: &Arc<Generation<C>>, outage: Outage) {
    close_unfit(generation, |conn| (conn.outage() != outage).then_some(CloseReason::Outage));
}

/// Whether an open connection of the server has come back well since the server last went down: in use, or idle and
/// reusable. Asks the connector about the idle ones, and closes those that may not be reused.
pub(crate) fn has_answering_connection<C: Connector>(shared: &Shared<C>, generation: &Generation<C>) -> bool {
    let server = &generation.server;
    let outage = server.health.snapshot().outage();
    if server.answered.is_any_proven(outage) {
        let now = shared.clock.time();
        if let Some(generation) = shared.servers.list().generation(generation.number()) {
            close_unfit(&generation, |conn| why_unfit(shared, conn, now));
        }
    }
    server.answered.is_any_proven(outage)
}

/// Why an idle connection may not be reused, if it may not. Asks the connector.
pub(crate) fn why_unfit<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>, now: Time) -> Option<CloseReason> {
    if let Some(over) = conn.why_expired(now, shared.idle_limit) {
        return Some(over);
    }
    let checked_out_at = conn.info().checked_out_at();
    let is_reusable = conn.try_check_out(now, shared.idle_limit);
    conn.info_mut().check_out(checked_out_at);
    (!is_reusable).then_some(CloseReason::Unfit)
}

/// Closes the connections that have been idle since `idle_since` or longer.
pub(crate) fn close_idle_since<C: Connector>(generation: &Arc<Generation<C>>, idle_since: Time, why: CloseReason) {
    close_unfit(generation, |conn| (conn.info().idle_since() <= idle_since).then_some(why));
}

/// Closes one idle connection of a server, to make room for an attempt: the oldest that has not come back well since
/// the server last went down, if there is one, else the oldest of a shard.
pub(crate) fn make_room<C: Connector>(generation: &Generation<C>, why: CloseReason) {
    let (thread, outage) = (thread_number(), generation.server.health.snapshot().outage());
    let older = generation.idle.pop_if(thread, |conn| conn.outage() != outage, move_or_close);
    if let Some(conn) = older.or_else(|| generation.idle.pop(thread)) {
        close(conn, why);
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
