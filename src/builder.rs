//! The settings of a pool, checked once.

mod setters;

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::config::PoolConfig;
use crate::connector::Connector;
use crate::core::Shared;
use crate::ejection::Ejection;
use crate::error::BuildError;
use crate::load_balancing::LoadBalancing;
use crate::observer::Observer;
use crate::pool::Pool;
use crate::server::{PoolLimits, Server};
use crate::settings::{Backoff, DEFAULT_NAME, Settings};
use crate::sync::Arc;

/// Builds a [`Pool`]. Setters accept any value; [`build`](Builder::build) checks them all.
///
/// | knob | default | range |
/// |---|---|---|
/// | [`name`](Self::name) | `default` | not empty |
/// | [`server`](Self::server), [`servers`](Self::servers) | none | each name once, not empty, no blanks around it |
/// | [`max_conns_per_server`](Self::max_conns_per_server) | 10 | 1 to 16 777 215 |
/// | [`max_idle_per_server`](Self::max_idle_per_server) | the lower of `max_conns` and 1 024 | 1 to 1 048 576 |
/// | [`min_idle_per_server`](Self::min_idle_per_server) | 0 | 0 to `max_idle_per_server` and the servers' `max_conns` |
/// | [`max_rps`](Self::max_rps) | no limit | 10⁻⁶ to 10⁹ a second |
/// | [`burst`](Self::burst) | 1 + 10 ms of the rate, rounded up | 1 to 18 years of the rate |
/// | [`max_concurrent_connects_per_server`](Self::max_concurrent_connects_per_server) | 8 | 1 to 65 535 |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s | above 0, at most 365 days |
/// | [`hedge_delay`](Self::hedge_delay) | the larger of 100 ms and twice a usual connect | above 0, at most 365 days |
/// | [`backoff`](Self::backoff) | 100 ms to 5 s | 1 ms to 365 days, max not below initial |
/// | [`backoff_multiplier`](Self::backoff_multiplier) | 1.5 | 1.0 to 100.0 |
/// | [`backoff_spread_ratio`](Self::backoff_spread_ratio) | 0.5 | 0.0 to 1.0 |
/// | [`outage_retry`](Self::outage_retry) | 1 s | 10 ms to 365 days; `None`: the backoff alone |
/// | [`ejection`](Self::ejection) | as follows | |
/// | … [`consecutive_failures`](Ejection::consecutive_failures) | 5, within 10 s | 1 to 524 287 |
/// | … [`failure_ratio`](Ejection::failure_ratio) | `None`: off | 0.001 to 1.0 |
/// | … [`min_results`](Ejection::min_results) | 10 | at least 1 |
/// | … [`max_ejected_ratio`](Ejection::max_ejected_ratio) | 0.5, of a tier | 0.0 to 1.0 |
/// | … [`base`](Ejection::base) | 1 s | 1 ms to 365 days |
/// | … [`max`](Ejection::max) | 30 s | `base` to 365 days |
/// | … [`enforce`](Ejection::enforce) | on | |
/// | [`abandoned_after`](Self::abandoned_after) | 300 ms | above 0, at most 365 days; `None`: never |
/// | [`fail_fast_when_down`](Self::fail_fast_when_down) | off | |
/// | [`goodbye_timeout`](Self::goodbye_timeout) | 1 s | above 0, at most 365 days |
/// | [`wait_timeout`](Self::wait_timeout) | 30 s | above 0, at most 365 days; `None`: for ever |
/// | [`max_waiters`](Self::max_waiters) | 10 000 | at least 1 |
/// | [`idle_timeout`](Self::idle_timeout) | 5 min | above 0, at most 365 days; `None`: for ever |
/// | [`idle_check_interval`](Self::idle_check_interval) | `None`: no checks | 10 ms to 365 days |
/// | [`max_lifetime`](Self::max_lifetime) | 30 min | above 0, at most 365 days; `None`: no end |
/// | [`max_lifetime_jitter_ratio`](Self::max_lifetime_jitter_ratio) | 0.2 | 0.0 to 1.0 |
/// | [`maintenance`](Self::maintenance) | on | |
/// | [`exact_times`](Self::exact_times) | off | |
/// | [`load_balancing`](Self::load_balancing) | [`LoadBalancing::RoundRobin`] | |
/// | [`slow_start`](Self::slow_start) | `None`: off | above 0, at most 365 days |
/// | [`spill_when_full`](Self::spill_when_full) | off | |
/// | [`clock`](Self::clock) | [`Clock::system`] | |
/// | [`runtime`](Self::runtime) | the current one at `build`, else the first async caller's | |
/// | [`observer`](Self::observer) | none | |
///
/// [`config`](Self::config) sets those that come from a file or from flags.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::{Pool, Server, TcpConnector};
///
/// let builder = Pool::builder(TcpConnector::new())
///     .max_conns_per_server(32)
///     .connect_timeout(Duration::from_secs(1))
///     .wait_timeout(None)
///     .server("10.0.0.1:6379")
///     .server(Server::new("10.0.0.2:6379").max_rps(500.0));
/// assert!(builder.build().is_ok());
///
/// let error = Pool::builder(TcpConnector::new()).max_conns_per_server(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "max_conns_per_server is 0, outside 1..=16777215");
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<C: Connector> {
    connector: C,
    settings: Settings,
    servers: Vec<Server>,
    clock: Option<Clock>,
    runtime: Option<Handle>,
    observer: Option<Box<dyn Observer>>,
}

