//! The metrics of a pool: one table of all names, kinds and units, from which an adapter to a metrics library is made.
//!
//! Each metric has the attribute `pool`, the pool's [name](crate::Builder::name), besides those of the table. Counters
//! and gauges are read from a [`PoolStatus`]; an [`Observer`](crate::Observer) feeds the histograms but one. Units are
//! those of UCUM, as OpenTelemetry writes them. The last column is the name in [OpenTelemetry's conventions for pools
//! of client connections](https://opentelemetry.io/docs/specs/semconv/database/database-metrics/), where there is one.
//! There the attributes are `db.client.connection.pool.name` and `db.client.connection.state`.
//!
//! | name | kind | unit | attributes | OpenTelemetry |
//! |---|---|---|---|---|
//! | `connring.connections` | gauge | `{connection}` | `server`, `state` | `db.client.connection.count` |
//! | `connring.connections.max` | gauge | `{connection}` | `server` | `db.client.connection.max` |
//! | `connring.connections.max_idle` | gauge | `{connection}` | `server` | `db.client.connection.idle.max` |
//! | `connring.connections.min_idle` | gauge | `{connection}` | `server` | `db.client.connection.idle.min` |
//! | `connring.waiters` | gauge | `{request}` | | `db.client.connection.pending_requests` |
//! | `connring.server.state` | gauge | `1` | `server`, `state` | |
//! | `connring.server.connecting_paused` | gauge | `s` | `server` | |
//! | `connring.checkouts` | counter | `{checkout}` | `server` | |
//! | `connring.successes` | counter | `{checkout}` | `server` | |
//! | `connring.failures` | counter | `{failure}` | `server` | |
//! | `connring.ejections` | counter | `{ejection}` | `server` | |
//! | `connring.connects` | counter | `{connection}` | `server` | |
//! | `connring.connect_failures` | counter | `{attempt}` | `server` | |
//! | `connring.connect_timeouts` | counter | `{attempt}` | `server` | |
//! | `connring.closes` | counter | `{connection}` | `server`, `reason` | |
//! | `connring.waits` | counter | `{request}` | | |
//! | `connring.wait_timeouts` | counter | `{timeout}` | | `db.client.connection.timeouts` |
//! | `connring.queue_full` | counter | `{request}` | | |
//! | `connring.connect_time` | histogram | `s` | `server` | `db.client.connection.create_time` |
//! | `connring.connect_failure_time` | histogram | `s` | `server` | |
//! | `connring.connection_age` | histogram | `s` | `server`, `reason` | |
//! | `connring.wait_time` | histogram | `s` | `outcome` | `db.client.connection.wait_time` |
//! | `connring.use_time` | histogram | `s` | `server` | `db.client.connection.use_time` |
//!
//! The attributes:
//!
//! - `server`: the server's [name](crate::Server::name).
//! - `state` of `connring.connections`: `idle`, `used` (in use), `connecting` or `closing`; of `connring.server.state`:
//!   [`StateKind::name`](crate::StateKind::name).
//! - `reason`: [`CloseReason::name`](crate::CloseReason::name).
//! - `outcome`: [`WaitOutcome::name`](crate::WaitOutcome::name).
//!
//! A server's counters are gone with it; [`PoolStatus::totals`] goes on counting. No observer hears of
//! `connring.use_time`: a use is on the hot path. A caller times it, from the acquire to the release, as
//! `connring_metrics::UseTimes` does.
//!
//! # Examples
//!
//! Prints all counters and gauges:
//!
//! ```
//! use connring::metrics::METRICS;
//! # use connring::{Pool, Server, connect_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let connector = connect_fn(|_: Server| async { Ok::<_, std::io::Error>(()) });
//! # let pool = Pool::builder(connector).servers(["a", "b"]).build()?;
//! # let mut seen = Vec::new();
//! let status = pool.status();
//! for metric in METRICS {
//!     metric.read(&status, &mut |sample| {
//!         println!("{} {:?} {:?} {}", metric.name, sample.server, sample.attribute, sample.value);
//! #       seen.push((metric.name, sample.server.map(str::to_owned), sample.value));
//!     });
//! }
//! # assert!(seen.contains(&("connring.connections.max", Some("b".to_owned()), 10.0)));
//! # Ok(())
//! # }
//! ```

use std::fmt;

use self::Kind::{Counter, Gauge, Histogram};
use self::Source::{ByAttribute, Caller, Observer, Pool, Server};
use crate::close_reason::CloseReason;
use crate::status::{PoolStatus, ServerStatus, StateKind};

