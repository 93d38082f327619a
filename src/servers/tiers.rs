//! The bits of the servers, and the tier in use.

use crate::connector::Connector;
use crate::raw::{HealthSnapshot, TierInUse};
use crate::servers::Servers;
use crate::servers::list::{List, ListEntry};
use crate::sync::{Arc, lock};

impl<C: Connector> Servers<C> {
    /// The worst tier that callers use without need.
    pub(crate) fn tier_in_use(&self) -> usize {
        self.tier.get()
    }

    /// Sets the server's bits from its present state, and switches to another tier if that is due. Called after it goes
    /// up or down, after each connect, and where no open connection was found.
    pub(crate) fn refresh(&self, number: usize) {
        let health = || self.list.load().entry(number).map(|entry| entry.server().health.snapshot());
        let is_standby = |health: HealthSnapshot| health.serves() && health.tier() > self.tier.get();
        let is_open = || self.list.load().entry(number).is_some_and(ListEntry::is_open);
        loop {
            let list = self.list.load_full();
            if number < list.up.capacity() {
                self.start_ramp_if_new(&list, number);
                if list.up.refresh(number, || self.is_in_use(health)) {
                    self.turns_changed();
                }
                list.standby.refresh(number, || health().is_some_and(is_standby));
                list.open.refresh(number, is_open);
            }
            // A larger bitmap may have replaced this one. After the fence of `ServerSet::refresh`.
            if Arc::ptr_eq(&list.up, &self.list.load().up) {
                break;
            }
        }
        if health().is_some_and(|health| health.serves() && health.tier() < self.tier.after_change().0) {
            self.settle_tier();
        }
    }

    pub(super) fn may_be_used(&self, health: Option<HealthSnapshot>) -> bool {
        health.is_some_and(|health| health.serves() && health.tier() <= self.tier.get())
    }

    /// Whether a server belongs into the up set. Before it says no, it looks whether a worse tier must come into use:
    /// see [`TierInUse`].
    fn is_in_use(&self, health: impl Fn() -> Option<HealthSnapshot>) -> bool {
        loop {
            let found = health();
            if self.may_be_used(found) {
                return true;
            }
            let (tier, is_switching) = self.tier.after_change();
            // Without a worse tier there is none to come into use.
            if !is_switching && (self.serving.has_serving(tier) || !self.serving.has_worse(tier)) {
                return false;
            }
            self.settle_tier();
            if health() == found {
                return self.may_be_used(found);
            }
        }
    }

    /// Brings the tier in use to the best one that serves, and the bits to where they should be: see [`TierInUse`].
    fn settle_tier(&self) {
        let (mut lists, mut numbers) = (Vec::new(), Vec::new());
        let locked = lock(&self.switching);
        loop {
            lists.push(self.list.load_full());
            let list: &List<C> = &lists[lists.len() - 1];
            let servers = || list.iter().map(|(number, entry)| (number, entry.server().health.snapshot()));
            let serving = || servers().filter(|(_, health)| health.serves());
            let best = || serving().map(|(_, health)| health.tier()).min().unwrap_or(TierInUse::LAST);
            let (before, tier) = (self.tier.get(), best());
            if tier == before {
                // Takes an announcement back.
                self.tier.set(tier);
                break;
            }
            if tier < before {
                self.tier.announce();
                if best() != tier {
                    continue;
                }
            }
            self.tier.set(tier);
            let is_in_use = |(_, health): &(usize, HealthSnapshot)| health.tier() <= tier;
            for (number, _) in serving().filter(is_in_use) {
                list.up.set(number, true);
            }
            for (number, _) in servers().filter(|server| !is_in_use(server)) {
                list.up.set(number, false);
            }
            numbers.extend(servers().map(|(number, _)| number));
        }
        drop(locked);
        if !numbers.is_empty() {
            self.turns_changed();
        }
        // Not under the lock: lists hold user values.
        drop(lists);
        // Servers or the list may have changed meanwhile.
        numbers.into_iter().for_each(|number| self.refresh(number));
    }
}
