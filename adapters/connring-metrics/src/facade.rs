//! Export through the `metrics` facade, to Prometheus and others.
//!
//! [`Export`] sets the counters and gauges of a pool, and [`observer`] records the durations in histograms. Names and
//! labels are those of the [table](connring::metrics), and each metric has the label `pool`. Install the recorder
//! first: it is told the units and descriptions once.
//!
//! For Prometheus, build the exporter with `with_recommended_naming(true)`, which adds the suffixes `_total` and
//! `_seconds`, and with `set_buckets(`[`BUCKETS`](crate::BUCKETS)`)`, so that quantiles of several processes add up.
//!
//! # Servers that come and go
//!
//! The facade cannot end a series. The gauges of a removed server go to zero, and no series of it is updated any more.
//! With `idle_timeout` the exporter ends it then; let that be a few times the interval of the updates. The histograms
//! of a server that connects rarely end too, and begin again.
//!
//! The counts of a server that is added again begin at zero. A count that has fallen tells so, and its counter goes on
//! from where it was, unless the server was missing for 1 000 updates.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connring::metrics::{Kind, METRICS, Metric, Sample};
use connring::{Connector, Observer, Pool, PoolStatus, Server};
use metrics::{Key, Label, Level, Metadata, Recorder, Unit, with_recorder};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::durations::{Durations, Record};
use crate::uses::UseTimes;

const METADATA: Metadata<'_> = Metadata::new("connring", Level::INFO, None);

/// The shortest interval of updates.
const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// For how many updates the counts of a removed server are kept.
const KEEP: u32 = 1_000;

/// Returns an observer that records the durations of a pool: how long connecting and waiting took, and how old
/// connections became. `pool` is the name that the builder gets too: an observer does not hear it.
///
/// An acquire that finds an idle connection does not wait, and is not in `connring.wait_time`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::{Pool, TcpConnector};
/// use connring_metrics::facade;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let observer = facade::observer("sessions");
/// let pool = Pool::builder(TcpConnector::new()).name("sessions").observer(observer).server("10.0.0.1:6379").build()?;
/// let export = facade::Export::every(&pool, Duration::from_secs(5))?;
/// # Ok(())
/// # }
/// ```
pub fn observer(pool: &str) -> impl Observer + Clone + use<> {
    describe();
    let pool: Arc<str> = pool.into();
    Durations::new(|metric| Timer { metric, pool: Arc::clone(&pool) })
}

/// Records for how long callers have connections of the pool of that name.
pub fn use_times(pool: &str) -> UseTimes {
    describe();
    UseTimes::new(|metric| Timer { metric, pool: pool.into() })
}

#[derive(Clone)]
struct Timer {
    metric: &'static Metric,
    pool: Arc<str>,
}

impl Record for Timer {
    fn record(&self, took: Duration, server: Option<&Server>, attribute: Option<&'static str>) {
        let attribute = self.metric.attributes.last().copied().zip(attribute);
        let key = key(self.metric, &self.pool, server.map(Server::name), attribute);
        // A handle is not kept: it would record into nothing once the exporter has ended the idle series.
        with_recorder(|recorder| recorder.register_histogram(&key, &METADATA).record(took.as_secs_f64()));
    }
}

/// Exports the counters and gauges of a pool until it is dropped; then the gauges are zero. It does not keep the pool
/// open: the first update after its last clone was dropped sets the gauges to zero.
#[must_use = "dropping it ends the export"]
pub struct Export {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl Export {
    /// Sets the counters and gauges once, and again with each [`update`](Self::update): call it before you render a
    /// page. The names of the pools of a process must differ.
    pub fn new<C: Connector>(pool: &Pool<C>) -> Self {
        describe();
        let published = Published { last: pool.status(), counts: HashMap::new() };
        let pool = pool.downgrade();
        let read = Box::new(move || pool.upgrade().map(|pool| pool.status()));
        let shared = Shared { read, published: Mutex::new(published) };
        shared.update();
        Self { shared: Arc::new(shared), task: None }
    }

    /// As [`new`](Self::new), and updates at an interval, in a task of the current tokio runtime. Range: at least 1 ms.
    ///
    /// # Errors
    ///
    /// [`IntervalTooShort`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with the time driver.
    pub fn every<C: Connector>(pool: &Pool<C>, interval: Duration) -> Result<Self, IntervalTooShort> {
        if interval < MIN_INTERVAL {
            return Err(IntervalTooShort { interval });
        }
        let mut export = Self::new(pool);
        let weak = Arc::downgrade(&export.shared);
        export.task = Some(tokio::spawn(async move {
            loop {
                sleep(interval).await;
                let Some(shared) = weak.upgrade() else { return };
                shared.update();
            }
        }));
        Ok(export)
    }

