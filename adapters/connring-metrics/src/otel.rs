//! Export through the API of OpenTelemetry.
//!
//! [`Export`] makes the counters and gauges of a pool observable instruments of a meter, and [`observer`] records the
//! durations in histograms. The names are those of the [table](connring::metrics), in OpenTelemetry's conventions where
//! it has one.
//!
//! | attribute | of | value |
//! |---|---|---|
//! | `db.client.connection.pool.name` | all | the name of the pool |
//! | `db.client.connection.state` | `db.client.connection.count` | `idle`, `used`, `connecting`, `closing` |
//! | `server.address`, `server.port` | a server | the two parts of its address; all of it if it is not `host:port` |
//! | `connring.server` | a server | its name: servers may share an address |
//! | `connring.state`, `connring.reason`, `connring.outcome` | others of the table | as there |
//!
//! Gauges are up-down counters, as in the conventions. The series of a removed server end with the next collection,
//! but those of its histograms stay for as long as the SDK keeps them: with cumulative temporality for ever. The SDK
//! keeps 2 000 series of a metric unless a view says otherwise: `connring.server.state` has seven for each server, and
//! `connring.closes` one for each reason that has occurred.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use connring::metrics::{Kind, METRICS, Metric, Sample};
use connring::{Connector, Observer, Pool, PoolStatus, Server};
use opentelemetry::metrics::{AsyncInstrumentBuilder, Histogram, Meter};
use opentelemetry::{Key, KeyValue};

use crate::BUCKETS;
use crate::durations::{Durations, Record};
use crate::uses::UseTimes;

const POOL_NAME: &str = "db.client.connection.pool.name";

/// How old a snapshot may become in a collection.
const MAX_AGE: Duration = Duration::from_secs(5);

/// Returns an observer that records the durations of a pool: how long connecting and waiting took, and how old
/// connections became. `pool` is the name that the builder gets too: an observer does not hear it.
///
/// An acquire that finds an idle connection does not wait, and is not in `db.client.connection.wait_time`.
///
/// # Examples
///
/// ```
/// use connring::{Pool, TcpConnector};
/// use connring_metrics::otel;
/// # let meter = opentelemetry::global::meter("doc");
///
/// let observer = otel::observer("sessions", &meter);
/// let pool = Pool::builder(TcpConnector::new()).name("sessions").observer(observer).server("10.0.0.1:6379").build()?;
/// let export = otel::Export::new(&pool, &meter);
/// # Ok::<_, connring::BuildError>(())
/// ```
pub fn observer(pool: &str, meter: &Meter) -> impl Observer + Clone + use<> {
    Durations::new(|metric| Timer::new(metric, pool, meter))
}

/// Records for how long callers have connections of the pool of that name.
pub fn use_times(pool: &str, meter: &Meter) -> UseTimes {
    UseTimes::new(|metric| Timer::new(metric, pool, meter))
}

#[derive(Clone)]
struct Timer {
    histogram: Histogram<f64>,
    pool: KeyValue,
    key: Option<Key>,
}

impl Timer {
    fn new(metric: &Metric, pool: &str, meter: &Meter) -> Self {
        let histogram = meter.f64_histogram(name(metric)).with_unit(metric.unit).with_description(metric.help);
        let histogram = histogram.with_boundaries(BUCKETS.to_vec()).build();
        Self { histogram, pool: KeyValue::new(POOL_NAME, pool.to_owned()), key: attribute_key(metric) }
    }
}

impl Record for Timer {
    fn record(&self, took: Duration, server: Option<&Server>, attribute: Option<&'static str>) {
        let mut attributes = vec![self.pool.clone()];
        if let Some(server) = server {
            add_server(&mut attributes, server.name(), server.address());
        }
        let attribute = self.key.clone().zip(attribute);
        attributes.extend(attribute.map(|(key, value)| KeyValue::new(key, value)));
        self.histogram.record(took.as_secs_f64(), &attributes);
    }
}

/// Exports the counters and gauges of a pool until it or the pool's last clone is dropped: it does not keep the pool
/// open. The meter keeps the instruments, without values.
#[must_use = "dropping it ends the export"]
pub struct Export {
    _shared: Arc<Shared>,
}

impl Export {
    /// Makes the instruments. The pool's [`status`](Pool::status) is read once for each collection. Several pools may
    /// use one meter if their names differ.
    pub fn new<C: Connector>(pool: &Pool<C>, meter: &Meter) -> Self {
        let pool = pool.downgrade();
        Self::of(move || pool.upgrade().map(|pool| pool.status()), meter)
    }

