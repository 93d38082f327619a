//! What a seed decides before the run: the features (`features.rs`), the pool's settings, and the servers.

use std::time::Duration;

use connring::{LoadBalancing, Server};

use crate::features::{Feature, Features};
use crate::rng::Rng;

/// The streams of a seed's numbers.
pub(crate) mod stream {
    pub(crate) const PLAN: u64 = 0;
    pub(crate) const NETWORK: u64 = 1;
    pub(crate) const WEATHER: u64 = 2;
    pub(crate) const OPERATOR: u64 = 3;
    pub(crate) const FEATURES: u64 = 4;
    pub(crate) const CALLERS: u64 = 100;
}

/// One server's limits, as set in the pool.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub(crate) max_conns: u32,
    pub(crate) rate: Option<Rate>,
    pub(crate) weight: u32,
    pub(crate) tier: u32,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    pub(crate) rps: f64,
    pub(crate) burst: u32,
}

impl Limits {
    pub(crate) fn draw(rng: &mut Rng, features: Features) -> Self {
        let rate = (features.has(Feature::RateLimits) && rng.chance(70))
            .then(|| Rate { rps: rng.pick(&[20.0, 70.0, 300.0, 3_000.0]), burst: rng.within(1..=6) as u32 });
        let least = u64::from(min_idle(features)).max(1);
        let max_conns = if features.has(Feature::OneConnection) { 1 } else { rng.within(least..=4) as u32 };
        let weight = if features.has(Feature::Weights) { rng.pick(&[1, 1, 2, 5, 60]) } else { 1 };
        let tier = if features.has(Feature::Tiers) { rng.pick(&TIERS) } else { 0 };
        Self { max_conns, rate, weight, tier }
    }

    pub(crate) fn server(self, address: &str) -> Server {
        let server = Server::new(address).max_conns(self.max_conns).weight(self.weight).tier(self.tier);
        match self.rate {
            Some(rate) => server.max_rps(rate.rps).burst(rate.burst),
            None => server,
        }
    }
}

/// The minimum of idle connections: at most the maximum of each server.
fn min_idle(features: Features) -> u32 {
    match features.has(Feature::MinIdle) {
        true => {
            if features.has(Feature::OneConnection) {
                1
            } else {
                2
            }
        }
        false => 0,
    }
}

/// The tiers of servers. More than half of the servers share one.
const TIERS: [u32; 5] = [0, 0, 2, 2, 15];

pub(crate) const POLICIES: [LoadBalancing; 3] =
    [LoadBalancing::RoundRobin, LoadBalancing::Weighted, LoadBalancing::LeastInUse];

/// Later than the end of any attempt, in milliseconds.
const NO_HEDGE: u64 = 30_000;

