//! Which servers to connect to for waiters: looks at the servers, and has `plan` choose.

use std::collections::BTreeMap;

use crate::acquire_options::Wish;
use crate::connector::Connector;
use crate::core::plan::{Candidate, plan};
use crate::core::shared::Shared;
use crate::core::spill;
use crate::core::wish::WaiterWish;
use crate::raw::Time;
use crate::servers::{List, ListEntry};

/// What the attempts that are looked for are needed for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Need<'a> {
    /// At most so many.
    pub(crate) most: usize,
    /// For waiters whose attempt is late.
    pub(crate) is_hedge: bool,
    /// A server without a token will do: its connection waits for the token.
    pub(crate) may_wait: bool,
    /// An idle connection of a full server is room for an attempt.
    pub(crate) makes_room: bool,
    /// That of the waiter, if it has one.
    pub(crate) wish: Option<&'a Wish>,
    pub(crate) reserved: &'a ReservedTokens,
}

/// How many tokens of each server are reserved for orders: see the page of `order`.
#[derive(Debug, Default)]
pub(crate) struct ReservedTokens(BTreeMap<usize, u64>);

impl ReservedTokens {
    pub(crate) fn of_orders<C: Connector>(shared: &Shared<C>, list: &List<C>) -> Self {
        let mut reserved = Self::default();
        if list.limited > 0 {
            let waiters = shared.queue.wishes(usize::MAX, |waiter| waiter.wish.fresh && !waiter.has_no_order());
            for number in waiters.iter().filter_map(|waiter| waiter.ordered_at()) {
                *reserved.0.entry(number).or_default() += 1;
            }
        }
        reserved
    }

    /// How many of a server's.
    pub(crate) fn of(&self, number: usize) -> u64 {
        self.0.get(&number).copied().unwrap_or_default()
    }
}

/// How many more young attempts may start.
pub(crate) fn lacking<C: Connector>(shared: &Shared<C>) -> usize {
    shared.signals.waiters().saturating_sub(shared.attempts.young())
}

/// Whether the next attempt is a hedge: young, late and recycling ones are as many as the waiters.
pub(crate) fn is_hedge<C: Connector>(shared: &Shared<C>) -> bool {
    let attempts = &shared.attempts;
    attempts.young() + attempts.recycling() + attempts.late() >= shared.signals.waiters()
}

/// Whether a waiter that accepts no idle connection may order one of this server.
pub(crate) fn may_order<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    number: usize,
    waiter: &WaiterWish,
    reserved: &ReservedTokens,
) -> bool {
    // A hedge finds its server when the waiters are settled.
    let is_first = waiter.wish.fresh && waiter.has_no_order() && !waiter.has_late_order();
    let wish = Some(&waiter.wish);
    let need = Need { most: 1, is_hedge: false, may_wait: false, makes_room: true, wish, reserved };
    is_first && lacking(shared) > 0 && candidate(shared, list, number, shared.clock.time(), need).is_some()
}

/// Chooses servers to connect to.
pub(crate) fn choose<C: Connector>(shared: &Shared<C>, list: &List<C>, now: Time, need: Need<'_>) -> Vec<usize> {
    // Mostly so where callers wait, and found out fast.
    let is_full = |number| list.entry(number).is_none_or(|entry| !entry.server().permits.counts().has_free());
    if !need.makes_room && list.standby.is_empty() && list.up.iter_from(0).all(is_full) {
        return Vec::new();
    }
    let Some(first) = shared.connect_rotation.next(0, &list.up) else { return Vec::new() };
    let first_standby = shared.standby_rotation.next(0, &list.standby).unwrap_or(0);
    let standby = spill::servers(shared, list, first_standby, now).map(|(number, _)| number);
    let numbers = list.up.iter_from(first).chain(standby);
    plan(numbers.filter_map(|number| candidate(shared, list, number, now, need)), need.most, need.is_hedge)
}

/// Returns a server as a candidate if it may be connected to now. One without a token gets at most one attempt, so that
/// a connection is there when the token comes.
fn candidate<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    number: usize,
    now: Time,
    need: Need<'_>,
) -> Option<Candidate> {
    let ListEntry { generation, bucket, .. } = list.entry(number)?;
    let server = &generation.server;
    if spill::avoids(shared, list, need.wish, server) {
        return None;
    }
    let is_trial = server.breaker.snapshot().may_begin(now)?;
    let counts = server.permits.counts();
    let most = if is_trial { 1 } else { shared.settings.max_concurrent_connects_per_server };
    let most = server.most_attempts(most).saturating_sub(server.lingering.get());
    // None is closed for room while one says goodbye, which frees a permit in a moment.
    let makes_room = need.makes_room && !generation.idle.is_empty() && server.closing.get() == 0;
    let room = match counts.has_free() || !makes_room {
        true => counts.room(most),
        false => u32::from(counts.connecting() < most),
    };
    let has_token = bucket.as_ref().is_none_or(|bucket| bucket.has_more_than(need.reserved.of(number), now));
    let room = match has_token {
        true => room,
        false if need.may_wait && counts.connecting() == 0 && generation.idle.is_empty() => room.min(1),
        false => 0,
    };
    (room > 0).then_some(Candidate { number, connecting: counts.connecting(), room, has_token })
}
