//! What a seed decides before the run: the pool's settings, the servers, and which kinds of trouble there are at all.
//!
//! Not every run has every kind of trouble ("swarm testing"): what happens in each run hides what needs quiet to
//! happen.

use std::time::Duration;

use connring::Server;

use crate::rng::Rng;

/// The streams of a seed's numbers.
pub(crate) mod stream {
    pub(crate) const PLAN: u64 = 0;
    pub(crate) const NETWORK: u64 = 1;
    pub(crate) const WEATHER: u64 = 2;
    pub(crate) const OPERATOR: u64 = 3;
    pub(crate) const CALLERS: u64 = 100;
}

/// One server's limits, as the pool is told them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limits {
    pub(crate) max_conns: u32,
    pub(crate) rate: Option<Rate>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate {
    pub(crate) rps: f64,
    pub(crate) burst: u32,
}

impl Limits {
    pub(crate) fn draw(rng: &mut Rng, is_limited: bool) -> Self {
        let rate = (is_limited && rng.chance(70))
            .then(|| Rate { rps: rng.pick(&[20.0, 70.0, 300.0, 3_000.0]), burst: rng.within(1..=6) as u32 });
        Self { max_conns: rng.within(1..=4) as u32, rate }
    }

    pub(crate) fn server(self, address: &str) -> Server {
        let server = Server::new(address).max_conns(self.max_conns);
        match self.rate {
            Some(rate) => server.max_rps(rate.rps).burst(rate.burst),
            None => server,
        }
    }
}

/// Times are in milliseconds, the step of tokio's timers, unless they are `Duration`s.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) connect_timeout: u64,
    pub(crate) hedge_delay: u64,
    pub(crate) backoff_initial: u64,
    pub(crate) backoff_max: u64,
    pub(crate) fail_threshold: u32,
    pub(crate) max_dials: u32,
    pub(crate) max_waiting: usize,
    pub(crate) wait_timeout: Option<u64>,
    pub(crate) idle_timeout: Option<u64>,
    pub(crate) max_lifetime: Option<u64>,
    pub(crate) upkeep: bool,
    /// Those registered at the start; the operator may add the others.
    pub(crate) first_servers: Vec<Limits>,
    pub(crate) servers: usize,
    pub(crate) callers: u64,
    /// Calls of each caller.
    pub(crate) calls: u64,
    /// For how long there is trouble.
    pub(crate) trouble: u64,
    pub(crate) has_limits: bool,
    pub(crate) has_deaths: bool,
    pub(crate) has_hangs: bool,
    pub(crate) has_slowness: bool,
    /// Dials that fail by the client's own fault.
    pub(crate) has_own_faults: bool,
    pub(crate) has_operator: bool,
    /// Callers give up, at random moments.
    pub(crate) has_cancels: bool,
    /// Callers are polled late.
    pub(crate) has_stalls: bool,
    /// Callers end connections otherwise than by a release.
    pub(crate) has_losses: bool,
    pub(crate) has_other_calls: bool,
    /// The pool is closed in the middle.
    pub(crate) closes_early: bool,
    /// It is closed at the end, and not merely dropped.
    pub(crate) closes: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, stream::PLAN);
        let rng = &mut rng;
        let has_limits = rng.chance(50);
        let servers = rng.within(1..=4) as usize;
        let first = rng.within(1..=servers as u64) as usize;
        let backoff_initial = rng.pick(&[5, 20, 50]);
        Self {
            seed,
            connect_timeout: rng.pick(&[40, 100, 250]),
            hedge_delay: rng.pick(&[5, 20, 60]),
            backoff_initial,
            backoff_max: backoff_initial * rng.pick(&[1, 4, 10]),
            fail_threshold: rng.pick(&[1, 1, 2, 3]),
            max_dials: rng.pick(&[1, 2, 8]),
            max_waiting: if rng.chance(10) { 2 } else { 10_000 },
            wait_timeout: rng.pick(&[None, None, Some(1_000), Some(100)]),
            idle_timeout: rng.pick(&[None, None, Some(300)]),
            max_lifetime: rng.pick(&[None, None, Some(400)]),
            upkeep: rng.chance(70),
            first_servers: (0..first).map(|_| Limits::draw(rng, has_limits)).collect(),
            servers,
            callers: rng.within(2..=12),
            calls: rng.within(5..=25),
            trouble: rng.within(200..=1_200),
            has_limits,
            has_deaths: rng.chance(60),
            has_hangs: rng.chance(40),
            has_slowness: rng.chance(40),
            has_own_faults: rng.chance(20),
            has_operator: rng.chance(40),
            has_cancels: rng.chance(50),
            has_stalls: rng.chance(30),
            has_losses: rng.chance(60),
            has_other_calls: rng.chance(60),
            closes_early: rng.chance(5),
            closes: rng.chance(50),
        }
    }

    /// How long the last of the callers may take once everything is good again: the rest of a backoff and of dials that
    /// hang, and for each caller the longest use of a connection, late polls included, and the longest wait for a
    /// token.
    pub(crate) fn patience(&self) -> Duration {
        const USE: u64 = 400;
        const TOKEN: u64 = 50;
        let dials = self.backoff_max + 3 * self.connect_timeout + 3 * self.hedge_delay;
        Duration::from_millis(dials + self.callers * (USE + TOKEN) + 500)
    }
}
