//! An acquire that need not wait: the hot path, then a choice by connections in use, then a scan of all servers.

use tokio::runtime::Handle;

use crate::acquire_options::{AcquireOptions, Wish};
use crate::connector::Connector;
use crate::core::attempt::{self, Purpose};
use crate::core::background;
use crate::core::idle_conns::{after_look_for_proven, make_idle, move_or_close, serve_and_wake};
use crate::core::shared::Shared;
use crate::core::spill;
use crate::core::transition::close_unusable;
use crate::error::AcquireError;
use crate::raw::Time;
use crate::server::Connection;
use crate::servers::{List, ListEntry, Usable, thread_number};
use crate::sync::Arc;

/// A connection, or why there is none.
pub(crate) type Acquired<C> = Result<Box<Connection<C>>, AcquireError<<C as Connector>::Error>>;

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

/// Goes on where the hot path found nothing.
#[cold]
pub(crate) fn take_elsewhere<C: Connector>(shared: &Arc<Shared<C>>, is_async: bool) -> Option<Box<Connection<C>>> {
    if shared.signals.has_detour() {
        if let Some(conn) = take_at_detour(shared) {
            return Some(conn);
        }
    } else if shared.servers.keep_current_list() {
        take_turn(shared);
    }
    take_any(shared, is_async, None)
}

/// Handles a detour. With waiters it takes nothing: they come first. With a due probe it takes a turn only, from which
/// `take_any` goes on. With `LeastInUse` it tries the less loaded of two servers.
fn take_at_detour<C: Connector>(shared: &Shared<C>) -> Option<Box<Connection<C>>> {
    let signals = &shared.signals;
    if signals.waiters() > 0 {
        return None;
    }
    if signals.is_probe_due() {
        take_turn(shared);
        return None;
    }
    let taken = shared.servers.with_current_list(signals.list_version(), |list, thread| {
        let number = less_loaded(shared, list, thread)?;
        let entry = list.entry(number)?;
        let taken = take(shared, entry, || shared.checkout_time(), || entry.generation.idle.pop_own(thread)).ok();
        if taken.is_none() {
            shared.rotation.go_on_from(thread, number);
        }
        taken
    });
    if taken.is_none() {
        shared.servers.keep_current_list();
        take_turn(shared);
    }
    let mut conn = taken.flatten()?;
    conn.record.count_in_load();
    Some(conn)
}

/// An idle connection, for an async caller with wishes.
#[cold]
pub(crate) fn take_wished<C: Connector>(
    shared: &Arc<Shared<C>>,
    options: &AcquireOptions,
) -> Option<Box<Connection<C>>> {
    background::ensure(shared);
    if options.wish.fresh {
        return None;
    }
    let preferred = options.prefer.as_deref().and_then(|name| take_of(shared, name));
    preferred.or_else(|| {
        take_turn(shared);
        take_any(shared, true, Some(&options.wish))
    })
}

/// Takes an idle connection of a server, if it serves. Waiters come first.
fn take_of<C: Connector>(shared: &Shared<C>, name: &str) -> Option<Box<Connection<C>>> {
    let generation = shared.servers.named(name)?;
    if shared.signals.waiters() > 0 || !generation.server.serves() {
        return None;
    }
    let entry = ListEntry { bucket: generation.server.bucket(), generation };
    let pop = || entry.generation.idle.pop(thread_number());
    let conn = take_reusable(shared, &entry, shared.clock.time(), pop).ok()?;
    wake_for_probe(shared);
    Some(conn)
}

/// Takes a turn: the less loaded of two servers.
fn less_loaded<C: Connector>(shared: &Shared<C>, list: &List<C>, thread: usize) -> Option<usize> {
    let in_use = |number| list.entry(number).map_or(u32::MAX, |entry| entry.server().in_use.get());
    shared.rotation.next_of_two(thread, &list.up, in_use)
}

/// Counts a use that begins, if the policy goes by it.
pub(crate) fn count_in_load<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>) {
    if !shared.signals.is_in_turn() {
        conn.record.count_in_load();
    }
}

/// Takes the turn from which `take_any` goes on.
#[cold]
fn take_turn<C: Connector>(shared: &Shared<C>) {
    let (list, thread) = (shared.servers.list(), thread_number());
    if shared.signals.is_in_turn() {
        shared.rotation.next_turn(thread, &list.up, &list.turns);
    } else if let Some(number) = less_loaded(shared, &list, thread) {
        shared.rotation.go_on_from(thread, number);
    }
}

