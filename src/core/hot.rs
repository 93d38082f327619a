//! The hot paths: an acquire that finds an idle connection of the server in turn, and a release to the idle queue.
//!
//! Neither takes a lock or counts a reference where it does all there is to do. Otherwise it gives up, or says what is
//! left, and `acquire` and `release` go on.
//!
//! Nothing reads the `CALLER` of a function: it makes one instance for each caller, so that each is inlined. A call
//! costs a tenth of the instructions.

use crate::connector::Connector;
use crate::core::idle_conns::{make_idle, move_or_close};
use crate::core::shared::Shared;
use crate::core::transition::close_unusable;
use crate::raw::{Outage, Time};
use crate::server::{Connection, Generation};
use crate::servers::{List, ListEntry, with_any_kept};
use crate::sync::Arc;

/// Callers of `take_next`, and of `take_own`.
pub(crate) const SYNC: u8 = 0;
pub(crate) const ASYNC: u8 = 1;
pub(crate) const LEAST_IN_USE: u8 = 2;

/// Callers of `put_back`.
pub(crate) const PLAIN: u8 = 0;
pub(crate) const IN_LOAD: u8 = 1;

/// Why a server gave no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skip {
    /// No token.
    Limited,
    /// Nothing idle.
    Empty,
    /// A connection was popped and closed.
    Dead,
}

/// Takes a connection of the next server in turn from this thread's shard. None if
///
/// - there is a detour: waiters, a probe that waits for a caller, or servers that are not chosen in turn,
/// - this thread does not keep the current list,
/// - no server is up, or the one in turn has no connection there that may be reused, or no token.
#[inline(always)]
pub(crate) fn take_next<C: Connector, const CALLER: u8>(shared: &Shared<C>) -> Option<Box<Connection<C>>> {
    // One branch for all.
    if shared.signals.has_detour() {
        return None;
    }
    let taken = shared.servers.with_kept_list(shared.signals.list_version(), |list, thread| {
        let number = shared.rotation.next_turn(thread, &list.up, &list.turns)?;
        take_own::<C, CALLER>(shared, list, number, thread)
    });
    taken.flatten()
}

/// Takes a connection of a server from this thread's shard.
#[inline(always)]
pub(crate) fn take_own<C: Connector, const CALLER: u8>(
    shared: &Shared<C>,
    list: &List<C>,
    number: usize,
    thread: usize,
) -> Option<Box<Connection<C>>> {
    let entry = list.entry(number)?;
    let tick = || shared.signals.tick().filter(|_| !shared.settings.exact_times);
    let now = || tick().unwrap_or_else(|| read_clock(shared));
    take(shared, entry, now, || entry.generation.idle.pop_own(thread)).ok()
}

/// Reads the time where no tick is stored. Out of line of the hot path.
#[cold]
fn read_clock<C: Connector>(shared: &Shared<C>) -> Time {
    shared.clock.time()
}

/// Takes a connection of one server: looks for a token, pops, checks, takes the token last. `now` is the time for the
/// check where there is no rate limit.
#[inline(always)]
pub(crate) fn take<C: Connector>(
    shared: &Shared<C>,
    entry: &ListEntry<C>,
    now: impl Fn() -> Time,
    pop: impl Fn() -> Option<Box<Connection<C>>>,
) -> Result<Box<Connection<C>>, Skip> {
    let Some(bucket) = &entry.bucket else { return pop_reusable(shared, now(), pop) };
    // The clock, not the tick: a take at too early a time would leave too many tokens for the next window.
    let now = shared.clock.time();
    let seen = bucket.look(now).ok_or(Skip::Limited)?;
    let conn = pop_reusable(shared, now, pop)?;
    if bucket.take_seen(seen).is_none() {
        // Another caller took the last token.
        make_idle(conn);
        return Err(Skip::Limited);
    }
    Ok(conn)
}

/// Pops a connection and checks it. Closes one that may not be reused.
#[inline(always)]
fn pop_reusable<C: Connector>(
    shared: &Shared<C>,
    now: Time,
    pop: impl Fn() -> Option<Box<Connection<C>>>,
) -> Result<Box<Connection<C>>, Skip> {
    let mut conn = pop().ok_or(Skip::Empty)?;
    if conn.try_check_out(now, shared.idle_timeout) {
        return Ok(conn);
    }
    close_unusable(shared, conn, now);
    Err(Skip::Dead)
}

/// What is left to do of a release.
pub(crate) enum PutBack<C: Connector> {
    Done,
    /// The connection is idle, and there are waiters or strikes, or its server is not plainly up or was not all the
    /// time.
    Look {
        generation: Arc<Generation<C>>,
        thread: usize,
        outage: Outage,
    },
    /// It was not put back: this thread keeps no list with its generation, or its return is not an ordinary one.
    Slow(Box<Connection<C>>),
}

/// Puts a used connection into this thread's shard of its idle queue, if that is all there is to do: it was returned in
/// this tick before, and came back well under the server's present outage number. So its return tells nothing new.
///
/// The list that this thread keeps also keeps the generation alive while the connection goes into the queue, from where
/// another thread may take and drop it.
#[inline(always)]
pub(crate) fn put_back<C: Connector, const CALLER: u8>(conn: Box<Connection<C>>) -> PutBack<C> {
    let generation = conn.generation();
    let (cache_index, number) = (generation.cache_index, generation.number);
    let mut conn = Some(conn);
    // `Look` and `Slow` are handled outside the borrow of the kept list, which user code may want. A queue that is
    // closed or full refuses inside: nothing can be kept meanwhile.
    let look = with_any_kept(cache_index, |list: &List<C>, thread| {
        let generation = &list.entry(number)?.generation;
        // Without a stored tick it is `NEVER`, in which no connection was returned.
        let (server, tick) = (&generation.server, list.signals.tick_or_never());
        let health = server.health.snapshot();
        let is_ordinary = |conn: &mut Box<Connection<C>>| {
            Arc::ptr_eq(generation, conn.generation()) && conn.record.is_noted(tick, health)
        };
        let mut conn = conn.take_if(is_ordinary)?;
        conn.info_mut().check_in(tick);
        generation.idle.push(conn, thread, move_or_close);
        // After the push: pairs with the fences of `WaitQueue::join` and of `ServerSet::refresh`. The word must be the
        // same: the server may have gone down and recovered since, and closed its idle connections before the push.
        // One branch for all.
        let is_same = server.health.snapshot_after_push() == health;
        let is_done = is_same & server.strikes.is_clear() & (list.signals.waiters() == 0);
        (!is_done).then(|| (Arc::clone(generation), thread, health.outage()))
    });
    match (look, conn) {
        (Some((generation, thread, outage)), _) => PutBack::Look { generation, thread, outage },
        (None, Some(conn)) => PutBack::Slow(conn),
        (None, None) => PutBack::Done,
    }
}
