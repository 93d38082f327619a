//! When callers use servers of worse tiers than the one in use, or those that they avoid, so as not to wait.

use crate::acquire_options::Wish;
use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::raw::{TierInUse, Time};
use crate::server::ServerRecord;
use crate::servers::{List, ListEntry, Usable};

/// The worst tier that callers may use now. Normally that is the one in use. If each of its servers is spent, it is the
/// best standby tier with a server that is not.
pub(crate) fn worst_tier<C: Connector>(shared: &Shared<C>, list: &List<C>, now: Time) -> usize {
    let in_use = shared.servers.tier_in_use();
    let is_better_off = |entry: &&ListEntry<C>| !is_spent(shared, entry, now);
    if list.up.iter_from(0).filter_map(|number| list.entry(number)).any(|entry| is_better_off(&entry)) {
        return in_use;
    }
    let standby = list.standby.iter_from(0).filter_map(|number| list.entry(number));
    let best = standby.filter(is_better_off).map(|entry| entry.server().health.snapshot().tier()).min();
    best.unwrap_or(TierInUse::LAST).max(in_use)
}

/// Whether callers may use the tier of a server now.
pub(crate) fn is_reached<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    server: &ServerRecord<C>,
    now: Time,
) -> bool {
    let tier = server.health.snapshot().tier();
    // First what costs no look at other servers.
    tier <= shared.servers.tier_in_use() || tier <= worst_tier(shared, list, now)
}

/// Which idle connections of a server callers may use now, as far as its tier is in reach.
#[inline]
pub(crate) fn usable_now<'a, C: Connector>(
    shared: &Shared<C>,
    list: &'a List<C>,
    number: usize,
) -> Option<(&'a ListEntry<C>, Usable)> {
    let is_in_reach = |entry: &ListEntry<C>| is_reached(shared, list, entry.server(), shared.clock.time());
    list.usable(number).filter(|(entry, usable)| *usable == Usable::All || is_in_reach(entry))
}

/// Whether callers may use what an attempt opens at a server: it is not disabled, and its tier is not out of reach.
pub(crate) fn helps<C: Connector>(shared: &Shared<C>, list: &List<C>, server: &ServerRecord<C>, now: Time) -> bool {
    !server.health.snapshot().is_disabled() && is_reached(shared, list, server, now)
}

/// The standby servers that callers may use now, from a number on.
pub(crate) fn servers<'a, C: Connector>(
    shared: &'a Shared<C>,
    list: &'a List<C>,
    first: usize,
    now: Time,
) -> impl Iterator<Item = (usize, &'a ListEntry<C>)> {
    let worst = if list.standby.is_empty() { 0 } else { worst_tier(shared, list, now) };
    let entries = list.standby.iter_from(first).filter_map(|number| Some((number, list.entry(number)?)));
    entries.filter(move |(_, entry)| entry.server().health.snapshot().tier() <= worst)
}

/// Tries the standby servers that callers may use now until one serves, in turn.
pub(crate) fn try_each<C: Connector, T>(
    shared: &Shared<C>,
    list: &List<C>,
    thread: usize,
    now: Time,
    mut serve: impl FnMut(usize) -> Option<T>,
) -> Option<T> {
    if list.standby.is_empty() {
        return None;
    }
    let worst = worst_tier(shared, list, now);
    let is_used = |number: usize| Some(list.entry(number)?.server().health.snapshot().tier() <= worst);
    let serve = |number| is_used(number).filter(|&is| is).and_then(|_| serve(number));
    shared.standby_rotation.try_each(thread, &list.standby, serve)
}

/// Whether a server cannot help now, so that callers may use worse tiers: it is stuck, or with `spill_when_full` full.
fn is_spent<C: Connector>(shared: &Shared<C>, entry: &ListEntry<C>, now: Time) -> bool {
    let is_full = || shared.settings.spill_when_full && !entry.server().permits.counts().has_free();
    is_stuck(entry, now) || entry.generation.idle.is_empty() && is_full()
}

/// Whether a server can neither serve nor be connected to: nothing is idle, and connecting pauses, or all attempts that
/// run are older than the hedge delay.
fn is_stuck<C: Connector>(entry: &ListEntry<C>, now: Time) -> bool {
    let (server, counts) = (entry.server(), entry.server().permits.counts());
    // While it recovers, the probe's connection serves alone.
    let is_paused = || !server.health.snapshot().is_plainly_up() || server.breaker.snapshot().may_begin(now).is_none();
    let all_late = || counts.connecting() > 0 && server.late.get() >= counts.connecting();
    entry.generation.idle.is_empty() && (is_paused() || all_late())
}

/// Whether a caller avoids a server now: its wish names it, and a server that the wish does not name could serve.
pub(crate) fn avoids<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    wish: Option<&Wish>,
    server: &ServerRecord<C>,
) -> bool {
    let Some(wish) = wish else { return false };
    let is_named = |server: &ServerRecord<C>| wish.avoid.iter().any(|name| **name == *server.config().name());
    if !is_named(server) {
        return false;
    }
    let now = shared.clock.time();
    let mut up = list.up.iter_from(0).filter_map(|number| list.entry(number));
    up.any(|entry| !is_named(entry.server()) && !is_stuck(entry, now))
}

/// Whether a waiter does not accept an idle connection of a server now.
pub(crate) fn refuses_idle<C: Connector>(
    shared: &Shared<C>,
    list: &List<C>,
    wish: Option<&Wish>,
    server: &ServerRecord<C>,
) -> bool {
    wish.is_some_and(|wish| wish.fresh) || avoids(shared, list, wish, server)
}