/// The background task tries the servers that are due: here is a caller.
fn wake_for_probe<C: Connector>(shared: &Shared<C>) {
    if shared.signals.is_probe_due() {
        shared.signals.set_probe_due(false);
        shared.notifier.wake();
    }
}

/// Tries each server that is up once, from the one whose turn it was, then those of the tiers that come into use for
/// want of them, then the proven connections of servers that are down. If none is up, tries those that have open
/// connections. Waiters come first. A caller with a wish gets none of a server that it avoids. May start an attempt
/// at the first server that it found empty.
#[cold]
fn take_any<C: Connector>(shared: &Arc<Shared<C>>, is_async: bool, wish: Option<&Wish>) -> Option<Box<Connection<C>>> {
    wake_for_probe(shared);
    if shared.signals.waiters() > 0 {
        return None;
    }
    let list = shared.servers.list();
    let (thread, now) = (thread_number(), shared.clock.time());
    let take_from = |entry: &ListEntry<C>| take_reusable(shared, entry, now, || entry.generation.idle.pop(thread));
    if list.up.is_empty() {
        return shared.open_rotation.try_each(thread, &list.open, |number| {
            let entry = list.entry(number)?;
            if !entry.is_open() {
                shared.servers.refresh(number);
                return None;
            }
            take_from(entry).ok()
        });
    }
    // The first server without an idle connection that has a permit; of the standby servers rather than of the others,
    // since those come into use if the others cannot be connected to.
    let (mut empty, mut empty_standby) = (None, None);
    let try_server = |number, empty: &mut Option<_>| {
        let entry = list.entry(number)?;
        if spill::refuses_idle(shared, &list, wish, entry.server()) {
            return None;
        }
        let taken = take_from(entry);
        if matches!(taken, Err(Skip::Empty)) && entry.server().permits.counts().has_free() {
            empty.get_or_insert(&entry.generation);
        }
        taken.ok()
    };
    let served = shared.rotation.go_on(thread, &list.up, |number| try_server(number, &mut empty));
    let try_standby = |number| try_server(number, &mut empty_standby);
    let served = served.or_else(|| spill::try_each(shared, &list, thread, now, try_standby));
    let empty = empty_standby.or(empty);
    if let Some(generation) = empty.filter(|generation| generation.server.permits.counts().connecting() == 0) {
        // So that load does not stick to the servers that were connected to first. An async caller that is not served
        // waits, and then more is tried; another may be outside a runtime, where no attempt can start.
        let is_wanted = if is_async { served.is_some() } else { Handle::try_current().is_ok() };
        if is_wanted {
            background::ensure(shared);
            attempt::start(shared, generation, Purpose::Balance);
        }
    }
    served.or_else(|| take_proven(shared, &list, thread, now, wish))
}

/// Takes an idle connection of a server that is down while others serve, one that is proven in this outage.
#[cold]
fn take_proven<C: Connector>(
    shared: &Arc<Shared<C>>,
    list: &List<C>,
    thread: usize,
    now: Time,
    wish: Option<&Wish>,
) -> Option<Box<Connection<C>>> {
    shared.open_rotation.try_each(thread, &list.open, |number| {
        // Not by `usable_now`, which would look for each standby server whether its tier is in reach.
        let (entry, Usable::Proven(outage)) = list.usable(number)? else { return None };
        if spill::refuses_idle(shared, list, wish, entry.server())
            || !spill::is_reached(shared, list, entry.server(), now)
        {
            return None;
        }
        let pop = || {
            let popped = entry.generation.pop_proven(thread, outage, move_or_close);
            after_look_for_proven(shared, &entry.generation);
            // A waiter may have looked meanwhile.
            if shared.signals.waiters() > 0 {
                serve_and_wake(shared, &entry.generation, thread);
            }
            popped
        };
        take_reusable(shared, entry, now, pop).ok()
    })
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
    if conn.try_check_out(now, shared.idle_limit) {
        return Ok(conn);
    }
    close_unusable(shared, conn, now);
    Err(Skip::Dead)
}

/// Takes a connection of one server, past those that may not be reused.
fn take_reusable<C: Connector>(
    shared: &Shared<C>,
    entry: &ListEntry<C>,
    now: Time,
    pop: impl Fn() -> Option<Box<Connection<C>>>,
) -> Result<Box<Connection<C>>, Skip> {
    loop {
        match take(shared, entry, || now, &pop) {
            Err(Skip::Dead) => {}
            Ok(mut conn) => {
                count_in_load(shared, &mut conn);
                return Ok(conn);
            }
            Err(skip) => return Err(skip),
        }
    }
}
