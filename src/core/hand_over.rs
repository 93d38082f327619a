//! Delivers connections. A new one goes to the front waiter, otherwise to its server's idle queue. A returned one
//! always goes to the idle queue, and waiters are served from there.

use std::cell::Cell;

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::candidates::{KeptTokens, may_order};
use crate::core::closing::{close, why_over};
use crate::core::grant::{Grant, Token};
use crate::core::shared::{Shared, pool_of};
use crate::core::spill::{self, avoids, refuses_idle};
use crate::core::wish::WaiterWish;
use crate::raw::Outage;
use crate::server::{Connection, Generation};
use crate::servers::{List, Usable, thread_number};
use crate::sync::Arc;

/// Delivers a new connection: to the front waiter, if there is a token, otherwise to the idle queue. Closes one whose
/// attempt began before an outage that is over.
pub(crate) fn offer<C: Connector>(shared: &Shared<C>, conn: Box<Connection<C>>) {
    if let Some(why) = why_outdated(&conn) {
        return close(conn, why);
    }
    let mut conn = Some(conn);
    let list = shared.servers.list();
    if shared.signals.waiters_after_change() > 0
        && conn.as_ref().is_some_and(|conn| may_serve_waiters(shared, &list, conn))
    {
        shared.queue.serve(|waiter| {
            let server = &conn.as_ref()?.generation().server;
            if avoids(shared, &list, waiter.map(|waiter| &waiter.wish), server) {
                return None;
            }
            let token = Token::take(server.bucket().map(|bucket| (bucket, shared.clock.time())))?;
            conn.take().map(|conn| Grant { conn, token, fresh: true })
        });
    }
    drop(list);
    if let Some(conn) = conn {
        make_idle(conn);
    }
}

/// Passes the connection of a waiter that left to the next one.
pub(crate) fn pass_on<C: Connector>(grant: Grant<C>) {
    grant.token.undo();
    make_idle(grant.conn);
}

/// Gives a used connection back for reuse. Closes it if the server has more than its maximum, or its lifetime is over.
pub(crate) fn give_back<C: Connector>(conn: Box<Connection<C>>) {
    if conn.server().is_over_maximum() {
        return close(conn, CloseReason::OverMaximum);
    }
    if conn.info().idle_since() >= conn.expires_at {
        return close(conn, CloseReason::MaxLifetime);
    }
    make_idle(conn);
}

/// Puts a connection into the idle queue of its server, and serves waiters from there. Closes one that has not come
/// back well since its server went down, if the server serves again: at the recovery the idle ones were closed.
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
        after_push_of(&shared, &generation, thread, outage);
    }
}

/// Why a connection may not stay, if it is of an epoch that is over, or from before an outage that is over.
pub(crate) fn why_outdated<C: Connector>(conn: &Connection<C>) -> Option<CloseReason> {
    let (generation, health) = (conn.generation(), conn.server().health.snapshot());
    if generation.is_over() {
        return Some(why_over(generation));
    }
    (!health.is_down() && conn.outage() != health.outage()).then_some(CloseReason::Outage)
}

/// Moves a connection that may not stay in its idle queue to the generation that took over. Closes it if there is none,
/// if the queue is full, or if the maximum was lowered.
#[cold]
pub(crate) fn move_or_close<C: Connector>(mut conn: Box<Connection<C>>) {
    let generation = conn.generation();
    if generation.is_over() {
        let why = why_over(generation);
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

/// Acts on a push into an idle queue of a connection that last came back well under `outage`.
#[cold]
pub(crate) fn after_push_of<C: Connector>(
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
    after_push(shared, generation, thread);
}

/// Closes the idle connections that have not come back well since `outage` began.
pub(crate) fn close_of_older_outages<C: Connector>(generation: &Arc<Generation<C>>, outage: Outage) {
    close_unfit(generation, |conn| (conn.outage() != outage).then_some(CloseReason::Outage));
}

/// Closes the idle connections for which `unfit` gives a reason.
pub(crate) fn close_unfit<C: Connector>(
    generation: &Arc<Generation<C>>,
    unfit: impl FnMut(&mut Connection<C>) -> Option<CloseReason>,
) {
    take_out(generation, unfit).into_iter().for_each(|(conn, why)| close(conn, why));
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
        after_push_of(&shared, generation, thread_number(), older.get());
    }
    taken
}

/// Acts on a push into an idle queue, where there are waiters or the server is down.
#[cold]
pub(crate) fn after_push<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, thread: usize) {
    if generation.server.health.snapshot_after_push().is_down() {
        // A due attempt may close this connection to make room.
        shared.notifier.wake();
    }
    if shared.signals.waiters() > 0 {
        serve_from(shared, generation, thread);
    }
}

/// Serves waiters from one server.
fn serve_from<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, thread: usize) {
    let (mut rejected, mut is_order_due) = (Vec::new(), false);
    let (bucket, usable);
    {
        let list = shared.servers.list();
        let number = generation.number;
        let Some((_, found)) = list.usable(number) else { return };
        usable = found;
        if usable != Usable::All && !spill::is_reached(shared, &list, &generation.server, shared.clock.time()) {
            return;
        }
        let kept = KeptTokens::of_orders(shared, &list);
        shared.queue.serve(|waiter| {
            // One that may order comes before those behind it.
            is_order_due = is_order_due || waiter.is_some_and(|waiter| may_order(shared, &list, number, waiter, &kept));
            if is_order_due || refuses_idle(shared, &list, waiter.map(|waiter| &waiter.wish), &generation.server) {
                return None;
            }
            take(shared, &list, generation, usable, thread, kept.of(number), &mut rejected)
        });
        bucket = list.bucket_of(generation);
    }
    rejected.into_iter().for_each(move_or_close);
    if let Usable::Proven(_) = usable {
        after_look_for_proven(shared, generation);
    }
    if shared.signals.waiters() > 0 {
        if let Some(bucket) = bucket {
            shared.notifier.wake_before(bucket.available_at());
        }
        if is_order_due {
            shared.notifier.wake();
        }
    }
}