/// One metric of [`METRICS`].
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its name in OpenTelemetry's conventions, if it has one.
    pub opentelemetry: Option<&'static str>,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// The unit, as in UCUM.
    pub unit: &'static str,
    /// The names of its attributes besides `pool`.
    pub attributes: &'static [&'static str],
    /// What it measures, in a sentence.
    pub help: &'static str,
    source: Source,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The name: `counter`, `gauge` or `histogram`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One value of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Sample<'a> {
    /// The name of the server, if the metric has the attribute `server`.
    pub server: Option<&'a str>,
    /// The other attribute and its value, if the metric has one.
    pub attribute: Option<(&'static str, &'static str)>,
    /// The value. Counts are exact up to 2⁵³.
    pub value: f64,
}

/// Where the values of a metric come from.
#[derive(Clone, Copy)]
enum Source {
    /// One value of the pool.
    Pool(fn(&PoolStatus) -> u64),
    /// One value of each server.
    Server(fn(&ServerStatus) -> f64),
    /// Values of each server, by the second attribute.
    ByAttribute(fn(&ServerStatus, &mut dyn FnMut(&'static str, u64))),
    /// A method of `Observer` of this name.
    Observer(&'static str),
    /// A caller that times its uses.
    Caller,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool(_) | Self::Server(_) | Self::ByAttribute(_) => "PoolStatus",
            Self::Observer(method) => method,
            Self::Caller => "caller",
        })
    }
}

impl Metric {
    /// Passes each value in a snapshot to a closure. A histogram has none there.
    pub fn read(&self, status: &PoolStatus, put: &mut dyn FnMut(Sample<'_>)) {
        match self.source {
            Source::Pool(value) => put(Sample { server: None, attribute: None, value: value(status) as f64 }),
            Source::Server(value) => {
                for server in &status.servers {
                    put(Sample { server: Some(&server.name), attribute: None, value: value(server) });
                }
            }
            Source::ByAttribute(values) => {
                for server in &status.servers {
                    values(server, &mut |name, value| {
                        let attribute = Some((self.attributes[1], name));
                        put(Sample { server: Some(&server.name), attribute, value: value as f64 });
                    });
                }
            }
            Source::Observer(_) | Source::Caller => {}
        }
    }

    /// The method of [`Observer`](crate::Observer) that hears the values of a histogram: its argument `took` or `age`.
    /// `None` for `connring.use_time`, which callers time.
    pub fn observer_method(&self) -> Option<&'static str> {
        match self.source {
            Source::Observer(method) => Some(method),
            _ => None,
        }
    }

    const fn new(name: &'static str, kind: Kind, unit: &'static str, help: &'static str, source: Source) -> Self {
        let attributes: &[&str] = match source {
            Source::Server(_) => &["server"],
            _ => &[],
        };
        Self { name, opentelemetry: None, kind, unit, attributes, help, source }
    }

    const fn by(self, attributes: &'static [&'static str]) -> Self {
        Self { attributes, ..self }
    }

    const fn known_as(self, opentelemetry: &'static str) -> Self {
        Self { opentelemetry: Some(opentelemetry), ..self }
    }
}

const CONNECTION: &str = "{connection}";
const REQUEST: &str = "{request}";
const BY_STATE: &[&str] = &["server", "state"];
const BY_REASON: &[&str] = &["server", "reason"];

