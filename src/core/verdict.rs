//! What a use says of its server: success, failure or nothing. The first verdict of a use stands.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::shared::{Shared, pool_of};
use crate::core::transition;
use crate::error::Failure;
use crate::raw::{TICK, Time};
use crate::server::{Connection, NOT_QUIET, Total};
use crate::sync::Arc;

/// A use ends well, as far as the caller has not said otherwise. Returns the pool, if it still exists.
pub(crate) fn end_good_use<C: Connector>(conn: &mut Connection<C>) -> Option<Arc<Shared<C>>> {
    let Some(shared) = pool_of(conn.server()) else {
        end_other_use(conn);
        return None;
    };
    if !end_use(&shared, conn) {
        conn.server().count(Total::Successes, 1);
        count_success(&shared, conn);
    }
    Some(shared)
}

/// Ends a use in which the connection comes back. True if the caller has said how it ended.
pub(crate) fn end_use<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>) -> bool {
    shared.drops.note_return();
    conn.record.end_use(shared.signals.tick().unwrap_or_else(|| shared.clock.time()))
}

/// Ends a use in which the caller closes the connection, or takes it out of the pool.
pub(crate) fn end_other_use<C: Connector>(conn: &mut Connection<C>) {
    conn.record.end_use(conn.info().checked_out_at());
}

/// Counts a good return of a connection: it takes the server's outage number anew.
pub(crate) fn count_success<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>) {
    let generation = Arc::clone(conn.generation());
    let (server, outage) = (&generation.server, generation.server.health.snapshot().outage());
    // After the look at the number: that of the new address finds that the server has moved.
    if has_moved(conn) {
        return;
    }
    server.answered.note(shared.signals.tick().unwrap_or_else(|| shared.clock.time()));
    if conn.record.proven_under() != outage {
        conn.record.prove(outage);
        server.breaker.clear_failures();
    }
    transition::succeeded(shared, &generation, outage);
}

/// The caller says that the server answers well, once for each checkout.
pub(crate) fn report_success<C: Connector>(conn: &mut Connection<C>) {
    if let Some(shared) = first_verdict(conn) {
        conn.server().count(Total::Successes, 1);
        count_success(&shared, conn);
    }
}

/// The caller says that the server failed, once for each checkout.
pub(crate) fn report_failure<C: Connector>(conn: &mut Connection<C>, reason: String, eject_for: Option<Duration>) {
    if let Some(shared) = first_verdict(conn) {
        conn.record.disprove();
        let failure = Failure::Reported(reason.into());
        transition::reported(&shared, conn.generation(), conn.outage(), failure, eject_for);
    }
}

/// A connection whose caller drops it after a long use counts as a failure of the server, unless the server has
/// answered anything since the checkout. Counts the drop, unless the caller has said how the use ended.
pub(crate) fn report_if_abandoned<C: Connector>(conn: &Connection<C>) {
    if conn.record.has_verdict() {
        return;
    }
    let Some(shared) = pool_of(conn.server()) else { return };
    shared.drops.count(&shared.settings.name);
    let Some(abandoned_after) = shared.settings.abandoned_after else { return };
    let (checked_out, tick) = (conn.info().checked_out_at(), shared.signals.tick());
    let used = tick.unwrap_or_else(|| shared.clock.time()).since(checked_out);
    // The tick of a return is up to a step older than the time of a checkout before it.
    let since = tick.map_or(checked_out, |_| checked_out.counted_from(Time::ZERO.after(TICK)));
    if used >= abandoned_after && !conn.server().answered.is_since(since) {
        transition::reported(&shared, conn.generation(), conn.outage(), Failure::Unanswered { after: used }, None);
    }
}

/// Whether the server has another address or tag now: the connection tells nothing of it.
fn has_moved<C: Connector>(conn: &Connection<C>) -> bool {
    let (before, now) = (conn.info().server(), conn.server().config());
    !std::ptr::eq(before, &*now) && !before.leads_where(&now)
}

/// The pool, for the first verdict of a checkout.
fn first_verdict<C: Connector>(conn: &mut Connection<C>) -> Option<Arc<Shared<C>>> {
    if !conn.record.set_verdict() {
        return None;
    }
    // The release takes the slow path, so as not to count again.
    conn.quiet_in = NOT_QUIET;
    pool_of(conn.server())
}