    /// Sets the counters and gauges to the pool's [`status`](Pool::status) of now.
    pub fn update(&self) {
        self.shared.update();
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").finish_non_exhaustive()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// The interval of [`Export::every`] is out of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntervalTooShort {
    /// The interval.
    pub interval: Duration,
}

impl fmt::Display for IntervalTooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the interval is {:?}, below {MIN_INTERVAL:?}", self.interval)
    }
}

impl Error for IntervalTooShort {}

/// What the handle and its task share.
struct Shared {
    /// `None` once the pool was dropped.
    read: Box<dyn Fn() -> Option<PoolStatus> + Send + Sync>,
    published: Mutex<Published>,
}

impl Shared {
    fn update(&self) {
        // Locked before the status is read, so that no older one follows a newer one.
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let status = (self.read)();
        with_recorder(|recorder| match status {
            Some(status) => published.replace(status, recorder),
            None => published.clear_gauges(recorder, &|_| true),
        });
    }
}

/// Runs after the last update, also if the task is in the middle of one when the handle is dropped.
impl Drop for Shared {
    fn drop(&mut self) {
        let published = self.published.get_mut().unwrap_or_else(PoisonError::into_inner);
        with_recorder(|recorder| published.clear_gauges(recorder, &|_| true));
    }
}

/// What the recorder was told.
struct Published {
    last: PoolStatus,
    counts: HashMap<Arc<str>, ServerCounts>,
}

/// The counts of a server, by the names of the metric and of its other attribute.
#[derive(Default)]
struct ServerCounts {
    counts: HashMap<(&'static str, Option<&'static str>), Count>,
    /// The updates since it was removed.
    missing: u32,
}

#[derive(Default)]
struct Count {
    last: u64,
    /// The counts of its earlier registrations.
    before: u64,
}

impl Count {
    /// The value of a counter that never falls, although the pool's count begins again with a server.
    fn absolute(&mut self, value: u64) -> u64 {
        if value < self.last {
            self.before += self.last;
        }
        self.last = value;
        self.before + value
    }
}

impl Published {
    fn replace(&mut self, status: PoolStatus, recorder: &dyn Recorder) {
        let present: HashSet<_> = status.servers.iter().map(|server| Arc::clone(&server.name)).collect();
        self.clear_gauges(recorder, &|sample| sample.server.is_some_and(|name| !present.contains(name)));
        self.counts.retain(|name, counts| {
            counts.missing = if present.contains(name) { 0 } else { counts.missing + 1 };
            counts.missing <= KEEP
        });
        for name in present {
            self.counts.entry(name).or_default();
        }
        for metric in METRICS {
            metric.read(&status, &mut |sample| {
                let key = key(metric, &status.name, sample.server, sample.attribute);
                if metric.kind == Kind::Gauge {
                    return recorder.register_gauge(&key, &METADATA).set(sample.value);
                }
                let of_server = sample.server.and_then(|name| self.counts.get_mut(name));
                let value = sample.value as u64;
                let value = of_server.map_or(value, |server| {
                    let attribute = sample.attribute.map(|(_, value)| value);
                    server.counts.entry((metric.name, attribute)).or_default().absolute(value)
                });
                recorder.register_counter(&key, &METADATA).absolute(value);
            });
        }
        self.last = status;
    }

    /// Sets gauges that were published to zero.
    fn clear_gauges(&self, recorder: &dyn Recorder, is_over: &dyn Fn(&Sample<'_>) -> bool) {
        for metric in METRICS.iter().filter(|metric| metric.kind == Kind::Gauge) {
            metric.read(&self.last, &mut |sample| {
                if is_over(&sample) {
                    let key = key(metric, &self.last.name, sample.server, sample.attribute);
                    recorder.register_gauge(&key, &METADATA).set(0.0);
                }
            });
        }
    }
}

fn key(metric: &Metric, pool: &Arc<str>, server: Option<&str>, attribute: Option<(&'static str, &'static str)>) -> Key {
    let mut labels = vec![Label::new("pool", Arc::clone(pool))];
    labels.extend(server.map(|name| Label::new("server", name.to_owned())));
    labels.extend(attribute.map(|(name, value)| Label::new(name, value)));
    Key::from_parts(metric.name, labels)
}

/// Tells the recorder the units and descriptions.
fn describe() {
    with_recorder(|recorder| {
        for metric in METRICS {
            let unit = match metric.unit {
                "s" => Some(Unit::Seconds),
                "1" => None,
                _ => Some(Unit::Count),
            };
            match metric.kind {
                Kind::Counter => recorder.describe_counter(metric.name.into(), unit, metric.help.into()),
                Kind::Gauge => recorder.describe_gauge(metric.name.into(), unit, metric.help.into()),
                _ => recorder.describe_histogram(metric.name.into(), unit, metric.help.into()),
            }
        }
    });
}
