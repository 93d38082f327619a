//! Closes idle connections: those that may not be reused, that an outage or a report makes suspect, or that were idle
//! for longest. Sweeps, probes, failed connects, checks and `broken` call it.

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::closing::close;
use crate::core::hand_over::{close_unfit, move_or_close};
use crate::core::shared::Shared;
use crate::raw::Time;
use crate::server::{Connection, Generation};
use crate::servers::thread_number;
use crate::sync::Arc;

/// Whether an open connection of the server has come back well since the server last went down: in use, or idle and
/// reusable. Asks the connector about the idle ones, and closes those that may not be reused.
pub(crate) fn has_answering_connection<C: Connector>(shared: &Shared<C>, generation: &Generation<C>) -> bool {
    let server = &generation.server;
    let outage = server.health.snapshot().outage();
    if server.answered.is_any_proven(outage) {
        let now = shared.clock.time();
        if let Some(generation) = shared.servers.list().generation(generation.number) {
            close_unfit(&generation, |conn| why_unfit(shared, conn, now));
        }
    }
    server.answered.is_any_proven(outage)
}

/// Why an idle connection may not be reused, if it may not. Asks the connector.
pub(crate) fn why_unfit<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>, now: Time) -> Option<CloseReason> {
    if let Some(over) = conn.why_expired(now, shared.idle_timeout) {
        return Some(over);
    }
    let checked_out_at = conn.info().checked_out_at();
    let is_reusable = conn.try_check_out(now, shared.idle_timeout);
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
