//! The settings of a pool as plain data, from a file or from flags.

#[cfg(feature = "serde")]
mod file;
#[cfg(feature = "clap")]
mod flags;
#[cfg(any(feature = "serde", feature = "clap"))]
mod value;

use std::time::Duration;

#[cfg(feature = "clap")]
pub use self::flags::{FlagPrefix, PrefixedConfig};
use crate::load_balancing::LoadBalancing;
use crate::server::Server;
use crate::settings::Settings;

/// One setting of a config.
#[cfg(any(feature = "serde", feature = "clap"))]
struct Setting<'a, T> {
    key: &'static str,
    #[cfg(feature = "clap")]
    help: &'static str,
    #[cfg(feature = "clap")]
    default: Option<&'static str>,
    value: &'a mut Option<T>,
}

/// Is shown all settings of a config, one by one.
#[cfg(any(feature = "serde", feature = "clap"))]
trait Visit {
    type Error;

    fn setting<T: value::Value>(&mut self, setting: Setting<'_, T>) -> Result<(), Self::Error>;
}

/// Declares the struct, from a list of settings: the help of its flag, its name, its kind, its default and its place in
/// `Settings`.
macro_rules! settings {
    (
        $(#[$attribute:meta])*
        pub struct $config:ident($settings:ident, $servers:ident) {
            $( $(#[doc = $help:literal])+ $key:ident: $kind:ty $(= $default:literal)? => $place:expr, )+
        }
    ) => {
        $(#[$attribute])*
        pub struct $config { $(
            $(#[doc = $help])+
            $(#[doc = concat!(" Default: `", $default, "`.")])?
            pub $key: Option<$kind>,
        )+ }

        impl $config {
            /// The settings that `self` gives, and of the others those that `other` gives: `flags.or(file)`. A list of
            /// servers replaces the other one.
            pub fn or(self, other: Self) -> Self {
                Self { $( $key: self.$key.or(other.$key), )+ }
            }

            pub(crate) fn apply_to(self, $settings: &mut Settings, $servers: &mut Vec<Server>) {
                $( if let Some(value) = self.$key { $place = value.into(); } )+
            }

            #[cfg(feature = "serde")]
            const KEYS: &'static [&'static str] = &[$( stringify!($key) ),+];

            #[cfg(any(feature = "serde", feature = "clap"))]
            fn visit<V: Visit>(&mut self, visitor: &mut V) -> Result<(), V::Error> {
                $( visitor.setting(Setting {
                    key: stringify!($key),
                    #[cfg(feature = "clap")]
                    help: concat!($($help),+),
                    #[cfg(feature = "clap")]
                    default: [$($default)?].first().copied(),
                    value: &mut self.$key,
                })?; )+
                Ok(())
            }
        }
    };
}

settings! {
    /// Settings of a pool that come from a file or from flags: the plain data among the knobs of
    /// [`Builder`](crate::Builder), each with the name of its setter. The two fields `…_backoff_interval` are the
    /// arguments of [`Builder::backoff`](crate::Builder::backoff), the fields `ejection_…` the setters of
    /// [`Ejection`](crate::Ejection).
    ///
    /// All are optional. [`Builder::config`](crate::Builder::config) sets those that are given and leaves the others as
    /// they are. [`build`](crate::Builder::build) checks the ranges, which the table of [`Builder`](crate::Builder)
    /// has. `Some(None)` is a duration that is switched off: `"none"` in a file, `none` as a flag.
    ///
    /// With the feature `serde` it is read from a file of any format, with the feature `clap` from flags. Durations are
    /// texts with their units, such as `"250ms"`, `"2m"` or `"1h 30m"`.
    ///
    /// # Examples
    ///
    /// A file:
    ///
    /// ```
    /// use connring::{Pool, PoolConfig, TcpConnector};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let file: PoolConfig = toml::from_str(
    ///     r#"
    ///         name = "sessions"
    ///         max_conns_per_server = 32
    ///         connect_timeout = "250ms"
    ///         idle_timeout = "none"            # idle connections stay open
    ///         load_balancing = "weighted"      # or "round-robin", "least-in-use"
    ///         ejection_consecutive_failures = 3
    ///
    ///         servers = [
    ///             "10.0.0.1:6379",
    ///             { address = "10.0.0.2:6379", weight = 3, max_conns = 64 },
    ///             { name = "far", address = "10.1.0.1:6379", tier = 1, tags = { zone = "b" } },
    ///         ]
    ///     "#,
    /// )?;
    /// let pool = Pool::builder(TcpConnector::new()).config(file).build()?;
    /// assert_eq!(&*pool.status().name, "sessions");
    /// assert_eq!(pool.status().servers[1].max_conns, 64);
    ///
    /// let error = toml::from_str::<PoolConfig>("connect_timeout = 250").unwrap_err();
    /// assert_eq!(
    ///     error.message(),
    ///     "connect_timeout: invalid type: integer `250`, \
    ///      expected a duration with a unit, such as \"250ms\" or \"2m\""
    /// );
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Flags, each of which overrides the file. A `PrefixedConfig` is for a second pool.
    ///
    /// ```
    /// use clap::Parser;
    /// use connring::PoolConfig;
    ///
    /// #[derive(Parser)]
    /// struct Flags {
    ///     #[command(flatten)]
    ///     pool: PoolConfig,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let flags = Flags::parse_from(["service", "--max-rps", "500", "--wait-timeout", "none"]);
    /// let file: PoolConfig = toml::from_str("max_rps = 100\nburst = 20")?;
    /// let config = flags.pool.or(file);
    /// assert_eq!((config.max_rps, config.burst, config.wait_timeout), (Some(500.0), Some(20), Some(None)));
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Debug, Clone, Default, PartialEq)]
    #[non_exhaustive]
    pub struct PoolConfig(settings, servers) {
        /// The name of the pool in events, metrics and its status. Has no flag.
        name: String = "default" => settings.name,
        /// The addresses of the servers. A file may have tables among them, with settings of their own.
        servers: Vec<Server> => *servers,
        /// The most connections to one server that are open or being opened.
        max_conns_per_server: u32 = "10" => settings.limits.max_conns,
        /// The most idle connections of one server; if not set, the lower of its maximum of connections and 1024.
        max_idle_per_server: u32 => settings.max_idle_per_server,
        /// How many connections are kept idle at each server that is up.
        min_idle_per_server: u32 = "0" => settings.limits.min_idle,
        /// The most checkouts a second, for each server; if not set, there is no limit.
        max_rps: f64 => settings.limits.max_rps,
        /// The most checkouts at once after a rest, for each server; if not set, 1 + 10 ms of the rate.
        burst: u32 => settings.limits.burst,
        /// The most connect attempts at one server at once.
        max_concurrent_connects_per_server: u32 = "8" => settings.max_concurrent_connects_per_server,
        /// How long a connect attempt may take before it counts as failed.
        connect_timeout: Duration = "5s" => settings.connect_timeout,
        /// How long an attempt may take before another server is tried as well; if not set, the larger of 100 ms and
        /// twice a usual connect.
        hedge_delay: Duration => settings.hedge_delay,
        /// How long connecting to a server pauses after a first failure.
        init_backoff_interval: Duration = "100ms" => settings.backoff.initial,
        /// How long connecting to a server pauses at most.
        max_backoff_interval: Duration = "5s" => settings.backoff.max,
        /// The factor by which the pause grows with each failure.
        backoff_multiplier: f64 = "1.5" => settings.backoff.multiplier,
        /// The spread of the pauses: 0.5 is ±50 %.
        backoff_spread_ratio: f64 = "0.5" => settings.backoff.spread_ratio,
        /// While no server serves and callers wait, each one is tried at least once in this time.
        outage_retry: Option<Duration> = "1s" => settings.outage_retry,
        /// How many reported failures in a row eject a server.
        ejection_consecutive_failures: u32 = "5" => settings.ejection.consecutive_failures,
        /// The part of a server's results of 10 s that ejects it if it failed; if not set, none does.
        ejection_failure_ratio: f64 => settings.ejection.failure_ratio,
        /// How many results in 10 s the failure ratio needs.
        ejection_min_results: u32 = "10" => settings.ejection.min_results,
        /// The largest part of a tier's servers that ejections may leave out of use while no worse tier serves.
        ejection_max_ejected_ratio: f64 = "0.5" => settings.ejection.max_ejected_ratio,
        /// How long the first ejection of a server lasts.
        ejection_base: Duration = "1s" => settings.ejection.base,
        /// How long an ejection lasts at most.
        ejection_max: Duration = "30s" => settings.ejection.max,
        /// Whether servers are ejected; if not, an ejection that would come is an event.
        ejection_enforce: bool = "true" => settings.ejection.enforce,
        /// After how long in use without an answer a dropped connection counts as a failure of its server.
        abandoned_after: Option<Duration> = "300ms" => settings.abandoned_after,
        /// Whether callers get an error at once while all servers are down.
        fail_fast_when_down: bool = "false" => settings.fail_fast_when_down,
        /// How long the goodbye to a connection may take.
        goodbye_timeout: Duration = "1s" => settings.goodbye_timeout,
        /// How long a caller waits for a connection, connecting included.
        wait_timeout: Option<Duration> = "30s" => settings.wait_timeout,
        /// The most callers that wait; further ones get an error at once.
        max_waiters: usize = "10000" => settings.max_waiters,
        /// How long a connection may be idle before it is closed.
        idle_timeout: Option<Duration> = "5m" => settings.idle_timeout,
        /// How long a connection may be idle before it is checked by a round trip.
        idle_check_interval: Option<Duration> = "none" => settings.idle_check_interval,
        /// How long a connection lives.
        max_lifetime: Option<Duration> = "30m" => settings.max_lifetime,
        /// The share of the lifetime over which the ends of connections are spread.
        max_lifetime_jitter_ratio: f64 = "0.2" => settings.max_lifetime_jitter_ratio,
        /// Whether a background task looks after idle connections.
        maintenance: bool = "true" => settings.maintenance,
        /// Whether each checkout measures idle times by the clock.
        exact_times: bool = "false" => settings.exact_times,
        /// How servers are chosen: round-robin, weighted or least-in-use.
        load_balancing: LoadBalancing = "round-robin" => settings.load_balancing,
        /// The time in which the weight of a server that comes up rises to the whole.
        slow_start: Option<Duration> = "none" => settings.slow_start,
        /// Whether callers use the next tier while the servers of the better ones are full.
        spill_when_full: bool = "false" => settings.spill_when_full,
    }
}
