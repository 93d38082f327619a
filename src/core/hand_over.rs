//! Serves waiters, in their order: with a new connection, or from the idle queues of one server or of all. A returned
//! connection always goes to its idle queue, and waiters are served from there.
//!
//! Waiters are served under the lock of the wait queue. What may run user code is left to the caller, as a
//! [`Leftover`].

use crate::connector::Connector;
use crate::core::candidates::{ReservedTokens, may_order};
use crate::core::grant::{Grant, Token};
use crate::core::shared::Shared;
use crate::core::spill::{self, avoids, refuses_idle};
use crate::core::wish::WaiterWish;
use crate::server::{Connection, Generation};
use crate::servers::{List, Usable, thread_number};
use crate::sync::Arc;

/// What `idle_conns::finish_leftover` does once waiters are served.
#[must_use]
pub(crate) struct Leftover<C: Connector> {
    /// Connections that their idle queue did not take back.
    pub(crate) refused: Vec<Box<Connection<C>>>,
    /// Where a look for proven connections took others out for a moment.
    pub(crate) looked: Vec<Arc<Generation<C>>>,
}

impl<C: Connector> Leftover<C> {
    fn new() -> Self {
        Self { refused: Vec::new(), looked: Vec::new() }
    }
}

/// Serves the front waiter with a new connection, if there is a token. Otherwise gives it back.
pub(crate) fn offer<C: Connector>(shared: &Shared<C>, conn: Box<Connection<C>>) -> Option<Box<Connection<C>>> {
    let list = shared.servers.list();
    if shared.signals.waiters_after_change() == 0 || !may_serve_waiters(shared, &list, &conn) {
        return Some(conn);
    }
    let (server, mut conn) = (Arc::clone(conn.server()), Some(conn));
    shared.queue.serve(|waiter| {
        if conn.is_none() || avoids(shared, &list, waiter.map(|waiter| &waiter.wish), &server) {
            return None;
        }
        let token = Token::take(server.bucket().map(|bucket| (bucket, shared.clock.time())))?;
        conn.take().map(|conn| Grant { conn, token, is_from_attempt: true })
    });
    conn
}

/// Serves waiters from one server.
pub(crate) fn serve_from<C: Connector>(
    shared: &Shared<C>,
    generation: &Arc<Generation<C>>,
    thread: usize,
) -> Leftover<C> {
    let (mut left, mut is_order_due) = (Leftover::new(), false);
    let (bucket, usable);
    {
        let list = shared.servers.list();
        let number = generation.number();
        let Some((_, found)) = spill::usable_now(shared, &list, number) else { return left };
        usable = found;
        let reserved = ReservedTokens::of_orders(shared, &list);
        shared.queue.serve(|waiter| {
            // One that may order comes before those behind it.
            is_order_due =
                is_order_due || waiter.is_some_and(|waiter| may_order(shared, &list, number, waiter, &reserved));
            if is_order_due || refuses_idle(shared, &list, waiter.map(|waiter| &waiter.wish), &generation.server) {
                return None;
            }
            take(shared, &list, generation, usable, thread, reserved.of(number), &mut left.refused)
        });
        bucket = list.bucket_of(generation);
    }
    if let Usable::Proven(_) = usable {
        left.looked.push(Arc::clone(generation));
    }
    if shared.signals.waiters() > 0 {
        if let Some(bucket) = bucket {
            shared.notifier.wake_before(bucket.available_at());
        }
        if is_order_due {
            shared.notifier.wake();
        }
    }
    left
}

/// Which waiters were served.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Served {
    pub(crate) count: usize,
    /// Those behind the first one that may order were not.
    pub(crate) is_stopped: bool,
}

/// Serves waiters from all servers. With `to_first_order` it stops at the first that may order, since that one comes
/// before those behind it.
pub(crate) fn serve_waiters<C: Connector>(shared: &Shared<C>, to_first_order: bool) -> (Served, Leftover<C>) {
    let mut left = Leftover::new();
    if shared.signals.waiters() == 0 {
        return (Served::default(), left);
    }
    let list = shared.servers.list();
    // Mostly nothing is idle. Found out without the lock of the queue, which releases need.
    if !is_any_idle(shared, &list) {
        return (Served::default(), left);
    }
    let (thread, now) = (thread_number(), shared.clock.time());
    let reserved = ReservedTokens::of_orders(shared, &list);
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
            left.looked.push(Arc::clone(&entry.generation));
        }
        take(shared, &list, &entry.generation, usable, thread, reserved.of(number), &mut left.refused)
    };
    let mut is_stopped = false;
    let count = shared.queue.serve(|waiter| {
        let wants_new = waiter.filter(|waiter| waiter.wish.fresh);
        is_stopped = is_stopped || to_first_order && wants_new.is_some_and(|waiter| waiter.has_no_order());
        if is_stopped || wants_new.is_some() {
            return None;
        }
        let served = shared.open_rotation.try_each(thread, &list.open, |number| take_from(waiter, number, false));
        served.or_else(|| spill::try_each(shared, &list, thread, now, |number| take_from(waiter, number, true)))
    });
    (Served { count, is_stopped }, left)
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

/// Takes a connection and a token, beyond the `reserved` ones, of one server. The waiter checks the connection.
///
/// A connection that the idle queue does not take back goes to `refused`.
fn take<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    generation: &Generation<C>,
    usable: Usable,
    thread: usize,
    reserved: u64,
    refused: &mut Vec<Box<Connection<C>>>,
) -> Option<Grant<C>> {
    if generation.idle.is_empty() {
        return None;
    }
    // Wakers run while waiters are served, and may change the limit.
    let limit = list.bucket_of(generation).map(|bucket| (bucket, shared.clock.time()));
    if limit.as_ref().is_some_and(|(bucket, now)| !bucket.has_more_than(reserved, *now)) {
        return None;
    }
    let conn = match usable {
        Usable::All | Usable::Standby => generation.idle.pop(thread)?,
        Usable::Proven(outage) => generation.pop_proven(thread, outage, |conn| refused.push(conn))?,
    };
    match Token::take(limit) {
        Some(token) => Some(Grant { conn, token, is_from_attempt: false }),
        None => {
            generation.idle.push(conn, thread, |conn| refused.push(conn));
            None
        }
    }
}

/// Whether a connection may serve a waiter: its server was not removed, is up unless none is, and is not standby unless
/// its tier comes into use.
fn may_serve_waiters<C: Connector>(shared: &Shared<C>, list: &List<C>, conn: &Connection<C>) -> bool {
    let generation = conn.generation();
    let usable = || spill::usable_now(shared, list, generation.number());
    generation.why_over().is_none() && matches!(usable(), Some((_, Usable::All | Usable::Standby)))
}
