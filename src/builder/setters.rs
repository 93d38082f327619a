//! The knobs.

use std::time::Duration;

use crate::builder::Builder;
use crate::connector::Connector;
use crate::ejection::Ejection;
use crate::load_balancing::LoadBalancing;

impl<C: Connector> Builder<C> {
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

    /// How many connections the background task keeps idle at each server that is up, besides those in use. Default: 0.
    /// Range: 0 to `max_idle_per_server`. A server whose `max_conns` is lower is refused with a
    /// [`ServerError`](crate::ServerError), at [`build`](Self::build) or when it is registered.
    ///
    /// A connection whose lifetime is about to end does not count, so it is replaced before. Attempts start where a
    /// permit is free: at most a quarter of the missing connections, or 2, at once for each server, and no more than
    /// [`max_concurrent_connects_per_server`](Self::max_concurrent_connects_per_server). After a failed connect one
    /// attempt at a time is made, when the pause is over.
    ///
    /// With a minimum, servers that are down are probed although no caller comes, and
    /// [`outage_retry`](Self::outage_retry) holds as if callers waited. A pool that is built outside a runtime opens
    /// them with its first async caller. Without [`maintenance`](Self::maintenance) nothing is kept idle.
    pub fn min_idle_per_server(mut self, connections: u32) -> Self {
        self.settings.limits.min_idle = connections;
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
    ///
    /// An attempt for waiting callers that has connected keeps its place for another tenth of the usual connect time,
    /// if that is 1 ms or more: what was just opened may come back meanwhile and serve those that still wait.
    pub fn max_concurrent_connects_per_server(mut self, attempts: u32) -> Self {
        self.settings.max_concurrent_connects_per_server = attempts;
        self
    }

    /// How long a connect attempt may take before it counts as failed, the connector's `check` included where it is a
    /// probe. Also bounds each [`check`](Connector::check) of an idle connection and each
    /// [`recycle`](Connector::recycle). Default: 5 s. Range: above 0, at most 365 days.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How long an attempt may take before another server is tried as well, for callers that still wait. Default
    /// (`None`): the larger of 100 ms and twice what connecting to that server takes, smoothed as TCP smooths its
    /// round-trip time (RFC 6298). Range: above 0, at most 365 days.
    ///
    /// The other server is one without a running attempt: a server that is slow to connect gets no more attempts for
    /// it. A value of your own should be above the time of a normal connect, handshakes and logins included.
    pub fn hedge_delay(mut self, delay: impl Into<Option<Duration>>) -> Self {
        self.settings.hedge_delay = delay.into();
        self
    }

    /// How long connecting to a server pauses after a failed attempt: `initial` at first, longer with each further
    /// failure, up to `max`, each plus or minus the [spread](Self::backoff_spread_ratio). After a pause one attempt at
    /// a time is made until one succeeds. Default: 100 ms to 5 s. Range: 1 ms to 365 days, `max` not below `initial`.
    /// Errors name them as `PoolConfig` does: `init_backoff_interval` and `max_backoff_interval`.
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
    /// answered nothing since the checkout: no connection of it was released or reported a success. The pool does not
    /// see the bytes. Finds servers that hang where callers put a timeout around the whole request. Default: 300 ms.
    /// Range: above 0, at most 365 days; `None`: never, for connections that stay with a caller without an answer
    /// (streams, subscriptions).
    ///
    /// Of no effect where the connector's [`after_use`](Connector::after_use) keeps dropped connections. If it has them
    /// recycled, the end of [`recycle`](Connector::recycle) tells.
    pub fn abandoned_after(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.abandoned_after = time.into();
        self
    }

    /// While no server serves (a total outage) and callers wait, each server is tried at least once in this time,
    /// whatever its backoff, as far as 100 attempts a second suffice for that. This goes on for the same time after the
    /// first server has come back. Default: 1 s. Range: 10 ms to 365 days; `None`: the backoff alone.
    pub fn outage_retry(mut self, time: impl Into<Option<Duration>>) -> Self {
        self.settings.outage_retry = time.into();
        self
    }

    /// Whether callers get [`Unavailable`](crate::AcquireError::Unavailable) at once while no server serves, since each
    /// is down or disabled, instead of waiting for one. Default: off.
    pub fn fail_fast_when_down(mut self, on: bool) -> Self {
        self.settings.fail_fast_when_down = on;
        self
    }

    /// How long the connector's [`close`](Connector::close) may take for one connection, which is dropped then.
    /// Default: 1 s. Range: above 0, at most 365 days.
    pub fn goodbye_timeout(mut self, timeout: Duration) -> Self {
        self.settings.goodbye_timeout = timeout;
        self
    }

    /// How long [`Pool::acquire`](crate::Pool::acquire) waits, connecting included. Default: 30 s. Range: above 0, at
    /// most 365 days; `None`: no bound.
    pub fn wait_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.wait_timeout = timeout.into();
        self
    }