    fn of(read: impl Fn() -> Option<PoolStatus> + Send + Sync + 'static, meter: &Meter) -> Self {
        let shared = Arc::new(Shared { read: Box::new(read), current: Mutex::new(None) });
        for metric in METRICS {
            let key = attribute_key(metric);
            let weak = Arc::downgrade(&shared);
            let observe = move |put: &mut dyn FnMut(f64, &[KeyValue])| {
                // `None`: the export or the pool was dropped.
                let Some(snapshot) = weak.upgrade().and_then(|shared| shared.snapshot(metric)) else { return };
                metric.read(&snapshot.status, &mut |sample| {
                    // A server has many reasons, most of which never occur, and the SDK's limit is 2 000 series.
                    let is_idle = metric.kind == Kind::Counter && sample.attribute.is_some() && sample.value == 0.0;
                    if !is_idle {
                        put(sample.value, &snapshot.attributes(&sample, &key));
                    }
                });
            };
            // Up-down counters for all gauges: the SDK goes on reporting the last value of a gauge of a removed server.
            match (metric.kind, metric.unit) {
                (Kind::Counter, _) => {
                    set(meter.u64_observable_counter(name(metric)), metric, observe, |v| v as u64).build();
                }
                (Kind::Gauge, "s") => {
                    set(meter.f64_observable_up_down_counter(name(metric)), metric, observe, |v| v).build();
                }
                (Kind::Gauge, _) => {
                    set(meter.i64_observable_up_down_counter(name(metric)), metric, observe, |v| v as i64).build();
                }
                // The observer's.
                _ => {}
            }
        }
        Self { _shared: shared }
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}

/// Gives an instrument its unit, its description and its values.
fn set<'a, I, M: 'static>(
    instrument: AsyncInstrumentBuilder<'a, I, M>,
    metric: &Metric,
    observe: impl Fn(&mut dyn FnMut(f64, &[KeyValue])) + Send + Sync + 'static,
    convert: fn(f64) -> M,
) -> AsyncInstrumentBuilder<'a, I, M> {
    let instrument = instrument.with_unit(metric.unit).with_description(metric.help);
    instrument.with_callback(move |to| observe(&mut |value, attributes| to.observe(convert(value), attributes)))
}

fn name(metric: &Metric) -> &'static str {
    metric.opentelemetry.unwrap_or(metric.name)
}

/// The name of a metric's attribute besides those of the pool and the server.
fn attribute_key(metric: &Metric) -> Option<Key> {
    let own = metric.attributes.iter().find(|name| **name != "server")?;
    Some(match (metric.opentelemetry, *own) {
        (Some(_), "state") => Key::from_static_str("db.client.connection.state"),
        (_, own) => Key::from(format!("connring.{own}")),
    })
}

fn add_server(attributes: &mut Vec<KeyValue>, name: &str, address: &str) {
    let (host, port) = split(address);
    attributes.push(KeyValue::new("server.address", host.to_owned()));
    attributes.extend(port.map(|port| KeyValue::new("server.port", i64::from(port))));
    attributes.push(KeyValue::new("connring.server", name.to_owned()));
}

/// The host and the port of an address, which may be any text.
fn split(address: &str) -> (&str, Option<u16>) {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let Some((host, port)) = parts else { return (address, None) };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => (host, Some(port)),
        // The end of an IPv6 address without a port.
        None if host.contains(':') => (address, None),
        None => (host, Some(port)),
    }
}

/// What the callbacks of the instruments share.
struct Shared {
    /// `None` once the pool was dropped.
    read: Box<dyn Fn() -> Option<PoolStatus> + Send + Sync>,
    current: Mutex<Option<Current>>,
}

struct Current {
    snapshot: Arc<Snapshot>,
    taken: Instant,
    /// The metrics that have read it.
    read_by: Vec<&'static str>,
}

impl Shared {
    /// Returns the snapshot of this collection; `None` once the pool was dropped.
    ///
    /// The API tells callbacks nothing of collections. But a collection calls each of them once, so that a metric that
    /// has read the snapshot is in the next one. The age limit is for collections of several readers at the same time.
    #[expect(clippy::disallowed_methods, reason = "the age of what is exported is real time")]
    fn snapshot(&self, metric: &Metric) -> Option<Arc<Snapshot>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let is_usable = |c: &Current| !c.read_by.contains(&metric.name) && c.taken.elapsed() < MAX_AGE;
        if !current.as_ref().is_some_and(is_usable) {
            *current = (self.read)().map(|status| {
                let snapshot = Arc::new(Snapshot::new(status));
                Current { snapshot, taken: Instant::now(), read_by: Vec::new() }
            });
        }
        let current = current.as_mut()?;
        current.read_by.push(metric.name);
        Some(Arc::clone(&current.snapshot))
    }
}

/// A status, with the attributes of the pool and of its servers, which many values have.
struct Snapshot {
    status: PoolStatus,
    pool: KeyValue,
    servers: HashMap<Arc<str>, Vec<KeyValue>>,
}

impl Snapshot {
    fn new(status: PoolStatus) -> Self {
        let pool = KeyValue::new(POOL_NAME, Arc::clone(&status.name));
        let attributes = |name: &str, address: &str| {
            let mut attributes = vec![pool.clone()];
            add_server(&mut attributes, name, address);
            attributes
        };
        let servers = status.servers.iter().map(|s| (Arc::clone(&s.name), attributes(&s.name, &s.address))).collect();
        Self { pool, servers, status }
    }

    fn attributes(&self, sample: &Sample<'_>, key: &Option<Key>) -> Vec<KeyValue> {
        let of_server = sample.server.and_then(|name| self.servers.get(name));
        let mut attributes = of_server.cloned().unwrap_or_else(|| vec![self.pool.clone()]);
        let own = key.clone().zip(sample.attribute);
        attributes.extend(own.map(|(key, (_, value))| KeyValue::new(key, value)));
        attributes
    }
}
