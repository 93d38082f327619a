//! Orders: attempts that run for one waiter with a wish.
//!
//! An attempt for waiters is for any of them, and its connection goes to the first that accepts it. A waiter with a
//! wish orders one at a server that it accepts, and has one order at a time.
//!
//! If it accepts no idle connection, a token is reserved for its order: others, which idle connections serve, would
//! otherwise take each token before its connection is there. None is taken until then, so that the server never sees
//! more than its rate. The order may also close an idle connection, to make room.
//!
//! An order that is older than the hedge delay has no token reserved. The next one is a hedge: it goes to a server
//! without attempts.

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt;
use crate::core::candidates::{Need, ReservedTokens, choose, is_hedge, lacking};
use crate::core::closing::close;
use crate::core::shared::Shared;
use crate::core::wish::WaiterWish;
use crate::servers::{List, thread_number};
use crate::sync::Arc;

/// Orders for the waiters that accept no idle connection and have no order.
pub(crate) fn place_orders<C: Connector>(shared: &Arc<Shared<C>>) {
    let waiters = shared.queue.wishes(lacking(shared), |waiter| waiter.wish.fresh && waiter.has_no_order());
    if waiters.is_empty() {
        return;
    }
    let list = shared.servers.list();
    let mut found_none = false;
    for waiter in waiters {
        // What such a waiter did not find, the next one does not find either.
        let is_usual = waiter.wish.avoid.is_empty() && !waiter.has_late_order();
        if !(is_usual && found_none) {
            found_none |= !place(shared, &list, &waiter) && is_usual;
        }
    }
}

/// Orders for a waiter, at a server with a token beyond the reserved ones. If only servers without a free permit have
/// one, an idle connection closes to make room. True if a server was found.
fn place<C: Connector>(shared: &Arc<Shared<C>>, list: &List<C>, waiter: &Arc<WaiterWish>) -> bool {
    let (reserved, now) = (ReservedTokens::of_orders(shared, list), shared.clock.time());
    let is_hedge = waiter.has_late_order() || is_hedge(shared);
    let choose_of = |makes_room| {
        let need =
            Need { most: 1, is_hedge, may_wait: false, makes_room, wish: Some(&waiter.wish), reserved: &reserved };
        list.generation(choose(shared, list, now, need).pop()?)
    };
    let Some(generation) = choose_of(false).or_else(|| choose_of(true)) else { return false };
    let Some(order) = shared.attempts.begin_order(waiter, generation.number()) else { return false };
    if !generation.server.permits.counts().has_free()
        && let Some(conn) = generation.idle.pop(thread_number())
    {
        close(conn, CloseReason::MadeRoom);
    }
    attempt::start_order(shared, &generation, order);
    true
}