    /// The most callers in the wait queue; further ones get [`QueueFull`](crate::AcquireError::QueueFull) at once.
    /// Default: 10 000. Range: at least 1.
    pub fn max_waiters(mut self, callers: usize) -> Self {
        self.settings.max_waiters = callers;
        self
    }

    /// How long a connection may be idle before it is closed, to about a second. Default: 5 min. Range: above 0, at
    /// most 365 days; `None`: no end, and none is closed for not being needed.
    ///
    /// Connections that were not needed for as long are closed, too, a few at each look, those that have been idle for
    /// longest first: where requests take turns on more connections than they need, none is ever idle for that long.
    /// Needed are as many as were in use at a time, as seen about once a second; one connection stays.
    ///
    /// With [`min_idle_per_server`](Self::min_idle_per_server) neither takes a server below its minimum, and a
    /// connection past its idle timeout may be checked out.
    pub fn idle_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_timeout = timeout.into();
        self
    }

    /// Runs [`Connector::check`] on connections that were neither used nor checked for that long, to about a second, or
    /// to a quarter of a shorter interval, but no less than 100 ms. Finds servers that hang, and connections that a
    /// network in between has dropped, without callers. Default: `None`, no checks. Range: 10 ms to 365 days.
    ///
    /// A check is bounded by [`connect_timeout`](Self::connect_timeout). An error closes the connection, and those of
    /// its server that have been idle for as long. A timeout closes it and counts as a reported failure of the server.
    /// At most a quarter of a server's idle connections are checked at a time, at least one. Meanwhile callers that
    /// find nothing else wait for them. A check is not a use: the idle timeout goes on.
    pub fn idle_check_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.settings.idle_check_interval = interval.into();
        self
    }

    /// How long a connection lives: past that it is not checked out any more, and closed when it is released or, to
    /// about a second, idle. Of many that end together a few close at a time. Default: 30 min. Range: above 0, at most
    /// 365 days; `None`: no end.
    pub fn max_lifetime(mut self, lifetime: impl Into<Option<Duration>>) -> Self {
        self.settings.max_lifetime = lifetime.into();
        self
    }

    /// The share of the lifetime over which the ends of connections that were opened together are spread evenly, by
    /// steps of the golden ratio from a random start. Default: 0.2: between 80 % and 100 %. Range: 0.0 to 1.0.
    pub fn max_lifetime_jitter_ratio(mut self, ratio: f64) -> Self {
        self.settings.max_lifetime_jitter_ratio = ratio;
        self
    }

    /// Whether the background task looks after idle connections and keeps the coarse time. Default: on.
    ///
    /// | | on | off |
    /// |---|---|---|
    /// | [`max_lifetime`](Self::max_lifetime) | sweeps, checkouts, releases | checkouts and releases |
    /// | [`idle_timeout`](Self::idle_timeout) | sweeps, and checkouts without a minimum | checkouts |
    /// | closing connections that are not needed | sweeps | no |
    /// | [`min_idle_per_server`](Self::min_idle_per_server) | kept | no |
    /// | [`idle_check_interval`](Self::idle_check_interval) | checked | no |
    /// | [`Connector::is_reusable`] | sweeps and checkouts | checkouts |
    /// | the time | every 100 ms for all | each acquire and each release reads the clock |
    /// | [`Ejection::failure_ratio`], [`slow_start`](Self::slow_start) | yes | no |
    /// | waiters, probes, recoveries, the end of a disabling, the end of the runtime | yes | yes |
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

    /// How the pool chooses servers. Default: [`LoadBalancing::RoundRobin`]. While the pool runs, see
    /// [`Pool::set_load_balancing`](crate::Pool::set_load_balancing).
    pub fn load_balancing(mut self, policy: LoadBalancing) -> Self {
        self.settings.load_balancing = policy;
        self
    }

    /// The time in which the weight of a server that comes up again, or is added to a running pool, rises from a tenth
    /// to the whole: for servers whose caches are cold. Only with [`LoadBalancing::Weighted`], and with
    /// [`maintenance`](Self::maintenance). Default: `None`, off. Range: above 0, at most 365 days.
    ///
    /// The weight rises at each tick, of 100 ms. Servers that come up together rise together.
    pub fn slow_start(mut self, window: impl Into<Option<Duration>>) -> Self {
        self.settings.slow_start = window.into();
        self
    }

    /// Whether a caller that would wait uses servers of the next [tier](crate::Server::tier) while all servers of the
    /// tiers in use are full: they have no idle connection and `max_conns` open. Default: off, such a caller waits.
    pub fn spill_when_full(mut self, on: bool) -> Self {
        self.settings.spill_when_full = on;
        self
    }
}
