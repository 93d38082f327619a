//! The shares of the servers in weighted turns.

use crate::connector::Connector;
use crate::load_balancing::LoadBalancing;
use crate::raw::Time;
use crate::servers::list::List;
use crate::servers::set::Servers;
use crate::sync::{AtomicU64, Ordering, fence};

/// The step of weighted turns: 2⁶⁴ divided by the largest weight of the servers in the up set.
#[derive(Debug)]
pub(super) struct Stride(AtomicU64);

impl Stride {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// The largest weight. Exact, since weights are below 2³².
    fn largest(&self) -> u64 {
        // Relaxed, here and below: a plain value, which `settle_largest_weight` orders by a fence.
        u64::MAX / self.0.load(Ordering::Relaxed)
    }

    fn set_largest(&self, weight: u64) {
        self.0.store(u64::MAX / weight, Ordering::Relaxed);
        // The value, then the look at the up set; pairs with the fence of `UpSet::refresh`.
        fence(Ordering::SeqCst);
    }
}

impl<C: Connector> Servers<C> {
    /// In how many of 2⁶⁴ passes over the up set a server takes part: as many as its weight is of the largest one.
    #[inline(always)]
    pub(crate) fn share(&self, list: &List<C>, number: usize) -> u64 {
        // One that the list does not have takes its turn, and cannot serve.
        let weight = list.entry(number).map_or(u64::MAX, |entry| entry.server().weight.now());
        weight.saturating_mul(self.stride.0.load(Ordering::Relaxed))
    }

    /// Brings the largest weight to that of the servers in the up set.
    pub(crate) fn settle_largest_weight(&self) {
        // The policy, then the look at the up set; pairs with the fence of `UpSet::refresh`.
        fence(Ordering::SeqCst);
        loop {
            let list = self.list();
            let weights = list.up.iter_from(0).filter_map(|number| Some(list.entry(number)?.server().weight.now()));
            let largest = weights.max();
            match largest {
                Some(largest) if largest != self.stride.largest() => self.stride.set_largest(largest),
                _ => return,
            }
        }
    }

    /// The same after a change of one server: looks at the others only if that may have changed the largest weight.
    pub(super) fn settle_largest_weight_after(&self, number: usize) {
        if LoadBalancing::of(&self.notifier.signals) != LoadBalancing::Weighted {
            return;
        }
        let list = self.list();
        let (largest, weight) = (self.stride.largest(), |number| Some(list.entry(number)?.server().weight.now()));
        let is_right = weight(number).is_none_or(|weight| weight <= largest)
            && list.up.iter_from(0).any(|number| weight(number) == Some(largest));
        drop(list);
        if !is_right {
            self.settle_largest_weight();
        }
    }

    /// Begins the ramp of a server that is about to come into use, if slow start is on.
    pub(super) fn start_ramp_if_new(&self, list: &List<C>, number: usize) {
        // Without the tick nothing would go on with it. A pool that starts has none yet.
        let (Some(_), Some(now)) = (self.slow_start, self.notifier.signals.tick()) else { return };
        if let Some(entry) = list.entry(number).filter(|entry| entry.server().serves() && !list.up.contains(number)) {
            entry.server().weight.start_ramp(now);
            // Release: pairs with the Acquire of `ramp`.
            self.ramps.store(true, Ordering::Release);
        }
    }

    /// Goes on with the ramps, at each tick.
    pub(crate) fn ramp(&self, now: Time) {
        let Some(window) = self.slow_start else { return };
        // Acquire: pairs with the Release of `start_ramp_if_new`.
        if !self.ramps.swap(false, Ordering::Acquire) {
            return;
        }
        let list = self.list();
        let ramping = list.iter().filter(|(_, entry)| entry.server().weight.ramp(now, window)).count();
        drop(list);
        if ramping > 0 {
            // Relaxed: this task alone reads it.
            self.ramps.store(true, Ordering::Relaxed);
        }
        self.settle_largest_weight();
    }
}
