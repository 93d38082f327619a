//! The settings of a pool, checked once.

use std::fmt;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::connector::Connector;
use crate::core::Shared;
use crate::ejection::Ejection;
use crate::error::BuildError;
use crate::observer::Observer;
use crate::pool::Pool;
use crate::server::{PoolLimits, Server};
use crate::settings::{Backoff, Settings};
use crate::sync::Arc;

/// Builds a [`Pool`]. Setters accept any value; [`build`](Builder::build) checks them all.
///
/// | knob | default | range |
/// |---|---|---|
/// | [`name`](Self::name) | `default` | not empty |
/// | [`server`](Self::server), [`servers`](Self::servers) | none | each name once, not empty, no blanks around it |
/// | [`max_conns_per_server`](Self::max_conns_per_server) | 10 | 1 to 16 777 215 |
/// | [`max_idle_per_server`](Self::max_idle_per_server) | the lower of `max_conns` and 1 024 | 1 to 1 048 576 |
/// | [`max_rps`](Self::max_rps) | no limit | 10⁻⁶ to 10⁹ a second |
/// | [`burst`](Self::burst) | 1 + 10 ms of the rate, rounded up | 1 to 18 years of the rate |
/// | [`max_concurrent_connects_per_server`](Self::max_concurrent_connects_per_server) | 8 | 1 to 65 535 |
/// | [`connect_timeout`](Self::connect_timeout) | 5 s | above 0, at most a year |
/// | [`hedge_delay`](Self::hedge_delay) | the larger of 100 ms and twice a usual connect | above 0, at most a year |
/// | [`backoff`](Self::backoff) | 100 ms to 5 s | 1 ms to a year, max not below initial |
/// | [`backoff_multiplier`](Self::backoff_multiplier) | 1.5 | 1.0 to 100.0 |
/// | [`backoff_spread_ratio`](Self::backoff_spread_ratio) | 0.5 | 0.0 to 1.0 |
/// | [`outage_retry`](Self::outage_retry) | 1 s | 10 ms to a year; `None`: the backoff alone |
/// | [`ejection`](Self::ejection) | after 5 failures in a row, at most half of the servers | see [`Ejection`] |
/// | [`abandoned_after`](Self::abandoned_after) | 300 ms | above 0, at most a year; `None`: never |
/// | [`fail_fast_when_down`](Self::fail_fast_when_down) | off | |
/// | [`goodbye_timeout`](Self::goodbye_timeout) | 1 s | above 0, at most a year |
/// | [`wait_timeout`](Self::wait_timeout) | 30 s | above 0, at most a year; `None`: for ever |
/// | [`max_waiters`](Self::max_waiters) | 10 000 | at least 1 |
/// | [`idle_timeout`](Self::idle_timeout) | 5 min | above 0, at most a year; `None`: for ever |
/// | [`max_lifetime`](Self::max_lifetime) | 30 min | above 0, at most a year; `None`: no end |
/// | [`max_lifetime_jitter_ratio`](Self::max_lifetime_jitter_ratio) | 0.2 | 0.0 to 1.0 |
/// | [`maintenance`](Self::maintenance) | on | |
/// | [`exact_times`](Self::exact_times) | off | |
/// | [`clock`](Self::clock) | [`Clock::system`] | |
/// | [`runtime`](Self::runtime) | the current one at `build`, else the first async caller's | |
/// | [`observer`](Self::observer) | none | |
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
            name: Arc::from("default"),
            limits: PoolLimits { max_conns: 10, max_rps: None, burst: None },
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
            max_lifetime: Some(Duration::from_secs(30 * 60)),
            max_lifetime_jitter_ratio: 0.2,
            maintenance: true,
            exact_times: false,
            seed: None,
        };
        Self { connector, settings, servers: Vec::new(), clock: None, runtime: None, observer: None }
    }

    /// The name of the pool in events and in its status. Default: `default`. Range: not empty.
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

    /// The most connections to one server that are open or being opened. Default: 10. Range: 1 to 16 777 215.
    pub fn max_conns_per_server(mut self, connections: u32) -> Self {
        self.settings.limits.max_conns = connections;
        self
    }

    /// The most idle connections of one server. One that does not fit is closed when it is released. The room takes 16
    /// bytes a connection. Default: the lower of the server's `max_conns` and 1 024. Range: 1 to 1 048 576.
    pub fn max_idle_per_server(mut self, connections: u32) -> Self {
        self.settings.max_idle_per_server = Some(connections);
        self
    }

    /// The most checkouts a second, for each server. Default: no limit. Range: 10⁻⁶ to 10⁹.
    ///
    /// A token bucket, by the generic cell rate algorithm: in any window of length `T` no more than `burst + rate × T`.
    pub fn max_rps(mut self, per_second: f64) -> Self {
        self.settings.limits.max_rps = Some(per_second);
        self
    }

    /// The most checkouts at once after a rest, for each server. Default: 1 + 10 ms of the rate, rounded up. Without a
    /// rate it has no effect. Range: 1 to what the rate gives in 18 years.
    ///
    /// A burst below the default keeps the bound but not the rate: timers tick in milliseconds, so that waiters get at
    /// most `burst` tokens in about 2 ms.
    pub fn burst(mut self, tokens: u32) -> Self {
        self.settings.limits.burst = Some(tokens);
        self
    }

    /// The most connect attempts at one server at once. Default: 8. Range: 1 to 65 535.
    pub fn max_concurrent_connects_per_server(mut self, attempts: u32) -> Self {
        self.settings.max_concurrent_connects_per_server = attempts;
        self
    }

    /// How long a connect attempt may take before it counts as failed. Default: 5 s. Range: above 0, at most a year.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long an attempt may take before another server is tried as well, for callers that still wait. Default
    /// (`None`): the larger of 100 ms and twice what connecting to that server takes, smoothed as TCP smooths its
    /// round-trip time (RFC 6298). Range: above 0, at most a year.
    ///
    /// The other server is one without a running attempt: a server that is slow to connect gets no more attempts for
    /// it. A value of your own should be above the time of a normal connect, handshakes and logins included.
    pub fn hedge_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.settings.hedge_delay = delay.into();
        self
    }

    /// How long connecting to a server pauses after a failed attempt: `initial` at first, longer with each further
    /// failure, up to `max`, each plus or minus the [spread](Self::backoff_spread_ratio). After a pause one attempt at
    /// a time is made until one succeeds. Default: 100 ms to 5 s. Range: 1 ms to a year, `max` not below `initial`.
    ///
    /// After the n-th failure in a row it is min(initial × multiplierⁿ⁻¹, max), times a factor drawn uniformly from 1 ±
    /// spread, as in cenkalti's backoff.
    pub fn backoff(mut self, initial: Duration, max: Duration) -> Self {
        (self.settings.backoff.initial, self.settings.backoff.max) = (initial, max);
        self
    }

    /// The factor by which the backoff grows with each failure. Default: 1.5. Range: 1.0 to 100.0. After 511 failures
    /// in a row it grows no more.
    pub fn backoff_multiplier(mut self, multiplier: f64) -> Self {
        self.settings.backoff.multiplier = multiplier;
        self
    }

    /// The spread of the backoff, so that clients do not come back together. Default: 0.5, for ±50 %. Range: 0.0 to
    /// 1.0.
    pub fn backoff_spread_ratio(mut self, ratio: f64) -> Self {
        self.settings.backoff.spread_ratio = ratio;
        self
    }

    /// When reported failures take a server out of use, and for how long. Default: [`Ejection::new`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.settings.ejection = ejection;
        self
    }

    /// After how long in use a connection that its caller drops counts as a failure of its server, if the server has
    /// answered nothing since the checkout. Finds servers that hang where callers put a timeout around the whole
    /// request. Default: 300 ms. Range: above 0, at most a year; `None`: never, for connections that stay with a caller
    /// without an answer (streams, subscriptions).
    pub fn abandoned_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.abandoned_after = time.into();
        self
    }

    /// While no server serves (a total outage) and callers wait, each server is tried at least once in this time,
    /// whatever its backoff. This goes on for the same time after the first server has come back. At most 100 attempts
    /// a second are made for it. Default: 1 s. Range: 10 ms to a year; `None`: the backoff alone.
    pub fn outage_retry(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.outage_retry = time.into();
        self
    }

    /// Whether callers get [`Unavailable`](crate::AcquireError::Unavailable) at once while all servers are down,
    /// instead of waiting for one. Default: off.
    pub fn fail_fast_when_down(mut self, on: bool) -> Self {
        self.settings.fail_fast_when_down = on;
        self
    }

    /// How long the connector's [`close`](Connector::close) may take for one connection, which is dropped then.
    /// Default: 1 s. Range: above 0, at most a year.
    pub fn goodbye_timeout(mut self, timeout: Duration) -> Self {
        self.settings.goodbye_timeout = timeout;
        self
    }

    /// How long [`Pool::acquire`] waits, connecting included. Default: 30 s. Range: above 0, at most a year; `None`: no
    /// bound.
    pub fn wait_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.wait_timeout = timeout.into();
        self
    }

    /// The most callers in the wait queue; further ones get an error at once. Default: 10 000. Range: at least 1.
    pub fn max_waiters(mut self, callers: usize) -> Self {
        self.settings.max_waiters = callers;
        self
    }

    /// How long a connection may be idle before it is closed, to about a second. Default: 5 min. Range: above 0, at
    /// most a year; `None`: no end.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_timeout = timeout.into();
        self
    }

    /// How long a connection lives: past that it is closed when it is released or idle. Default: 30 min. Range: above
    /// 0, at most a year; `None`: no end.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.settings.max_lifetime = lifetime.into();
        self
    }

    /// The share of the lifetime that is taken off at random, drawn once for each connection, so that connections
    /// opened together do not end together. Default: 0.2: between 80 % and 100 %. Range: 0.0 to 1.0.
    pub fn max_lifetime_jitter_ratio(mut self, ratio: f64) -> Self {
        self.settings.max_lifetime_jitter_ratio = ratio;
        self
    }

    /// Whether the background task closes idle connections that are too old or that the connector refuses, and keeps
    /// the coarse time. Default: on.
    ///
    /// Without it the pool works: such a connection is closed at its checkout, and each acquire and each
    /// release reads the clock. The background task runs all the same: it serves waiters and notices the end of its
    /// runtime.
    pub fn maintenance(mut self, on: bool) -> Self {
        self.settings.maintenance = on;
        self
    }

    /// Whether each checkout measures age and idle time by the clock, instead of the coarse time. Default: off.
    ///
    /// The background task stores the coarse time every 100 ms. While the process is frozen or the task's thread
    /// computes, that time stands still, and the first checkouts afterwards underestimate how long a connection was
    /// idle by as much: one past its idle timeout may be checked out, and [`TcpConnector`](crate::TcpConnector) may
    /// spare its peek. On, a checkout reads the clock, some 20 ns. A server with a rate limit reads it anyway, and so
    /// does a checkout that does not find a connection in its thread's shard.
    pub fn exact_times(mut self, on: bool) -> Self {
        self.settings.exact_times = on;
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
    /// Default: the current one at [`build`](Self::build), else the first async caller's.
    ///
    /// When it is shut down, its connections are closed and the runtime of the next async caller takes over. It must be
    /// driven: on a current-thread runtime that is not blocked on, no attempt comes to an end.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Hears what happens in the pool, with durations. Default: none, which costs nothing.
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
