//! The model of a server's limits: connections and rate, as the server sees them.

use crate::plan::{Limits, Rate};

/// The history of a server's limits. Times are in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The maximum now, and the greatest maximum within this instant: a scheduled attempt begins within the instant.
    max_conns: u32,
    max_before: u32,
    changed: u64,
    /// The maximum that is about to be set.
    announced: Option<u32>,
    weight: u32,
    tier: u32,
    /// The rates and their beginnings, since there is one.
    rates: Vec<(u64, Option<Rate>)>,
    /// The checkouts since then.
    checkouts: Vec<u64>,
}

impl Held {
    pub(crate) fn new(limits: Limits) -> Self {
        let Limits { max_conns, rate, weight, tier } = limits;
        let (max_before, changed, announced) = (0, 0, None);
        let (rates, checkouts) = (vec![(0, rate)], Vec::new());
        Self { max_conns, max_before, changed, announced, weight, tier, rates, checkouts }
    }

    pub(crate) fn rate(&self) -> Option<Rate> {
        self.rates.last().and_then(|&(_, rate)| rate)
    }

    /// Whether so many connections are above the maximum, or will be above the one that is about to be set.
    pub(crate) fn is_exceeded(&self, open: u32) -> bool {
        open > self.announced.unwrap_or(u32::MAX).min(self.max_conns)
    }

    pub(crate) fn tier(&self) -> u32 {
        self.tier
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { max_conns: self.max_conns, rate: self.rate(), weight: self.weight, tier: self.tier }
    }

    /// Called before the pool gets new limits.
    pub(crate) fn announce(&mut self, limits: Limits) {
        self.announced = Some(limits.max_conns);
    }

    /// Sets new limits. A server that is removed and registered again keeps its tokens: the pool forgets it only with a
    /// full bucket.
    pub(crate) fn change(&mut self, limits: Limits, now: u64) {
        self.max_before = if self.changed == now { self.max_before.max(self.max_conns) } else { self.max_conns };
        (self.max_conns, self.announced) = (limits.max_conns, None);
        self.changed = now;
        (self.weight, self.tier) = (limits.weight, limits.tier);
        if self.rate().is_none() || limits.rate.is_none() {
            self.checkouts.clear();
            self.rates = vec![(now, limits.rate)];
        } else if self.rate() != limits.rate {
            self.rates.push((now, limits.rate));
        }
    }

    /// The most connections that the server may see now.
    pub(crate) fn max_conns(&self, now: u64) -> u32 {
        if self.changed == now { self.max_conns.max(self.max_before) } else { self.max_conns }
    }

    /// Counts a checkout.
    ///
    /// # Errors
    ///
    /// The window that has too many.
    pub(crate) fn check_out(&mut self, now: u64) -> Result<(), String> {
        // In the instant in which a limit began, the checkout may have been granted before it.
        if self.rate().is_none() || (self.rates[0].0 == now && now > 0) {
            return Ok(());
        }
        self.checkouts.push(now);
        for (before, &from) in self.checkouts.iter().enumerate() {
            let (count, quota) = (self.checkouts.len() - before, self.quota(from, now));
            // A millionth of a token, for what is lost in this sum.
            if count as f64 > quota + 1e-6 {
                let ms = (now - from) / 1_000_000;
                return Err(format!("{count} checkouts in a window of {ms} ms, where {quota:.3} are allowed"));
            }
        }
        Ok(())
    }

    /// The greatest burst that held in the window, and what the rates gave in it: a change of the rate gives nothing.
    fn quota(&self, from: u64, to: u64) -> f64 {
        let (mut burst, mut given) = (0, 0.0);
        for (index, &(begin, rate)) in self.rates.iter().enumerate() {
            let end = self.rates.get(index + 1).map_or(u64::MAX, |&(begin, _)| begin);
            if let (Some(rate), true) = (rate, begin <= to && end >= from) {
                burst = burst.max(rate.burst);
                given += rate.rps * (end.min(to) - begin.max(from)) as f64 / 1e9;
            }
        }
        f64::from(burst) + given
    }
}