/// Serves waiters from all servers, and returns how many. With `to_first_order` no further than to the first that may
/// order, since that one comes before those behind it: true if there is one.
pub(crate) fn serve_waiters<C: Connector>(shared: &Shared<C>, to_first_order: bool) -> (usize, bool) {
    let mut stopped = false;
    if shared.signals.waiters() == 0 {
        return (0, stopped);
    }
    let (mut rejected, mut looked) = (Vec::new(), Vec::new());
    let served = {
        let list = shared.servers.list();
        // Mostly nothing is idle. Found out without the lock of the queue, which releases need.
        if !is_any_idle(shared, &list) {
            return (0, stopped);
        }
        let (thread, now) = (thread_number(), shared.clock.time());
        let kept = KeptTokens::of_orders(shared, &list);
        let mut take_from = |waiter: Option<&Arc<WaiterWish>>, number, may_spill: bool| {
            let (entry, usable) = list.usable(number)?;
            let is_out = match usable {
                Usable::All => false,
                Usable::Standby => !may_spill,
                Usable::Proven(_) => !spill::is_reached(shared, &list, entry.server(), now),
            };
            if is_out || refuses_idle(shared, &list, waiter.map(|waiter| &waiter.wish), entry.server()) {
                return None;
            }
            if matches!(usable, Usable::Proven(_)) && !entry.generation.idle.is_empty() {
                looked.push(Arc::clone(&entry.generation));
            }
            take(shared, &list, &entry.generation, usable, thread, kept.of(number), &mut rejected)
        };
        shared.queue.serve(|waiter| {
            let wants_new = waiter.filter(|waiter| waiter.wish.fresh);
            stopped = stopped || to_first_order && wants_new.is_some_and(|waiter| waiter.has_no_order());
            if stopped || wants_new.is_some() {
                return None;
            }
            let served = shared.open_rotation.pass(thread, &list.open, |number| take_from(waiter, number, false));
            served.or_else(|| spill::pass(shared, &list, thread, now, |number| take_from(waiter, number, true)))
        })
    };
    // Not under the lock: they may drop user values.
    rejected.into_iter().for_each(move_or_close);
    looked.iter().for_each(|generation| after_look_for_proven(shared, generation));
    (served, stopped)
}

/// Whether any server has an idle connection. Takes those without an open connection out of the bitmap of the others.
fn is_any_idle<C: Connector>(shared: &Shared<C>, list: &List<C>) -> bool {
    list.open.iter_from(0).any(|number| {
        let Some(entry) = list.entry(number) else { return false };
        let is_idle = !entry.generation.idle.is_empty();
        if !is_idle && !entry.is_open() {
            shared.servers.refresh(number);
        }
        is_idle
    })
}

/// Takes a connection and a token, beyond the `kept` ones, of one server. The waiter checks the connection.
///
/// Runs under the lock of the wait queue, so it pushes a connection that may not stay to `rejected`.
fn take<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    generation: &Generation<C>,
    usable: Usable,
    thread: usize,
    kept: u64,
    rejected: &mut Vec<Box<Connection<C>>>,
) -> Option<Grant<C>> {
    if generation.idle.is_empty() {
        return None;
    }
    // Wakers run while waiters are served, and may change the limit.
    let limit = list.bucket_of(generation).map(|bucket| (bucket, shared.clock.time()));
    if limit.as_ref().is_some_and(|(bucket, now)| !bucket.has_more_than(kept, *now)) {
        return None;
    }
    let conn = match usable {
        Usable::All | Usable::Standby => generation.idle.pop(thread)?,
        Usable::Proven(outage) => pop_proven(generation, thread, outage, |refused| rejected.push(refused))?,
    };
    match Token::take(limit) {
        Some(token) => Some(Grant { conn, token, fresh: false }),
        None => {
            generation.idle.push(conn, thread, |refused| rejected.push(refused));
            None
        }
    }
}

/// Takes an idle connection that is proven under an outage. Puts those back that it met, so `after_look_for_proven`
/// follows, without a lock.
pub(crate) fn pop_proven<C: Connector>(
    generation: &Generation<C>,
    thread: usize,
    outage: Outage,
    refuse: impl FnMut(Box<Connection<C>>),
) -> Option<Box<Connection<C>>> {
    generation.idle.pop_if(thread, |conn| conn.record.proven_under() == outage, refuse)
}

/// Acts on connections that a look for proven ones has put back. While they were out, the server may have recovered and
/// closed its idle connections, or callers may use all of them since no server is up, and found none.
pub(crate) fn after_look_for_proven<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>) {
    let health = generation.server.health.snapshot_after_push();
    if !health.is_down() {
        close_of_older_outages(generation, health.outage());
    } else if shared.signals.waiters_after_change() > 0 && shared.servers.list().up.is_empty() {
        // After a fence, which pairs with that of `ServerSet::refresh`.
        shared.notifier.wake();
    }
}

/// Whether a connection may serve a waiter: its server was not removed, is up unless none is, and is not standby unless
/// its tier comes into use.
fn may_serve_waiters<C: Connector>(shared: &Shared<C>, list: &List<C>, conn: &Connection<C>) -> bool {
    let generation = conn.generation();
    !generation.is_over()
        && match list.usable(generation.number) {
            Some((_, Usable::All)) => true,
            Some((_, Usable::Standby)) => spill::is_reached(shared, list, &generation.server, shared.clock.time()),
            _ => false,
        }
}
