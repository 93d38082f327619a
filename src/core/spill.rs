//! When callers use servers of worse tiers than the one in use, so as not to wait.

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::raw::{TierInUse, Time};
use crate::server::ServerEntry;
use crate::servers::{List, ListEntry};

/// The worst tier that callers may use now: the one in use, unless none of its servers has an idle connection, and
/// connecting to each pauses, or with `spill_when_full` it is full. Then the next one of which a server is better off.
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
pub(crate) fn is_reached<C: Connector>(shared: &Shared<C>, list: &List<C>, server: &ServerEntry<C>, now: Time) -> bool {
    let tier = server.health.snapshot().tier();
    // First what costs no look at other servers.
    tier <= shared.servers.tier_in_use() || tier <= worst_tier(shared, list, now)
}

/// Whether callers may use what an attempt opens at a server: it is not disabled, and its tier is not out of reach.
pub(crate) fn helps<C: Connector>(shared: &Shared<C>, list: &List<C>, server: &ServerEntry<C>, now: Time) -> bool {
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
pub(crate) fn pass<C: Connector, T>(
    shared: &Shared<C>,
    list: &List<C>,
    near: usize,
    now: Time,
    mut serve: impl FnMut(usize) -> Option<T>,
) -> Option<T> {
    if list.standby.is_empty() {
        return None;
    }
    let worst = worst_tier(shared, list, now);
    let is_used = |number: usize| Some(list.entry(number)?.server().health.snapshot().tier() <= worst);
    let serve = |number| is_used(number).filter(|&is| is).and_then(|_| serve(number));
    shared.standby_rotation.pass(near, &list.standby, serve)
}

/// Whether a server can neither serve nor be connected to.
fn is_spent<C: Connector>(shared: &Shared<C>, entry: &ListEntry<C>, now: Time) -> bool {
    let server = entry.server();
    // While it recovers, the probe's connection serves alone.
    let is_paused = || !server.health.snapshot().is_plainly_up() || server.breaker.snapshot().may_begin(now).is_none();
    let is_full = || shared.settings.spill_when_full && !server.permits.counts().is_free();
    entry.generation.idle.is_empty() && (is_paused() || is_full())
}