/// Times are in milliseconds, the step of tokio's timers, unless they are `Duration`s.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) features: Features,
    pub(crate) connect_timeout: u64,
    pub(crate) hedge_delay: u64,
    pub(crate) backoff_initial: u64,
    pub(crate) backoff_max: u64,
    pub(crate) consecutive_failures: u32,
    pub(crate) max_ejected_ratio: f64,
    pub(crate) ejection_base: u64,
    pub(crate) ejection_max: u64,
    pub(crate) enforce: bool,
    pub(crate) abandoned_after: Option<u64>,
    pub(crate) outage_retry: Option<u64>,
    pub(crate) fail_fast: bool,
    pub(crate) max_attempts: u32,
    pub(crate) max_waiters: usize,
    pub(crate) wait_timeout: Option<u64>,
    pub(crate) idle_timeout: Option<u64>,
    pub(crate) max_lifetime: Option<u64>,
    pub(crate) maintenance: bool,
    pub(crate) min_idle: u32,
    pub(crate) idle_check_interval: Option<u64>,
    pub(crate) policy: LoadBalancing,
    pub(crate) slow_start: Option<u64>,
    pub(crate) spill_when_full: bool,
    pub(crate) goodbye_timeout: u64,
    /// The servers registered at the start. The operator may add the others.
    pub(crate) first_servers: Vec<Limits>,
    pub(crate) servers: usize,
    pub(crate) callers: u64,
    /// Calls of each caller.
    pub(crate) calls: u64,
    /// The duration of the trouble.
    pub(crate) trouble: u64,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, stream::PLAN);
        let rng = &mut rng;
        let features = Features::new(seed);
        let servers = if features.has(Feature::SeveralServers) { rng.within(2..=4) } else { 1 };
        let first = rng.within(1..=servers);
        // Long pauses, where servers are tried ahead of their end.
        let longest = if features.has(Feature::OutageRetry) { 400 } else { 50 };
        let backoff_initial = rng.pick(&[5, 20, 50, longest]);
        let ejection_base = rng.pick(&[20, 60, 200]);
        Self {
            seed,
            features,
            connect_timeout: rng.pick(&[40, 100, 250]),
            hedge_delay: if features.has(Feature::Hedges) { rng.pick(&[5, 20, 60]) } else { NO_HEDGE },
            backoff_initial,
            backoff_max: (backoff_initial * rng.pick(&[1, 4, 10])).min(1_600),
            consecutive_failures: if features.has(Feature::Thresholds) { rng.pick(&[2, 3]) } else { 1 },
            max_ejected_ratio: if features.has(Feature::EjectionCap) { rng.pick(&[0.25, 0.34, 0.5]) } else { 1.0 },
            ejection_base,
            ejection_max: ejection_base * rng.pick(&[1, 4]),
            enforce: !features.has(Feature::NoEjections),
            abandoned_after: features.has(Feature::Abandoned).then(|| rng.pick(&[10, 60, 150])),
            outage_retry: features.has(Feature::OutageRetry).then(|| rng.pick(&[100, 200])),
            fail_fast: features.has(Feature::FailFast),
            max_attempts: if features.has(Feature::ManyAttempts) { rng.pick(&[2, 8]) } else { 1 },
            max_waiters: if features.has(Feature::SmallQueue) { rng.pick(&[1, 2]) } else { 10_000 },
            wait_timeout: features.has(Feature::WaitTimeout).then(|| rng.pick(&[1_000, 100])),
            idle_timeout: features.has(Feature::IdleTimeout).then_some(300),
            max_lifetime: features.has(Feature::Lifetime).then_some(400),
            maintenance: features.has(Feature::Maintenance),
            min_idle: min_idle(features),
            idle_check_interval: features.has(Feature::IdleChecks).then_some(50),
            first_servers: (0..first).map(|_| Limits::draw(rng, features)).collect(),
            servers: servers as usize,
            callers: rng.within(2..=12),
            calls: rng.within(5..=25),
            trouble: rng.within(200..=1_200),
            // Last, so that a seed without the feature has the plan that it had before there was one.
            policy: if features.has(Feature::Weights) { rng.pick(&POLICIES) } else { LoadBalancing::RoundRobin },
            slow_start: if features.has(Feature::Weights) { rng.pick(&[None, Some(200)]) } else { None },
            spill_when_full: features.has(Feature::Tiers) && rng.chance(50),
            goodbye_timeout: if features.has(Feature::Goodbyes) { rng.pick(&[5, 40]) } else { 1_000 },
        }
    }

    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.features.has(feature)
    }

    /// How many connections the pool keeps idle at each server.
    pub(crate) fn kept_idle(&self) -> usize {
        if self.maintenance { self.min_idle as usize } else { 0 }
    }

    /// The longest time between two sweeps, the coarse time included.
    pub(crate) fn sweep(&self) -> u64 {
        let times = [self.idle_timeout, self.max_lifetime, self.idle_check_interval];
        100 + times.into_iter().flatten().min().map_or(1_000, |shortest| (shortest / 4).clamp(100, 1_000))
    }

    /// How long the last of the callers may take once everything is good again: the rest of a backoff and of attempts
    /// that hang, and for each caller the longest use of a connection, late polls included, and the longest wait for a
    /// token.
    pub(crate) fn patience(&self) -> Duration {
        const USE: u64 = 600;
        const TOKEN: u64 = 50;
        let attempts = self.backoff_max + 3 * self.connect_timeout + 3 * self.hedge_delay.min(self.connect_timeout);
        Duration::from_millis(attempts + self.hooks() + self.callers * (USE + TOKEN) + 500)
    }

    /// How long after the trouble a server may take until it is up, if callers come: the rest of an attempt that hangs,
    /// the longest pause or ejection, the trial, and its recovery. Late polls may keep its permits meanwhile.
    pub(crate) fn healing(&self) -> Duration {
        let avoided = self.backoff_max.max(self.ejection_max * 3 / 2);
        Duration::from_millis(self.connect_timeout + avoided + self.hooks() + self.backoff_initial + 400)
    }

    /// How long orders and hooks may keep a server after the trouble: an order that ends soon, a recycle that hangs,
    /// and the goodbyes.
    fn hooks(&self) -> u64 {
        let orders = if self.has(Feature::Disables) { 100 } else { 0 };
        let recycles = if self.has(Feature::Recycles) { self.connect_timeout } else { 0 };
        orders + recycles + 2 * self.goodbye()
    }

    /// How long a goodbye may take.
    pub(crate) fn goodbye(&self) -> u64 {
        if self.has(Feature::Goodbyes) { self.goodbye_timeout } else { 0 }
    }
}
