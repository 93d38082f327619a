//! Which servers to connect to for waiters: looks at the servers, and has `plan` choose.

use crate::acquire_options::Wish;
use crate::connector::Connector;
use crate::core::plan::{Candidate, plan};
use crate::core::shared::Shared;
use crate::core::spill;
use crate::core::wish::avoids;
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
}

/// How many young attempts there may be more, and whether each would be a hedge: as many run as there are waiters, some
/// of them late.
pub(crate) fn lacking<C: Connector>(shared: &Shared<C>) -> (usize, bool) {
    let (young, late) = (shared.attempts.young(), shared.attempts.late());
    let waiters = shared.notifier.signals.waiters();
    (waiters.saturating_sub(young), young + shared.attempts.recycling() + late >= waiters)
}

/// Chooses servers to connect to.
pub(crate) fn choose<C: Connector>(shared: &Shared<C>, list: &List<C>, now: Time, need: Need<'_>) -> Vec<usize> {
    let Some(first) = shared.connect_rotation.next(0, &list.up) else { return Vec::new() };
    let first_standby = shared.standby_rotation.next(0, &list.standby).unwrap_or(0);
    let may_use = |number: &usize| {
        let server = list.entry(*number).map(ListEntry::server);
        !need.wish.zip(server).is_some_and(|(wish, server)| avoids(list, wish, server))
    };
    let standby = spill::servers(shared, list, first_standby, now).map(|(number, _)| number);
    let numbers = list.up.iter_from(first).chain(standby).filter(may_use);
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
    let generation = &list.entry(number)?.generation;
    let server = &generation.server;
    let is_trial = server.breaker.snapshot().may_begin(now)?;
    let counts = server.permits.counts();
    let most = if is_trial { 1 } else { shared.settings.max_concurrent_connects_per_server };
    let most = server.most_attempts(most);
    if most == 0 {
        return None;
    }
    // One that says goodbye makes room in a moment, too.
    let makes_room = need.makes_room && !generation.idle.is_empty() && server.closing() == 0;
    let room = match counts.is_free() || !makes_room {
        true => counts.room(most),
        false => u32::from(counts.connecting() < most),
    };
    let has_token = server.has_token(now);
    let room = match has_token {
        true => room,
        false if need.may_wait && counts.connecting() == 0 && generation.idle.is_empty() => room.min(1),
        false => 0,
    };
    Some(Candidate { number, connecting: counts.connecting(), room, has_token })
}
