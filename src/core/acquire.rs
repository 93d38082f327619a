//! The fast path to a connection, and the pass over all servers.

use std::time::Duration;

use tokio::runtime::Handle;

use crate::close_reason::CloseReason;
use crate::connector::{ConnectFault, Connector};
use crate::core::attempt;
use crate::core::attempt_counts::Purpose;
use crate::core::background;
use crate::core::closing::close;
use crate::core::hand_over::{keep, move_or_close};
use crate::core::report;
use crate::core::shared::Shared;
use crate::core::transition::{self, FailedConnect};
use crate::error::{AcquireError, Failure, TryAcquireError};
use crate::raw::{Signals, Time};
use crate::server::Connection;
use crate::servers::{List, ListEntry, Usable, thread_number};
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

/// The callers of `take_next`.
const SYNC: bool = false;
const ASYNC: bool = true;

/// See [`Pool::try_acquire`](crate::Pool::try_acquire).
#[inline]
pub(crate) fn try_acquire<C: Connector>(shared: &Arc<Shared<C>>) -> Result<Box<Connection<C>>, TryAcquireError> {
    match take_next::<C, SYNC>(shared) {
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
    match take_next::<C, ASYNC>(shared) {
        Some(conn) => Some(conn),
        None => take_any(shared, Balance::IfServed),
    }
}

/// The hot path: takes a connection of the next server in turn from this thread's shard. Otherwise `take_any` looks
/// everywhere.
///
/// `CALLER` gives each caller closures of its own type: compilers inline what has one caller, and a call costs a tenth
/// of the instructions.
#[inline(always)]
fn take_next<C: Connector, const CALLER: bool>(shared: &Arc<Shared<C>>) -> Option<Box<Connection<C>>> {
    let signals: &Signals = &shared.notifier.signals;
    // One branch for both.
    if (signals.waiters() > 0) | signals.is_retry_due() {
        return give_way(shared);
    }
    let taken = shared.servers.with_list_of(signals.list_version(), |list, near| {
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

/// Waiters come first. Otherwise a retry is due, and `take_any` goes on from this caller's turn.
#[cold]
fn give_way<C: Connector>(shared: &Shared<C>) -> Option<Box<Connection<C>>> {
    if shared.notifier.signals.waiters() == 0 {
        take_turn(shared);
    }
    None
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
    if shared.notifier.signals.is_retry_due() {
        // The background task tries the servers that are due: here is a caller.
        shared.notifier.signals.set_retry_due(false);
        shared.notifier.wake();
    }
    if shared.notifier.signals.waiters() > 0 {
        return None;
    }
    let (near, now) = (thread_number(), shared.clock.time());
    let take_from = |entry: &ListEntry<C>| take_good(shared, entry, now, || entry.generation.idle.pop(near));
    if list.up.is_empty() {
        return shared.rotation.pass(near, &list.open, |number| {
            let entry = list.entry(number)?;
            if !entry.is_open() {
                shared.servers.refresh(number);
            }
            take_from(entry).ok()
        });
    }
    let mut empty = None;
    let served = shared.rotation.go_on(near, &list.up, |number| {
        let entry = list.entry(number)?;
        let taken = take_from(entry);
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
    served.or_else(|| take_answered(shared, &list, near, now))
}

/// Takes an idle connection of a server that is down while others serve, one that has answered since it went down.
#[cold]
fn take_answered<C: Connector>(
    shared: &Arc<Shared<C>>,
    list: &List<C>,
    near: usize,
    now: Time,
) -> Option<Box<Connection<C>>> {
    shared.rotation.pass(near, &list.open, |number| {
        let (entry, Usable::Answered(outage)) = list.usable(number)? else { return None };
        let has_answered = |conn: &Connection<C>| conn.permit.answered() == outage;
        let pop = || entry.generation.idle.pop_if(near, has_answered, move_or_close);
        take_good(shared, entry, now, pop).ok()
    })
}

/// Takes a connection of one server, past those that may not be reused.
fn take_good<C: Connector>(
    shared: &Shared<C>,
    entry: &ListEntry<C>,
    now: Time,
    pop: impl Fn() -> Option<Box<Connection<C>>>,
) -> Result<Box<Connection<C>>, Skip> {
    loop {
        match take(shared, entry, || now, &pop) {
            Err(Skip::Dead) => {}
            taken => return taken,
        }
    }
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
    if conn.is_reusable(now, shared.idle_timeout) {
        return Ok(conn);
    }
    close_unusable(shared, conn, now);
    Err(Skip::Dead)
}

/// Closes a connection that may not be reused, out of line of the hot path. One that never came back well and is closed
/// right after its connect counts as a failed connect.
#[cold]
pub(crate) fn close_unusable<C: Connector>(shared: &Shared<C>, conn: Box<Connection<C>>, now: Time) {
    const AT_ONCE: Duration = Duration::from_secs(1);
    // The tick stands still while the client is stalled.
    let age = shared.clock.time().since(conn.info().opened_at());
    let over = conn.is_over(now, shared.idle_timeout);
    let is_new = conn.info().uses() == 0 && age < AT_ONCE && over.is_none();
    let (generation, outage) = (Arc::clone(conn.generation()), conn.outage);
    close(conn, over.unwrap_or(CloseReason::Unfit));
    if is_new {
        let pass = generation.server.breaker.pass();
        let failed = FailedConnect { pass, outage, unanswered_since: None, fault: ConnectFault::Server };
        transition::connect_failed(shared, &generation, failed, Arc::new(Failure::ClosedAtOnce));
    }
}
