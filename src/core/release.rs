//! How a use ends: connections return to the pool, close or leave it.

use std::fmt;

use crate::close_reason::CloseReason;
use crate::connector::{AfterUse, Connector, Ended};
use crate::core::closing::close;
use crate::core::hand_over::{after_push_of, give_back, move_or_close};
use crate::core::recycle::recycle;
use crate::core::shared::pool_of;
use crate::core::verdict::{end_good_use, end_other_use, report_if_abandoned};
use crate::core::{sweep, transition};
use crate::raw::Outage;
use crate::server::{Connection, Generation};
use crate::servers::{List, with_any};
use crate::sync::Arc;

/// The callers of `reuse`.
const PLAIN: u8 = 0;
const COUNTED: u8 = 1;

/// Takes a connection back as the connector says. Out of line: compilers inline its parts there, not in its callers.
#[inline(never)]
pub(crate) fn release<C: Connector>(mut conn: Box<Connection<C>>) {
    match conn.after_use(Ended::Released) {
        AfterUse::Reuse => reuse::<C, PLAIN>(conn),
        AfterUse::Recycle => recycle(conn),
        AfterUse::Close => {
            end_good_use(&mut conn);
            close(conn, CloseReason::Unfit);
        }
    }
}

/// Takes a connection back for reuse.
///
/// The hot path: the list that this thread keeps also keeps the generation alive while the connection goes into its
/// idle queue, from where another thread may take and drop it. `reuse_slowly` handles a generation that no kept list
/// has, a pool without a tick, the first return in a tick, and the first good return under an outage number.
/// `after_release` acts on waiters, health and strikes. `CALLER` gives each caller closures of its own type, as in
/// `acquire`.
#[inline(always)]
fn reuse<C: Connector, const CALLER: u8>(conn: Box<Connection<C>>) {
    let generation = conn.generation();
    let (cache_index, number) = (generation.cache_index, generation.number);
    let mut conn = Some(conn);
    // What is left to do is done outside the kept list, which user code may want.
    let follow_up = with_any(cache_index, |list: &List<C>, thread| {
        let generation = &list.entry(number)?.generation;
        // Without one the tick is later than any time, and no connection is quiet then.
        let (server, tick) = (&generation.server, list.signals.tick_or_never());
        let outage = server.health.snapshot().outage();
        // `answered`, not its outage number: after a failure that was reported it has not come back well.
        let is_ordinary = |conn: &mut Box<Connection<C>>| {
            Arc::ptr_eq(generation, conn.generation()) && conn.quiet_in == tick && conn.record.proven_under() == outage
        };
        let mut conn = conn.take_if(is_ordinary)?;
        conn.info_mut().check_in(tick);
        generation.idle.push(conn, thread, move_or_close);
        // After the push: pairs with the fences of `WaitQueue::join` and of `UpSet::refresh`.
        // One branch for all three.
        let is_plain = server.health.snapshot_after_push().is_plainly_up() & server.strikes.is_clear();
        let is_quiet = is_plain & (list.signals.waiters() == 0);
        (!is_quiet).then(|| (Arc::clone(generation), thread, outage))
    });
    if let Some((generation, thread, outage)) = follow_up {
        after_release(&generation, thread, outage);
    }
    if let Some(conn) = conn {
        reuse_slowly(conn);
    }
}

/// Acts on a return to an idle queue, where there are waiters or strikes, or the server is not plainly up.
#[cold]
fn after_release<C: Connector>(generation: &Arc<Generation<C>>, thread: usize, outage: Outage) {
    if let Some(shared) = pool_of(&generation.server) {
        transition::succeeded(&shared, generation, outage);
        after_push_of(&shared, generation, thread, outage);
    }
}

/// Takes a connection back for reuse, holding a reference to the generation and the pool.
#[cold]
fn reuse_slowly<C: Connector>(mut conn: Box<Connection<C>>) {
    if conn.end_counted_use() {
        return reuse::<C, COUNTED>(conn);
    }
    // A dropped pool has closed all generations.
    let Some(shared) = end_good_use(&mut conn) else { return close(conn, CloseReason::PoolClosed) };
    let now = conn.info().idle_since();
    conn.quiet_in = now;
    give_back(conn, now);
    // This thread's next release need not come here.
    if shared.servers.with_kept_list(|_, _| ()).is_none() {
        shared.servers.keep_list();
    }
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
        sweep::close_idle_since(&current, idle_since, CloseReason::Broken);
    }
}

/// The caller dropped the connection, which goes on as the connector says. One that closes after a long use counts as a
/// failure of the server, unless the server has answered anything since the checkout.
pub(crate) fn dropped<C: Connector>(mut conn: Box<Connection<C>>) {
    if !std::thread::panicking() {
        match conn.after_use(Ended::Dropped) {
            AfterUse::Reuse => return reuse_slowly(conn),
            AfterUse::Recycle => return recycle(conn),
            AfterUse::Close => report_if_abandoned(&conn),
        }
    }
    end_other_use(&mut conn);
    close(conn, CloseReason::Dropped);
}
