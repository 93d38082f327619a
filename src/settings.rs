//! The settings of a pool and their ranges.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::ejection::Ejection;
use crate::error::{BuildError, ServerError};
use crate::load_balancing::LoadBalancing;
use crate::range::{YEAR, check, check_longest};
use crate::raw::PermitCounts;
use crate::server::{PoolLimits, Server};
use crate::servers::MAX_DEFAULT_IDLE;
use crate::sync::Arc;

const ANY_TIME: RangeInclusive<Duration> = Duration::from_nanos(1)..=YEAR;
/// The least distance of trials while no server serves: at most 100 a second.
pub(crate) const LEAST_PROBE_DISTANCE: Duration = Duration::from_millis(10);
/// The shortest and the longest time between two sweeps.
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(1);
/// The default hedge delay is at least this.
const SHORTEST_HEDGE: Duration = Duration::from_millis(100);
/// The largest `max_idle_per_server`: 16 MiB of room.
const MAX_IDLE: u32 = 1 << 20;

/// The name of a pool that was given none.
pub(crate) const DEFAULT_NAME: &str = "default";

/// The values of the builder's knobs of the same names.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) name: Arc<str>,
    pub(crate) limits: PoolLimits,
    /// `None`: the lower of the server's `max_conns` and 1 024.
    pub(crate) max_idle_per_server: Option<u32>,
    pub(crate) max_concurrent_connects_per_server: u32,
    pub(crate) connect_timeout: Duration,
    pub(crate) backoff: Backoff,
    /// `None`: the larger of 100 ms and twice the smoothed time of a connect.
    pub(crate) hedge_delay: Option<Duration>,
    pub(crate) ejection: Ejection,
    pub(crate) abandoned_after: Option<Duration>,
    pub(crate) outage_retry: Option<Duration>,
    pub(crate) fail_fast_when_down: bool,
    pub(crate) goodbye_timeout: Duration,
    pub(crate) wait_timeout: Option<Duration>,
    pub(crate) max_waiters: usize,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) idle_check_interval: Option<Duration>,
    pub(crate) max_lifetime: Option<Duration>,
    pub(crate) max_lifetime_jitter_ratio: f64,
    pub(crate) maintenance: bool,
    pub(crate) exact_times: bool,
    pub(crate) load_balancing: LoadBalancing,
    pub(crate) slow_start: Option<Duration>,
    pub(crate) spill_when_full: bool,
    /// `None`: a seed of its own for each pool.
    pub(crate) seed: Option<u64>,
}

impl Settings {
    /// Checks all settings. Errors name them by their keys in `PoolConfig`. Destructured without a rest, so that no new
    /// one is forgotten.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        let Self {
            name,
            limits: limits @ PoolLimits { max_conns, max_rps: _, burst: _, min_idle },
            max_idle_per_server,
            max_concurrent_connects_per_server,
            connect_timeout,
            backoff: Backoff { initial, max, multiplier, spread_ratio },
            hedge_delay,
            ejection,
            abandoned_after,
            outage_retry,
            fail_fast_when_down: _,
            goodbye_timeout,
            wait_timeout,
            max_waiters,
            idle_timeout,
            idle_check_interval,
            max_lifetime,
            max_lifetime_jitter_ratio,
            maintenance: _,
            exact_times: _,
            load_balancing: _,
            slow_start,
            spill_when_full: _,
            seed: _,
        } = self;
        if name.is_empty() {
            return Err(BuildError::EmptyName);
        }
        check("max_conns_per_server", *max_conns, 1..=PermitCounts::MOST_OPEN)?;
        check("max_idle_per_server", max_idle_per_server.unwrap_or(1), 1..=MAX_IDLE)?;
        check("min_idle_per_server", *min_idle, 0..=max_idle_per_server.unwrap_or(MAX_DEFAULT_IDLE))?;
        let most = PermitCounts::MOST_CONNECTING;
        check("max_concurrent_connects_per_server", *max_concurrent_connects_per_server, 1..=most)?;
        check("max_waiters", *max_waiters, 1..=usize::MAX)?;
        check_limits(limits)?;
        check("backoff_spread_ratio", *spread_ratio, 0.0..=1.0)?;
        check("backoff_multiplier", *multiplier, 1.0..=100.0)?;
        check("max_lifetime_jitter_ratio", *max_lifetime_jitter_ratio, 0.0..=1.0)?;
        check("connect_timeout", *connect_timeout, ANY_TIME)?;
        check("hedge_delay", hedge_delay.unwrap_or(YEAR), ANY_TIME)?;
        check("abandoned_after", abandoned_after.unwrap_or(YEAR), ANY_TIME)?;
        check("outage_retry", outage_retry.unwrap_or(YEAR), Duration::from_millis(10)..=YEAR)?;
        ejection.check()?;
        check("goodbye_timeout", *goodbye_timeout, ANY_TIME)?;
        check("wait_timeout", wait_timeout.unwrap_or(YEAR), ANY_TIME)?;
        check("idle_timeout", idle_timeout.unwrap_or(YEAR), ANY_TIME)?;
        check("slow_start", slow_start.unwrap_or(YEAR), ANY_TIME)?;
        check("idle_check_interval", idle_check_interval.unwrap_or(YEAR), Duration::from_millis(10)..=YEAR)?;
        check("max_lifetime", max_lifetime.unwrap_or(YEAR), ANY_TIME)?;
        check_longest(("init_backoff_interval", *initial), ("max_backoff_interval", *max))
    }
}

