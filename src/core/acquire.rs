//! The fast path to a connection, and the pass over all servers.

use tokio::runtime::Handle;

use crate::connector::Connector;
use crate::core::attempt;
use crate::core::attempt_counts::Purpose;
use crate::core::background;
use crate::core::hand_over::keep;
use crate::core::report;
use crate::core::settle::start_due;
use crate::core::shared::Shared;
use crate::error::{AcquireError, TryAcquireError};
use crate::raw::Time;
use crate::server::Connection;
use crate::servers::{ListEntry, thread_number};
use crate::sync::Arc;

/// A connection, or why there is none.
pub(crate) type Acquired<C> = Result<Box<Connection<C>>, AcquireError<<C as Connector>::Error>>;

/// Why a server gave no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Skip {
    /// No token.
    Limited,
    /// Nothing idle.
    Empty,
    /// A connection was popped and closed.
    Dead,
}

/// When a pass also connects to the first server that it found empty, so that load does not stick to the servers that
/// were connected to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Balance {
    /// If another server served.
    IfServed,
    /// If there is a current runtime: `try_acquire` may be called outside one, where no attempt can start.
    InRuntime,
}

/// See [`Pool::try_acquire`](crate::Pool::try_acquire).
#[inline]
pub(crate) fn try_acquire<C: Connector>(shared: &Arc<Shared<C>>) -> Result<Box<Connection<C>>, TryAcquireError> {
    match take_next(shared) {
        Some(conn) => Ok(conn),
        None => take_any(shared, Balance::InRuntime).ok_or_else(|| report::refusal(shared)),
    }
}

/// An idle connection, for an async caller.
#[inline]
pub(crate) fn take_idle<C: Connector>(shared: &Arc<Shared<C>>) -> Option<Box<Connection<C>>> {
    if !shared.notifier.signals.is_running() {
        background::ensure(shared);
    }
    match take_next(shared) {
        Some(conn) => Some(conn),
        None => take_any(shared, Balance::IfServed),
    }
}

/// The hot path: takes a connection of the next server in turn from this thread's shard. Otherwise `take_any` looks
/// everywhere.
#[inline(always)]
fn take_next<C: Connector>(shared: &Arc<Shared<C>>) -> Option<Box<Connection<C>>> {
    let signals = &shared.notifier.signals;
    if signals.waiters() > 0 {
        return None;
    }
    if signals.is_retry_due() {
        take_turn(shared);
        return None;
    }
    let taken = shared.servers.with_kept_list(|list, near| {
        let entry = list.entry(shared.rotation.next(near, &list.up)?)?;
        let tick = || signals.tick().filter(|_| !shared.settings.exact_times);
        let now = || tick().unwrap_or_else(|| read_clock(shared));
        take(shared, entry, now, || entry.generation.idle.pop_near(near)).ok()
    });
    taken.unwrap_or_else(|| keep_list(shared))
}

/// Reads the time where no tick is stored. Out of line of the hot path.
#[cold]
fn read_clock<C: Connector>(shared: &Shared<C>) -> Time {
    shared.clock.time()
}

/// Keeps the current list for this thread's next call.
#[cold]
fn keep_list<C: Connector>(shared: &Shared<C>) -> Option<Box<Connection<C>>> {
    shared.servers.keep_list();
    take_turn(shared);
    None
}

/// Takes the turn from which `take_any` goes on.
#[cold]
fn take_turn<C: Connector>(shared: &Shared<C>) {
    shared.rotation.next(thread_number(), &shared.servers.list().up);
}

/// Tries each server that is up once, from the one whose turn it was. If none is up, tries those that have open
/// connections. Waiters come first.
#[cold]
fn take_any<C: Connector>(shared: &Arc<Shared<C>>, balance: Balance) -> Option<Box<Connection<C>>> {
    let list = shared.servers.list();
    // While a server is up the background task signals that a retry is due. While none is, the caller looks itself.
    if shared.notifier.signals.is_retry_due() || list.up.is_empty() {
        start_due(shared);
    }
    if shared.notifier.signals.waiters() > 0 {
        return None;
    }
    let (near, now) = (thread_number(), shared.clock.time());
    let take_good = |entry: &ListEntry<C>| loop {
        match take(shared, entry, || now, || entry.generation.idle.pop(near)) {
            Err(Skip::Dead) => {}
            taken => return taken,
        }
    };
    if list.up.is_empty() {
        return shared.rotation.pass(near, &list.open, |number| {
            let entry = list.entry(number)?;
            if !entry.is_open() {
                shared.servers.refresh(number);
            }
            take_good(entry).ok()
        });
    }
    let mut empty = None;
    let served = shared.rotation.go_on(near, &list.up, |number| {
        let entry = list.entry(number)?;
        let taken = take_good(entry);
        if matches!(taken, Err(Skip::Empty)) && entry.server().permits.counts().is_free() {
            empty.get_or_insert(&entry.generation);
        }
        taken.ok()
    });
    if let Some(generation) = empty.filter(|generation| generation.server.permits.counts().connecting() == 0) {
        let is_wanted = match balance {
            Balance::IfServed => served.is_some(),
            Balance::InRuntime => Handle::try_current().is_ok(),
        };
        if is_wanted {
            background::ensure(shared);
            attempt::start(shared, generation, Purpose::Balance);
        }
    }
    served
}

/// Takes a connection of one server: looks for a token, pops, checks, takes the token last. `now` is the time for the
/// check where there is no rate limit.
#[inline(always)]
fn take<C: Connector>(
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
        keep(conn);
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
    if is_reusable(shared, &mut conn, now) {
        return Ok(conn);
    }
    close(conn);
    Err(Skip::Dead)
}

/// Whether an idle connection may be checked out. Records the time of the checkout.
#[inline(always)]
pub(crate) fn is_reusable<C: Connector>(shared: &Shared<C>, conn: &mut Connection<C>, now: Time) -> bool {
    if conn.is_over_age(now, shared.idle_timeout) {
        return false;
    }
    conn.info.check_out(now);
    shared.connector.is_reusable(&mut conn.conn, &conn.info)
}

/// Closes a connection, out of line of the hot path.
#[cold]
fn close<C: Connector>(conn: Box<Connection<C>>) {
    drop(conn);
}
