//! The way of a connection back into the pool.

use crate::connector::Connector;
use crate::core::hand_over::{keep, pushed, refused};
use crate::core::shared::pool_of;
use crate::core::transition;
use crate::error::Failure;
use crate::server::Connection;
use crate::servers::{List, with_any};
use crate::sync::Arc;

/// Takes a connection back for reuse.
///
/// The hot path: the list that this thread keeps holds on to the generation while the connection goes into its idle
/// queue, from where another thread may take it and drop it. Everything out of the ordinary is left to
/// `release_slowly`.
#[inline]
pub(crate) fn release<C: Connector>(conn: Box<Connection<C>>) {
    let generation = conn.generation();
    let (slot, number) = (generation.cache_slot, generation.number);
    let mut conn = Some(conn);
    let attention = with_any(slot, |list: &List<C>, near| {
        let generation = &list.seat(number)?.generation;
        let tick = list.signals.tick()?;
        let mut conn = conn.take_if(|conn| {
            Arc::ptr_eq(generation, conn.generation())
                && generation.server.health.snapshot().is_unblemished()
                && !generation.server.permits.counts().is_over()
                && tick < conn.expires_at
        })?;
        conn.info.check_in(tick);
        generation.idle.push(conn, near, refused);
        // Behind the push, which pairs with `WaitQueue::join`; and a server may have gone down meanwhile.
        let wanted = list.signals.waiters() > 0 || !generation.server.is_up();
        wanted.then(|| (Arc::clone(generation), near))
    });
    if let Some((generation, near)) = attention {
        pushed(&generation, near);
    }
    if let Some(conn) = conn {
        release_slowly(conn);
    }
}

/// Takes a connection back whatever the state of its server, with references of its own.
#[cold]
fn release_slowly<C: Connector>(mut conn: Box<Connection<C>>) {
    let generation = Arc::clone(conn.generation());
    // A pool that is gone has closed all generations.
    let Some(shared) = pool_of::<C>(&generation.pool) else { return };
    if !generation.server.health.snapshot().is_unblemished() {
        transition::released(&shared, &generation, conn.outage);
    }
    let now_ns = shared.clock.now_ns();
    if generation.server.permits.counts().is_over() || now_ns >= conn.expires_at {
        return drop(conn);
    }
    conn.info.check_in(shared.notifier.signals.tick().unwrap_or(now_ns));
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