impl Settings {
    /// How many connections the background task keeps idle at each server.
    pub(crate) fn min_idle(&self) -> u32 {
        if self.maintenance { self.limits.min_idle } else { 0 }
    }

    /// The time between two sweeps: a quarter of the shortest time after which one has something to do.
    pub(crate) fn sweep_distance(&self) -> Duration {
        let times = [self.idle_timeout, self.max_lifetime, self.idle_check_interval];
        let shortest = times.into_iter().flatten().min().unwrap_or(YEAR);
        (shortest / 4).clamp(SWEEP_MIN, SWEEP_MAX)
    }

    /// The hedge delay at a server to which a connect usually takes so long.
    pub(crate) fn hedge_after(&self, usual: Duration) -> Duration {
        self.hedge_delay.unwrap_or(SHORTEST_HEDGE.max(2 * usual))
    }

    /// The distance of attempts ahead of their time, so that each of so many servers is tried once in `outage_retry`;
    /// `None` if there are none.
    pub(crate) fn ahead_distance(&self, servers: usize) -> Option<Duration> {
        let servers = u32::try_from(servers.max(1)).unwrap_or(u32::MAX);
        self.outage_retry.map(|retry| (retry / servers).max(LEAST_PROBE_DISTANCE))
    }
}

/// The pool's rate and burst must be in range for a server that sets none of its own. The minimum of idle connections
/// is checked for each server: all may have larger maxima of their own.
fn check_limits(limits: &PoolLimits) -> Result<(), BuildError> {
    match Server::new("any").limits(&PoolLimits { min_idle: 0, ..*limits }) {
        Err(ServerError::OutOfRange { setting, value, range, .. }) => {
            Err(BuildError::OutOfRange { setting, value, range })
        }
        _ => Ok(()),
    }
}

/// Exponential backoff with random spread, as in cenkalti's `backoff` for Go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backoff {
    pub(crate) initial: Duration,
    pub(crate) max: Duration,
    pub(crate) multiplier: f64,
    pub(crate) spread_ratio: f64,
}

impl Backoff {
    /// The interval after that many failures in a row, at least one. `draw` is uniform in `0.0..1.0`.
    pub(crate) fn interval(&self, failures: u32, draw: f64) -> Duration {
        let exponent = failures.saturating_sub(1).min(511) as i32;
        let interval = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        let interval = interval.min(self.max.as_secs_f64());
        let spread = 1.0 + self.spread_ratio * (2.0 * draw - 1.0);
        Duration::from_secs_f64(interval * spread)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;

    #[test]
    fn the_intervals_of_cenkaltis_backoff() {
        let [initial, max] = [60, 300].map(Duration::from_secs);
        let backoff = Backoff { initial, max, multiplier: 1.5, spread_ratio: 0.0 };
        let intervals: Vec<_> = (1..=6).map(|failures| backoff.interval(failures, 0.7).as_secs_f64()).collect();
        assert_eq!(intervals, [60.0, 90.0, 135.0, 202.5, 300.0, 300.0]);
        let spread = Backoff { spread_ratio: 0.5, ..backoff };
        assert_eq!([0.0, 0.5, 1.0].map(|draw| spread.interval(1, draw)), [30, 60, 90].map(Duration::from_secs));
        assert_eq!(backoff.interval(u32::MAX, 0.0), max);
    }
}
