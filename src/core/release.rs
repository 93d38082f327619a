//! How a use ends, and what it says of its server: success, failure or nothing. The first verdict of a use stands.
//!
//! A connection returns to the pool, closes or leaves it. Where the connector asks for it, a task recycles it first:
//! meanwhile it keeps its permit and counts as an attempt that is about to succeed. Callers wait for it, and no other
//! attempt starts for them until the hedge delay is over.

use std::fmt;
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::connector::{AfterUse, Connector, Ended};
use crate::core::attempt_counts::{Counted, Runs};
use crate::core::closing::close;
use crate::core::hook::{HookEnd, run_hook};
use crate::core::idle_conns::{after_push, close_idle_since, make_idle};
use crate::core::shared::{Shared, pool_of};
use crate::core::transition;
use crate::error::Failure;
use crate::raw::{Outage, TICK, Time};
use crate::server::{Connection, Generation, Total};
use crate::sync::Arc;

/// The use ends well, but the connection may not be reused.
pub(crate) fn release_and_close<C: Connector>(mut conn: Box<Connection<C>>) {
    end_good_use(&mut conn);
    close(conn, CloseReason::Unfit);
}

/// Acts on a return to an idle queue, where there are waiters or strikes, or the server's health has changed.
#[cold]
pub(crate) fn after_release<C: Connector>(generation: &Arc<Generation<C>>, thread: usize, outage: Outage) {
    if let Some(shared) = pool_of(&generation.server) {
        transition::succeeded(&shared, generation, outage);
        after_push(&shared, generation, thread, outage);
    }
}

/// Takes a connection back for reuse, holding a reference to the generation and the pool.
#[cold]
pub(crate) fn release_slowly<C: Connector>(mut conn: Box<Connection<C>>) {
    // A dropped pool has closed all generations.
    let Some(shared) = end_good_use(&mut conn) else { return close(conn, CloseReason::PoolClosed) };
    conn.record.set_noted();
    keep_or_close(conn);
    // This thread's next release need not come here.
    shared.servers.keep_current_list();
}

/// Gives a used connection back for reuse. Closes it if the server has more than its maximum, or its lifetime is over.
fn keep_or_close<C: Connector>(conn: Box<Connection<C>>) {
    if conn.server().is_over_maximum() {
        return close(conn, CloseReason::OverMaximum);
    }
    if conn.info().idle_since() >= conn.expires_at {
        return close(conn, CloseReason::MaxLifetime);
    }
    make_idle(conn);
}

/// The caller closes the connection. It says nothing about the server.
pub(crate) fn discard<C: Connector>(mut conn: Box<Connection<C>>) {
    end_other_use(&mut conn);
    close(conn, CloseReason::Discarded);
}

/// The caller has reported a failure and closes the connection.
pub(crate) fn fail<C: Connector>(mut conn: Box<Connection<C>>) {
    end_other_use(&mut conn);
    close(conn, CloseReason::Failed);
}

/// The caller takes the connection out of the pool.
pub(crate) fn detach<C: Connector>(mut conn: Box<Connection<C>>) -> C::Conn {
    end_other_use(&mut conn);
    conn.record.set_close_reason(CloseReason::Detached);
    let Connection { conn, .. } = *conn;
    conn
}

/// The connection turned out dead. Closes it, and those of its server that have been idle for at least as long. A new
/// one that went straight to its caller tells nothing about those.
pub(crate) fn broken<C: Connector>(mut conn: Box<Connection<C>>, reason: &dyn fmt::Display) {
    let (generation, idle_since) = (Arc::clone(conn.generation()), conn.info().idle_since());
    let is_new = conn.info().is_new();
    let pool = generation.server.pool_name();
    tracing::debug!(%pool, server = %generation.server.config().name(), cause = %reason, "connection is broken");
    end_other_use(&mut conn);
    close(conn, CloseReason::Broken);
    // In the generation that took over, if the settings changed since the checkout.
    let current = || pool_of(&generation.server).and_then(|shared| shared.servers.current(&generation));
    if let Some(current) = (!is_new).then(current).flatten() {
        close_idle_since(&current, idle_since, CloseReason::Broken);
    }
}