/// All metrics. Their values are those of the field of [`PoolStatus`], [`ServerStatus`] or
/// [`Totals`](crate::Totals) of about the same name.
pub const METRICS: &[Metric] = &[
    Metric::new("connring.connections", Gauge, CONNECTION, "Connections, by what they do.", ByAttribute(connections))
        .by(BY_STATE)
        .known_as("db.client.connection.count"),
    Metric::new(
        "connring.connections.max",
        Gauge,
        CONNECTION,
        "The most that may be open.",
        Server(|s| s.max_conns.into()),
    )
    .known_as("db.client.connection.max"),
    Metric::new(
        "connring.connections.max_idle",
        Gauge,
        CONNECTION,
        "The most that may be idle.",
        Server(|s| s.max_idle.into()),
    )
    .known_as("db.client.connection.idle.max"),
    Metric::new(
        "connring.connections.min_idle",
        Gauge,
        CONNECTION,
        "How many are kept idle.",
        Server(|s| s.min_idle.into()),
    )
    .known_as("db.client.connection.idle.min"),
    Metric::new("connring.waiters", Gauge, REQUEST, "Callers in the wait queue.", Pool(|p| p.waiters as u64))
        .known_as("db.client.connection.pending_requests"),
    Metric::new(
        "connring.server.state",
        Gauge,
        "1",
        "1 for the state of the server, 0 for others.",
        ByAttribute(states),
    )
    .by(BY_STATE),
    Metric::new(
        "connring.server.connecting_paused",
        Gauge,
        "s",
        "Until connecting resumes; 0 if it does not pause.",
        Server(|s| s.connecting_paused.unwrap_or_default().as_secs_f64()),
    ),
    Metric::new(
        "connring.checkouts",
        Counter,
        "{checkout}",
        "Uses of connections that ended.",
        Server(|s| s.totals.checkouts as f64),
    ),
    Metric::new(
        "connring.successes",
        Counter,
        "{checkout}",
        "Uses that ended well.",
        Server(|s| s.totals.successes as f64),
    ),
    Metric::new(
        "connring.failures",
        Counter,
        "{failure}",
        "Failures in use: reported by callers, abandoned uses, failed recycles, checks that timed out.",
        Server(|s| s.totals.failures as f64),
    ),
    Metric::new(
        "connring.ejections",
        Counter,
        "{ejection}",
        "How often failures took the server out of use.",
        Server(|s| s.totals.ejections as f64),
    ),
    Metric::new(
        "connring.connects",
        Counter,
        CONNECTION,
        "Attempts that connected.",
        Server(|s| s.totals.connects as f64),
    ),
    Metric::new(
        "connring.connect_failures",
        Counter,
        "{attempt}",
        "Attempts that failed, also by a timeout.",
        Server(|s| s.totals.connect_failures as f64),
    ),
    Metric::new(
        "connring.connect_timeouts",
        Counter,
        "{attempt}",
        "Attempts that timed out.",
        Server(|s| s.totals.connect_timeouts as f64),
    ),
    Metric::new(
        "connring.closes",
        Counter,
        CONNECTION,
        "Connections that were closed, by reason.",
        ByAttribute(closes),
    )
    .by(BY_REASON),
    Metric::new("connring.waits", Counter, REQUEST, "Callers that had to wait.", Pool(|p| p.waits)),
    Metric::new(
        "connring.wait_timeouts",
        Counter,
        "{timeout}",
        "Callers whose timeout came first.",
        Pool(|p| p.wait_timeouts),
    )
    .known_as("db.client.connection.timeouts"),
    Metric::new(
        "connring.queue_full",
        Counter,
        REQUEST,
        "Callers that found the wait queue full.",
        Pool(|p| p.queue_full),
    ),
    Metric::new(
        "connring.connect_time",
        Histogram,
        "s",
        "How long an attempt took that connected.",
        Observer("connected"),
    )
    .by(&["server"])
    .known_as("db.client.connection.create_time"),
    Metric::new(
        "connring.connect_failure_time",
        Histogram,
        "s",
        "How long an attempt took that failed.",
        Observer("connect_failed"),
    )
    .by(&["server"]),
    Metric::new(
        "connring.connection_age",
        Histogram,
        "s",
        "The age of a connection that was closed.",
        Observer("closed"),
    )
    .by(BY_REASON),
    Metric::new("connring.wait_time", Histogram, "s", "How long a caller was in the wait queue.", Observer("waited"))
        .by(&["outcome"])
        .known_as("db.client.connection.wait_time"),
    Metric::new("connring.use_time", Histogram, "s", "How long a caller had a connection.", Caller)
        .by(&["server"])
        .known_as("db.client.connection.use_time"),
];

fn connections(server: &ServerStatus, put: &mut dyn FnMut(&'static str, u64)) {
    put("idle", server.idle as u64);
    put("used", server.in_use.into());
    put("connecting", server.connecting.into());
    put("closing", server.closing.into());
}

fn states(server: &ServerStatus, put: &mut dyn FnMut(&'static str, u64)) {
    let is_of_events =
        |state: &StateKind| matches!(state, StateKind::Registered | StateKind::Enabled | StateKind::Gone);
    for state in StateKind::ALL.into_iter().filter(|state| !is_of_events(state)) {
        put(state.name(), u64::from(server.state.kind() == state));
    }
}

fn closes(server: &ServerStatus, put: &mut dyn FnMut(&'static str, u64)) {
    CloseReason::ALL.into_iter().for_each(|why| put(why.name(), server.totals.closes(why)));
}