impl<C: Connector> Builder<C> {
    pub(crate) fn new(connector: C) -> Self {
        let settings = Settings {
            name: Arc::from(DEFAULT_NAME),
            limits: PoolLimits { max_conns: 10, max_rps: None, burst: None, min_idle: 0 },
            max_idle_per_server: None,
            max_concurrent_connects_per_server: 8,
            connect_timeout: Duration::from_secs(5),
            backoff: Backoff {
                initial: Duration::from_millis(100),
                max: Duration::from_secs(5),
                multiplier: 1.5,
                spread_ratio: 0.5,
            },
            hedge_delay: None,
            ejection: Ejection::new(),
            abandoned_after: Some(Duration::from_millis(300)),
            outage_retry: Some(Duration::from_secs(1)),
            fail_fast_when_down: false,
            goodbye_timeout: Duration::from_secs(1),
            wait_timeout: Some(Duration::from_secs(30)),
            max_waiters: 10_000,
            idle_timeout: Some(Duration::from_secs(5 * 60)),
            idle_check_interval: None,
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            max_lifetime_jitter_ratio: 0.2,
            maintenance: true,
            exact_times: false,
            load_balancing: LoadBalancing::RoundRobin,
            slow_start: None,
            spill_when_full: false,
            seed: None,
        };
        Self { connector, settings, servers: Vec::new(), clock: None, runtime: None, observer: None }
    }

    /// The name of the pool in events, metrics, its status, and the [`AcquireError`](crate::AcquireError)s that tell of
    /// servers. Default: `default`, which errors do not print. Range: not empty.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.settings.name = name.into();
        self
    }

    /// Adds a server. More can be registered at any time; a pool may start without any. Range: each name once; names
    /// and addresses are not empty and have no blanks around them.
    pub fn server(mut self, server: impl Into<Server>) -> Self {
        self.servers.push(server.into());
        self
    }

    /// Adds several servers.
    pub fn servers<S: Into<Server>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.servers.extend(servers.into_iter().map(Into::into));
        self
    }

    /// Sets the settings that a config gives, and leaves the others as they are. Its servers replace those that were
    /// added before.
    pub fn config(mut self, config: PoolConfig) -> Self {
        config.apply_to(&mut self.settings, &mut self.servers);
        self
    }

    /// Makes all that is random in the pool follow from a seed, for tests that must do the same each time. The first
    /// turn is that of the server at the position `seed` modulo the number of servers. Default: another seed for each
    /// pool. Feature `test-util`.
    #[cfg(feature = "test-util")]
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }

    /// Where the time comes from. Default: [`Clock::system`]. On tokio's paused time it must be [`Clock::tokio`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// The tokio runtime of connect attempts and of the background task. It needs the time driver, and for sockets the
    /// I/O driver.
    /// Default: the current one at [`build`](Self::build), else that of the first async caller, or of the first
    /// `try_acquire` in a runtime that starts an attempt.
    ///
    /// When it is shut down, its connections are closed and the runtime of the next async caller takes over. It must be
    /// driven: on a current-thread runtime that is not blocked on, no attempt comes to an end.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Hears what happens in the pool, with durations. Replaces the one that was set: a pair `(A, B)` of observers is
    /// one, too. Default: none, which costs nothing.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Box::new(observer));
        self
    }

    /// Builds the pool.
    ///
    /// # Errors
    ///
    /// A [`BuildError`] that names the first value out of its range, or the server that was refused: its name or
    /// address is empty or has blanks around it, its name is listed twice, or a limit of its own is out of its range.
    pub fn build(self) -> Result<Pool<C>, BuildError> {
        let Self { connector, settings, servers, clock, runtime, observer } = self;
        settings.check()?;
        let runtime = runtime.or_else(|| Handle::try_current().ok());
        let has_runtime = runtime.is_some();
        let clock = clock.unwrap_or_else(Clock::system);
        let pool = Pool::new(Shared::new(connector, settings, clock, runtime, observer));
        pool.set_servers(servers)?;
        if has_runtime {
            pool.start_background();
        }
        Ok(pool)
    }
}

impl<C: Connector> fmt::Debug for Builder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .field("servers", &self.servers)
            .field("clock", &self.clock)
            .field("runtime", &self.runtime)
            .finish_non_exhaustive()
    }
}
