//! When callers use servers of worse tiers than the one in use, so as not to wait.

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::raw::Time;
use crate::server::ServerEntry;
use crate::servers::{List, ListEntry};

/// The worst tier that callers may use now. It is worse than the one in use if no server of the tiers before has an
/// idle connection, and connecting to each pauses, or with `spill_when_full` it is full.
pub(crate) fn worst_tier<C: Connector>(shared: &Shared<C>, list: &List<C>, now: Time) -> usize {
    let tier_of = |number: usize| Some(list.entry(number)?.server().health.snapshot().tier());
    let is_spent = |number: usize| list.entry(number).is_none_or(|entry| is_spent(shared, entry, now));
    let mut worst = shared.servers.tier_in_use();
    if list.standby.is_empty() || !list.up.iter_from(0).all(is_spent) {
        return worst;
    }
    loop {
        let worse = list.standby.iter_from(0).filter_map(tier_of).filter(|&tier| tier > worst).min();
        let Some(next) = worse else { return worst };
        worst = next;
        if !list.standby.iter_from(0).filter(|&number| tier_of(number) == Some(next)).all(is_spent) {
            return worst;
        }
    }
}

/// Whether callers may use the tier of a server now: it is not worse than the one in use, or no server of a better one
/// can serve or be connected to.
pub(crate) fn is_reached<C: Connector>(shared: &Shared<C>, list: &List<C>, server: &ServerEntry<C>, now: Time) -> bool {
    let tier = server.health.snapshot().tier();
    let better = || list.up.iter_from(0).chain(list.standby.iter_from(0)).filter_map(|number| list.entry(number));
    let is_better = |entry: &&ListEntry<C>| entry.server().health.snapshot().tier() < tier;
    tier <= shared.servers.tier_in_use() || better().filter(is_better).all(|entry| is_spent(shared, entry, now))
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
