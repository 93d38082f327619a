//! Returns connections to the pool.

use crate::connector::Connector;
use crate::core::hand_over::{after_push, keep, move_or_close};
use crate::core::shared::pool_of;
use crate::core::transition;
use crate::error::Failure;
use crate::raw::Outage;
use crate::server::{Connection, Generation};
use crate::servers::{List, with_any};
use crate::sync::Arc;

/// Takes a connection back for reuse.
///
/// The hot path: the list that this thread keeps also keeps the generation alive while the connection goes into its
/// idle queue, from where another thread may take and drop it. `release_slowly` handles a generation that no kept list
/// has, a pool without a tick, and an expired connection. `after_release` acts on waiters and health.
#[inline]
pub(crate) fn release<C: Connector>(conn: Box<Connection<C>>) {
    let generation = conn.generation();
    let (cache_index, number) = (generation.cache_index, generation.number);
    let mut conn = Some(conn);
    let wanted = with_any(cache_index, |list: &List<C>, near| {
        let generation = &list.entry(number)?.generation;
        let tick = list.signals.tick()?;
        let is_ordinary =
            |conn: &mut Box<Connection<C>>| Arc::ptr_eq(generation, conn.generation()) && tick < conn.expires_at;
        let mut conn = conn.take_if(is_ordinary)?;
        let outage = conn.outage;
        conn.info.check_in(tick);
        generation.idle.push(conn, near, move_or_close);
        // After the push: pairs with the fences of `WaitQueue::join` and of `UpSet::refresh`.
        let is_wanted = list.signals.waiters() > 0 || !generation.server.health.snapshot_after_push().is_unblemished();
        is_wanted.then(|| (Arc::clone(generation), near, outage))
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
    if !generation.server.health.snapshot().is_unblemished() {
        if let Some(shared) = pool_of::<C>(&generation.pool) {
            transition::released(&shared, generation, outage);
        }
    }
    after_push(generation, near);
}

/// Takes a connection back for reuse, holding a reference to the generation and the pool.
#[cold]
fn release_slowly<C: Connector>(mut conn: Box<Connection<C>>) {
    let generation = Arc::clone(conn.generation());
    // A dropped pool has closed all generations.
    let Some(shared) = pool_of::<C>(&generation.pool) else { return };
    transition::released(&shared, &generation, conn.outage);
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

/// Counts a failure against the server of a connection, and closes the connection.
pub(crate) fn fail<C: Connector>(conn: Box<Connection<C>>, reason: String) {
    let generation = conn.generation();
    if let Some(shared) = pool_of::<C>(&generation.pool) {
        transition::reported(&shared, generation, conn.outage, Failure::Reported(reason.into()));
    }
    drop(conn);
}
