//! The hot paths: an acquire that finds an idle connection of the server in turn, and a release to the idle queue.
//!
//! Neither takes a lock or counts a reference if it does all there is to do. Otherwise `acquire` and `release` go on.

use crate::connector::{AfterUse, Connector, Ended};
use crate::core::acquire::{take, take_elsewhere};
use crate::core::background;
use crate::core::idle_conns::move_or_close;
use crate::core::release::{after_release, recycle, release_and_close, release_slowly};
use crate::core::report;
use crate::core::shared::Shared;
use crate::error::TryAcquireError;
use crate::raw::Outage;
use crate::server::{Connection, Generation};
use crate::servers::{List, with_kept_list};
use crate::sync::Arc;

/// See [`Pool::try_acquire`](crate::Pool::try_acquire).
#[inline]
pub(crate) fn try_acquire<C: Connector>(shared: &Arc<Shared<C>>) -> Result<Box<Connection<C>>, TryAcquireError> {
    take_idle::<C, false>(shared).ok_or_else(|| report::refusal(shared))
}

/// Takes an idle connection of the next server in turn, from this thread's shard. It looks everywhere if
///
/// - there is a detour: waiters, a probe that waits for a caller, or servers that are not chosen in turn,
/// - this thread does not keep the current list,
/// - no server is up, or the one in turn has no connection there that may be reused, or no token.
#[inline]
pub(crate) fn take_idle<C: Connector, const IS_ASYNC: bool>(shared: &Arc<Shared<C>>) -> Option<Box<Connection<C>>> {
    let signals = &shared.signals;
    if IS_ASYNC && !signals.is_running() {
        background::ensure(shared);
    }
    // One branch for all detours. With a return from within it in place of the closure: 4 instructions more.
    let is_ordinary = !signals.has_detour();
    let take_next = || {
        let taken = shared.servers.with_current_list(signals.list_version(), |list, thread| {
            let entry = list.entry(shared.rotation.next_turn(thread, &list.up, &list.turns)?)?;
            take(shared, entry, || shared.checkout_time(), || entry.generation.idle.pop_own(thread)).ok()
        });
        taken.flatten()
    };
    match is_ordinary.then(take_next).flatten() {
        Some(conn) => Some(conn),
        None => take_elsewhere(shared, IS_ASYNC),
    }
}

/// Takes a connection back as the connector says. Not inlined itself, so that its parts are inlined into it.
#[inline(never)]
pub(crate) fn release<C: Connector>(mut conn: Box<Connection<C>>) {
    match conn.after_use(Ended::Released) {
        AfterUse::Reuse => match put_back(conn) {
            PutBack::Done => {}
            PutBack::Idle { generation, thread, outage } => after_release(&generation, thread, outage),
            PutBack::NeedsSlowPath(conn) => release_slowly(conn),
        },
        AfterUse::Recycle => recycle(conn),
        AfterUse::Close => release_and_close(conn),
    }
}

/// What is left to do of a release.
enum PutBack<C: Connector> {
    /// Nothing is left to do.
    Done,
    /// The connection is idle, and there are waiters or strikes, or the health of its server changed meanwhile.
    Idle { generation: Arc<Generation<C>>, thread: usize, outage: Outage },
    /// Everything is left to do: this thread keeps no list with its generation, or its return must be noted.
    NeedsSlowPath(Box<Connection<C>>),
}

/// Puts a used connection into this thread's shard of its idle queue, if its return repeats one that was noted.
///
/// It needs no reference to the generation: the list that this thread keeps holds one, even if another thread takes the
/// connection and drops it during the push.
#[inline(always)]
fn put_back<C: Connector>(mut conn: Box<Connection<C>>) -> PutBack<C> {
    conn.record.end_load();
    let generation = conn.generation();
    let (list_place, number) = (generation.list_place, generation.number());
    let mut conn = Some(conn);
    // The rest is done outside the borrow of the kept list, since user code may borrow it, too. Only `move_or_close`
    // runs inside, if the queue is closed or full. This thread can keep no other list meanwhile, which does no harm.
    let rest = with_kept_list(list_place, |list: &List<C>, thread| {
        let generation = &list.entry(number)?.generation;
        // If no tick is stored, it is `NEVER`: no connection has that as its idle time.
        let (server, tick) = (&generation.server, list.signals.tick_or_never());
        let health = server.health.snapshot();
        let repeats = |conn: &mut Box<Connection<C>>| {
            Arc::ptr_eq(generation, conn.generation()) && conn.record.repeats_noted_return(tick, health)
        };
        let mut conn = conn.take_if(repeats)?;
        conn.info_mut().check_in(tick);
        generation.idle.push(conn, thread, move_or_close);
        // After the push: these loads pair with the fences of `WaitQueue::join` and of `ServerSet::refresh`. If the
        // word has changed, the server may have gone down, recovered, and closed its idle connections before the push.
        let is_same = server.health.snapshot_after_push() == health;
        // One branch for all.
        let is_done = is_same & server.strikes.is_clear() & (list.signals.waiters() == 0);
        (!is_done).then(|| (Arc::clone(generation), thread, health.outage()))
    });
    match (rest, conn) {
        (Some((generation, thread, outage)), _) => PutBack::Idle { generation, thread, outage },
        (None, Some(conn)) => PutBack::NeedsSlowPath(conn),
        (None, None) => PutBack::Done,
    }
}
