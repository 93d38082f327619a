//! Orders: attempts that run for one waiter with a wish.
//!
//! An attempt for waiters is for any of them, and its connection goes to the first that accepts it. A waiter with a
//! wish orders one at a server that it accepts, and has one order at a time.
//!
//! If it accepts no idle connection, a token is kept for its order: those behind it, which idle connections serve,
//! would otherwise take each token before its connection is there. None is taken until then, so that the server never
//! sees more than its rate.

use crate::connector::Connector;
use crate::core::attempt_counts::Counted;
use crate::core::candidates::{Need, choose, lacking};
use crate::core::shared::Shared;
use crate::core::wish::{WaiterWish, avoids};
use crate::server::{Connection, Generation};
use crate::servers::List;
use crate::sync::Arc;

/// The tokens that are kept for orders while waiters are served.
#[derive(Debug, Default)]
pub(crate) struct KeptTokens(Vec<(usize, *const WaiterWish)>);

impl KeptTokens {
    /// Keeps one for a waiter that accepts no idle connection, for those that are served after it.
    pub(crate) fn keep(&mut self, waiter: &WaiterWish, number: usize) {
        let kept = (number, std::ptr::from_ref(waiter));
        if !self.0.contains(&kept) {
            self.0.push(kept);
        }
    }

    /// How many of a server's.
    pub(crate) fn of(&self, number: usize) -> u64 {
        self.0.iter().filter(|kept| kept.0 == number).count() as u64
    }
}

/// Whether a waiter that accepts no idle connection may order one of a server with an idle one and a token.
pub(crate) fn may_order<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    generation: &Generation<C>,
    waiter: &WaiterWish,
) -> bool {
    let may_use = || !generation.idle.is_empty() && !avoids(list, &waiter.wish, &generation.server);
    waiter.wish.fresh
        && waiter.may_order()
        && may_use()
        && generation.server.has_token(shared.clock.time())
        && lacking(shared).0 > 0
}

/// An order that is to start.
pub(crate) struct Placed<C: Connector> {
    pub(crate) order: Counted,
    pub(crate) generation: Arc<Generation<C>>,
    /// An idle connection that closes to make room.
    pub(crate) room: Option<Box<Connection<C>>>,
}

/// Places the order of a waiter that accepts no idle connection, at a server with a token beyond the kept ones. If only
/// servers without a free permit have one, an idle connection is taken to make room.
///
/// May run under the lock of the wait queue.
pub(crate) fn place<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    waiter: &Arc<WaiterWish>,
    kept: &KeptTokens,
    near: usize,
) -> Option<Placed<C>> {
    let ((lacking, is_hedge), now) = (lacking(shared), shared.clock.time());
    if lacking == 0 {
        return None;
    }
    let choose_of = |makes_room| {
        let need = Need { most: 1, is_hedge, may_wait: false, makes_room, wish: Some(&waiter.wish) };
        list.generation(choose(shared, list, now, need).pop()?)
    };
    let generation = choose_of(false).or_else(|| choose_of(true))?;
    let is_free = generation.server.permits.counts().is_free();
    let bucket = list.bucket_of(&generation);
    if bucket.is_some_and(|bucket| !bucket.has_more_than(kept.of(generation.number), now)) {
        return None;
    }
    // Counted here, where those that are served after it still count as waiters.
    let order = shared.attempts.begin_order(waiter, generation.number, shared.notifier.signals.waiters())?;
    let room = if is_free { None } else { generation.idle.pop(near) };
    Some(Placed { order, generation, room })
}
