//! How a use ends: connections return to the pool or close, with the caller's verdict on the server.

use std::fmt;
use std::time::Duration;

use crate::connector::Connector;
use crate::core::hand_over::{after_push, keep, move_or_close};
use crate::core::shared::{Shared, TICK, pool_of};
use crate::core::{sweep, transition};
use crate::error::Failure;
use crate::raw::{Outage, Time};
use crate::server::{Connection, Generation};
use crate::servers::{List, with_any};
use crate::sync::Arc;

/// Takes a connection back for reuse.
///
/// The hot path: the list that this thread keeps also keeps the generation alive while the connection goes into its
/// idle queue, from where another thread may take and drop it. `release_slowly` handles a generation that no kept list
/// has, a pool without a tick, an expired connection, and the first good return under an outage number. `after_push`
/// acts on waiters and health.
#[inline]
pub(crate) fn release<C: Connector>(conn: Box<Connection<C>>) {
    let generation = conn.generation();
    let (cache_index, number) = (generation.cache_index, generation.number);
    let mut conn = Some(conn);
    let wanted = with_any(cache_index, |list: &List<C>, near| {
        let generation = &list.entry(number)?.generation;
        let (server, tick) = (&generation.server, list.signals.tick()?);
        let outage = server.health.snapshot().outage();
        let is_ordinary = |conn: &mut Box<Connection<C>>| {
            Arc::ptr_eq(generation, conn.generation()) && tick < conn.expires_at && conn.ordinary == outage
        };
        let mut conn = conn.take_if(is_ordinary)?;
        conn.info.check_in(tick);
        server.answered.note(tick);
        generation.idle.push(conn, near, move_or_close);
        // After the push: pairs with the fences of `WaitQueue::join` and of `UpSet::refresh`.
        // One branch for all three.
        let is_plain = server.health.snapshot_after_push().is_plainly_up() & server.strikes.is_clear();
        let is_quiet = is_plain & (list.signals.waiters() == 0);
        (!is_quiet).then(|| (Arc::clone(generation), near, outage))
    });
    if let Some((generation, near, outage)) = wanted {
        after_release(&generation, near, outage);
    }
    if let Some(conn) = conn {
        release_slowly(conn);
    }
}

/// Acts on a return to an idle queue, where there are waiters or the server is not plainly up.
#[cold]
fn after_release<C: Connector>(generation: &Arc<Generation<C>>, near: usize, outage: Outage) {
    if let Some(shared) = pool_of::<C>(&generation.pool) {
        transition::succeeded(&shared, generation, outage);
    }
    after_push(generation, near);
}

/// Takes a connection back for reuse, holding a reference to the generation and the pool.
#[cold]
fn release_slowly<C: Connector>(mut conn: Box<Connection<C>>) {
    let generation = Arc::clone(conn.generation());
    // A dropped pool has closed all generations.
    let Some(shared) = pool_of::<C>(&generation.pool) else { return };
    if !std::mem::take(&mut conn.has_verdict) {
        count_success(&shared, &mut conn);
    }
    conn.ordinary = conn.permit.answered();
    let now = shared.clock.time();
    if generation.server.permits.counts().is_over() || now >= conn.expires_at {
        return drop(conn);
    }
    conn.info.check_in(shared.notifier.signals.tick().unwrap_or(now));
    keep(conn);
    // This thread's next release need not come here.
    if shared.servers.with_kept_list(|_, _| ()).is_none() {
        shared.servers.keep_list();
    }
}

/// Counts a good return of a connection: it takes the server's outage number anew.
fn count_success<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>) {
    let generation = Arc::clone(conn.generation());
    let (server, outage) = (&generation.server, generation.server.health.snapshot().outage());
    server.answered.note(shared.notifier.signals.tick().unwrap_or_else(|| shared.clock.time()));
    if conn.permit.answered() != outage {
        conn.outage = outage;
        conn.permit.count_answer(outage);
        server.breaker.answered();
    }
    transition::succeeded(shared, &generation, outage);
}

/// The caller says that the server answers well, once for each checkout.
pub(crate) fn report_success<C: Connector>(conn: &mut Connection<C>) {
    if let Some(shared) = first_verdict(conn) {
        count_success(&shared, conn);
    }
}

/// The caller says that the server failed, once for each checkout.
pub(crate) fn report_failure<C: Connector>(conn: &mut Connection<C>, reason: String, eject_for: Option<Duration>) {
    if let Some(shared) = first_verdict(conn) {
        conn.permit.count_answer(Outage::NONE);
        let failure = Failure::Reported(reason.into());
        transition::reported(&shared, conn.generation(), conn.outage, failure, eject_for);
    }
}

/// The connection turned out dead. Closes it, and those of its server that have been idle for at least as long. A new
/// one that went straight to its caller tells nothing about those.
pub(crate) fn broken<C: Connector>(conn: Box<Connection<C>>, reason: &dyn fmt::Display) {
    let (generation, idle_since) = (Arc::clone(conn.generation()), conn.info.idle_since());
    let has_rested = conn.info.uses() > 0 || conn.info.idle() >= TICK;
    tracing::debug!(server = %generation.server.config().name(), cause = %reason, "connection is broken");
    drop(conn);
    if has_rested {
        sweep::close_idle_since(&generation, idle_since);
    }
}

/// The caller dropped the connection. After a long use it counts as a failure of the server, unless the server has
/// answered anything since the checkout.
pub(crate) fn dropped<C: Connector>(conn: &Connection<C>) {
    if conn.has_verdict || std::thread::panicking() {
        return;
    }
    let Some(shared) = pool_of::<C>(&conn.generation().pool) else { return };
    let Some(abandoned_after) = shared.settings.abandoned_after else { return };
    let (checked_out, tick) = (conn.info.checked_out_at(), shared.notifier.signals.tick());
    let used = tick.unwrap_or_else(|| shared.clock.time()).since(checked_out);
    // The tick of a return is up to a step older than the time of a checkout before it.
    let since = tick.map_or(checked_out, |_| checked_out.counted_from(Time::ZERO.after(TICK)));
    if used >= abandoned_after && !conn.generation().server.answered.is_since(since) {
        transition::reported(&shared, conn.generation(), conn.outage, Failure::Unanswered { after: used }, None);
    }
}

/// The pool, for the first verdict of a checkout.
fn first_verdict<C: Connector>(conn: &mut Connection<C>) -> Option<Arc<Shared<C>>> {
    if std::mem::replace(&mut conn.has_verdict, true) {
        return None;
    }
    // The release takes the slow path, so as not to count again.
    conn.ordinary = Outage::NONE;
    pool_of::<C>(&conn.generation().pool)
}
