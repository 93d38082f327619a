//! The model of tiers: which one callers may use, and how many servers of each may be ejected.

use connring::{PoolStatus, ServerStatus};

use crate::health::{Breaker, State as Health};
use crate::monitor::status_of;
use crate::plan::Plan;
use crate::reports::STEP;
use crate::world::{MS, Server, State};

impl Server {
    /// Whether callers may use it, its tier aside.
    pub(crate) fn serves(&self) -> bool {
        self.is_listed && self.disabled.is_none() && self.health.serves()
    }

    /// Whether it can neither serve nor be connected to, so that callers may use worse tiers. `begun`: how many
    /// attempts have begun at it, and whether all may be late. `or`: where the model cannot tell.
    fn is_spent(
        &self,
        plan: &Plan,
        listed: &ServerStatus,
        (begun, is_late): (usize, bool),
        or: bool,
        now: u64,
    ) -> bool {
        let pauses = match self.health.breaker {
            Breaker::Closed => listed.connecting_paused.is_some(),
            Breaker::Paused { until } if until + STEP > now => true,
            // The trial was scheduled and has not begun, or the pool has forgotten the pause.
            Breaker::Paused { .. } if or => listed.connecting > 0,
            Breaker::Paused { .. } => listed.connecting as usize > begun && !self.health.breaker_unsure,
            Breaker::Trying => true,
        };
        let is_full = plan.spill_when_full && listed.open >= listed.max_conns;
        listed.idle == 0 && (pauses || is_full || or && is_late || self.health.state != Health::Up)
    }
}

impl State {
    /// The best tier of which a server serves.
    pub(crate) fn best_tier(&self) -> Option<u32> {
        self.servers.iter().filter(|server| server.serves()).map(|server| server.held.tier()).min()
    }

    /// Whether the server is of the tier that is used as long as there is no need for another.
    pub(crate) fn is_of_best_tier(&self, index: usize) -> bool {
        let server = &self.servers[index];
        server.is_listed && server.disabled.is_none() && self.best_tier() == Some(server.held.tier())
    }

    /// The servers that serve in better tiers than this one.
    pub(crate) fn better(&self, index: usize) -> impl Iterator<Item = (usize, &Server)> {
        let tier = self.servers[index].held.tier();
        self.servers.iter().enumerate().filter(move |(_, server)| server.serves() && server.held.tier() < tier)
    }

    /// Whether callers may use servers of this one's tier now: all that serve in better tiers are spent. `or`: where
    /// the model cannot tell.
    pub(crate) fn may_use_tier_of(&self, plan: &Plan, index: usize, status: &PoolStatus, or: bool, now: u64) -> bool {
        let begun = |server: usize| {
            let count = self.attempts.values().filter(|attempt| attempt.server == server).count();
            (count, self.may_be_late(plan, server, now))
        };
        self.better(index).all(|(server, better)| {
            status_of(better, status).is_none_or(|at| better.is_spent(plan, at, begun(server), or, now))
        })
    }

    /// Whether the attempts at a server may all be older than the hedge delay.
    pub(crate) fn may_be_late(&self, plan: &Plan, server: usize, now: u64) -> bool {
        let mut began = self.attempts.values().filter(|attempt| attempt.server == server).map(|attempt| attempt.began);
        began.any(|began| now >= began + plan.hedge_delay * MS)
    }

    /// Whether the cap lets a server be ejected, disabled or not: another serves, and either one of a worse tier does,
    /// or no more than a part of its own tier does not.
    pub(crate) fn is_within_cap(&self, plan: &Plan, server: &Server) -> bool {
        let tier = server.held.tier();
        let of_tier = || self.servers.iter().filter(|other| other.is_listed && other.held.tier() == tier);
        let serves_worse = self.servers.iter().any(|other| other.serves() && other.held.tier() > tier);
        let (listed, serving) = (of_tier().count(), of_tier().filter(|other| other.serves()).count());
        let out = usize::from(server.serves());
        let ratio_out = (listed - serving + out) as f64 / listed as f64;
        self.serving().1 as usize > out && (serves_worse || ratio_out <= plan.max_ejected_ratio)
    }

    /// Describes a disagreement between the pool's status and the model.
    pub(crate) fn tier_disagrees(&self, index: usize, listed: &ServerStatus) -> Option<String> {
        let server = &self.servers[index];
        let standby = server.serves() && !self.is_of_best_tier(index);
        let said = (listed.tier, listed.standby);
        (said != (server.held.tier(), standby))
            .then(|| format!("the pool says tier and standby {said:?}, the best tier is {:?}", self.best_tier()))
    }
}