/// The caller dropped the connection, which goes on as the connector says. One that closes after a long use counts as a
/// failure of the server, unless the server has answered anything since the checkout.
pub(crate) fn dropped<C: Connector>(mut conn: Box<Connection<C>>) {
    if !std::thread::panicking() {
        match conn.after_use(Ended::Dropped) {
            AfterUse::Reuse => return release_slowly(conn),
            AfterUse::Recycle => return recycle(conn),
            AfterUse::Close => report_if_abandoned(&conn),
        }
    }
    end_other_use(&mut conn);
    close(conn, CloseReason::Dropped);
}

/// A use ends well, as far as the caller has not said otherwise. Returns the pool, if it still exists.
fn end_good_use<C: Connector>(conn: &mut Connection<C>) -> Option<Arc<Shared<C>>> {
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
fn end_use<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>) -> bool {
    shared.drops.note_return();
    conn.record.end_use(shared.coarse_time())
}

/// Ends a use in which the caller closes the connection, or takes it out of the pool.
fn end_other_use<C: Connector>(conn: &mut Connection<C>) {
    conn.record.end_use(conn.info().checked_out_at());
}

/// Counts a success of a use: the connection takes the server's present outage number.
fn count_success<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>) {
    let generation = Arc::clone(conn.generation());
    let (server, outage) = (&generation.server, generation.server.health.snapshot().outage());
    // After the number: who read that of a new address sees the new address here.
    if has_moved(conn) {
        return;
    }
    server.answered.note(shared.coarse_time());
    if !conn.record.is_proven_under(outage) {
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
fn report_if_abandoned<C: Connector>(conn: &Connection<C>) {
    if conn.record.has_verdict() {
        return;
    }
    let Some(shared) = pool_of(conn.server()) else { return };
    shared.drops.count(&shared.settings.name);
    let Some(abandoned_after) = shared.settings.abandoned_after else { return };
    let checked_out = conn.info().checked_out_at();
    let used = shared.coarse_time().since(checked_out);
    // The tick of a return is up to one tick older than the time of a checkout before it.
    let since = shared.signals.tick().map_or(checked_out, |_| checked_out.counted_from(Time::ZERO.after(TICK)));
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
    pool_of(conn.server())
}

/// Recycles a connection whose use ends. Without a runtime it closes.
pub(crate) fn recycle<C: Connector>(mut conn: Box<Connection<C>>) {
    let Some(shared) = pool_of(conn.server()) else {
        end_other_use(&mut conn);
        return close(conn, CloseReason::PoolClosed);
    };
    let has_verdict = end_use(&shared, &mut conn);
    let counted = shared.attempts.begin(Runs::Recycle);
    let task = Recycle { conn, counted, has_verdict, shared: Arc::clone(&shared) };
    // A runtime that was shut down drops the task at once, and so does a pool without one.
    shared.runtime.spawn(|_| run_recycle(task));
}

/// A task that runs. Fields drop in this order, so that a waiter that finds no attempt running has been served.
struct Recycle<C: Connector> {
    conn: Box<Connection<C>>,
    counted: Counted,
    has_verdict: bool,
    shared: Arc<Shared<C>>,
}

async fn run_recycle<C: Connector>(task: Recycle<C>) {
    // Locals drop in the opposite order.
    let Recycle { shared, has_verdict, mut counted, mut conn } = task;
    let generation = Arc::clone(conn.generation());
    let hook = shared.connector.recycle(&mut conn.conn);
    let failure = match run_hook(&shared, &generation, &mut counted, hook).await {
        HookEnd::Passed => {
            if !has_verdict {
                conn.server().count(Total::Successes, 1);
                count_success(&shared, &mut conn);
            }
            conn.info_mut().rest_from(shared.clock.time());
            return keep_or_close(conn);
        }
        HookEnd::Ended(why) => return close(conn, why),
        HookEnd::Failed(error) => Failure::Recycle(error),
        HookEnd::TimedOut => Failure::RecycleTimeout { after: shared.settings.connect_timeout },
    };
    if !has_verdict {
        transition::reported(&shared, &generation, conn.outage(), failure, None);
    }
    close(conn, CloseReason::RecycleFailed);
}
