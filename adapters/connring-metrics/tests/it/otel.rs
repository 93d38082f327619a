use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use connring::metrics::{Kind, METRICS, Metric};
use connring::{PoolStatus, ServerStatus};
use connring_metrics::opentelemetry::KeyValue;
use connring_metrics::opentelemetry::metrics::MeterProvider;
use connring_metrics::otel::{Export, observer};
use connring_metrics::{BUCKETS, otel};
use opentelemetry_sdk::metrics::data::{AggregatedMetrics, MetricData, ResourceMetrics};
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

use crate::scenario::{POOL, SECOND, scenario};

/// A series: the name and the attributes.
type Series = (String, BTreeSet<String>);

#[derive(Debug, Clone, Default)]
struct Collected {
    /// Of histograms their sums.
    values: BTreeMap<Series, f64>,
    /// The number of values, of histograms.
    counts: BTreeMap<Series, u64>,
    /// The unit, the description and the kind, by name.
    kinds: BTreeMap<String, (String, String, Kind)>,
}

fn provider_of(exporter: &InMemoryMetricExporter) -> SdkMeterProvider {
    let reader = PeriodicReader::builder(exporter.clone()).with_interval(Duration::from_secs(86_400)).build();
    SdkMeterProvider::builder().with_reader(reader).build()
}

fn collect(exporter: &InMemoryMetricExporter, provider: &SdkMeterProvider) -> Collected {
    exporter.reset();
    provider.force_flush().expect("it exports");
    let metrics = exporter.get_finished_metrics().expect("it is not poisoned");
    metrics.iter().map(Collected::of).next_back().unwrap_or_default()
}

fn attributes<'a>(attributes: impl Iterator<Item = &'a KeyValue>) -> BTreeSet<String> {
    attributes.map(|a| format!("{}={}", a.key, a.value)).collect()
}

impl Collected {
    fn of(metrics: &ResourceMetrics) -> Self {
        let mut collected = Self::default();
        for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
            let counts = &mut collected.counts;
            let mut put = |of, value| {
                let before = collected.values.insert((metric.name().to_owned(), of), value);
                assert_eq!(before, None, "{} has two values of the same attributes", metric.name());
            };
            let kind = match metric.data() {
                AggregatedMetrics::U64(MetricData::Sum(sum)) if sum.is_monotonic() => {
                    sum.data_points().for_each(|point| put(attributes(point.attributes()), point.value() as f64));
                    Kind::Counter
                }
                AggregatedMetrics::I64(MetricData::Sum(sum)) if !sum.is_monotonic() => {
                    sum.data_points().for_each(|point| put(attributes(point.attributes()), point.value() as f64));
                    Kind::Gauge
                }
                AggregatedMetrics::F64(MetricData::Sum(sum)) if !sum.is_monotonic() => {
                    sum.data_points().for_each(|point| put(attributes(point.attributes()), point.value()));
                    Kind::Gauge
                }
                AggregatedMetrics::F64(MetricData::Histogram(histogram)) => {
                    for point in histogram.data_points() {
                        assert_eq!(point.bounds().collect::<Vec<_>>(), BUCKETS);
                        put(attributes(point.attributes()), point.sum());
                        counts.insert((metric.name().to_owned(), attributes(point.attributes())), point.count());
                    }
                    Kind::Histogram
                }
                other => panic!("{} is {other:?}", metric.name()),
            };
            let about = (metric.unit().to_owned(), metric.description().to_owned(), kind);
            collected.kinds.insert(metric.name().to_owned(), about);
        }
        collected
    }

    fn has(&self, name: &str) -> bool {
        self.values.keys().any(|(known, _)| known == name)
    }
}

fn name(metric: &Metric) -> &'static str {
    metric.opentelemetry.unwrap_or(metric.name)
}

/// The attributes that a value must have.
fn expected(server: Option<&ServerStatus>, own: Option<(&str, &str)>) -> BTreeSet<String> {
    let mut all = BTreeSet::from([format!("db.client.connection.pool.name={POOL}")]);
    if let Some(server) = server {
        let (host, port) = server.address.split_once(':').expect("it has a port");
        all.extend([
            format!("server.address={host}"),
            format!("server.port={port}"),
            format!("connring.server={}", server.name),
        ]);
    }
    all.extend(own.map(|(key, value)| format!("{key}={value}")));
    all
}

fn assert_has_the_values(collected: &Collected, status: &PoolStatus) {
    let mut values = collected.values.clone();
    for metric in METRICS.iter().filter(|metric| metric.kind != Kind::Histogram) {
        metric.read(status, &mut |sample| {
            let server = sample.server.and_then(|name| status.servers.iter().find(|server| &*server.name == name));
            let own_key = match metric.name {
                "connring.connections" => "db.client.connection.state",
                "connring.server.state" => "connring.state",
                _ => "connring.reason",
            };
            let own = sample.attribute.map(|(_, value)| (own_key, value));
            let series = (name(metric).to_owned(), expected(server, own));
            let is_left_out = metric.name == "connring.closes" && sample.value == 0.0;
            assert_eq!(values.remove(&series), (!is_left_out).then_some(sample.value), "{series:?}");
        });
    }
    values.retain(|(name, _), _| collected.kinds[name].2 != Kind::Histogram);
    assert!(values.is_empty(), "{values:?}");
}

#[tokio::test(start_paused = true)]
async fn collection_has_the_values_of_the_status_under_the_names_of_the_conventions() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider_of(&exporter);
    let meter = provider.meter("test");
    let mut scenario = scenario(observer(POOL, &meter)).await;
    let _export = Export::new(&scenario.pool, &meter);
    let timed = otel::use_times(POOL, &meter).start(scenario.held.remove(0));
    scenario.held.push(timed.end());
    let collected = collect(&exporter, &provider);
    assert_has_the_values(&collected, &scenario.pool.status());
    for metric in METRICS {
        let about = (metric.unit.to_owned(), metric.help.to_owned(), metric.kind);
        assert_eq!(collected.kinds.get(name(metric)), Some(&about), "{}", metric.name);
    }
    for known in
        ["count", "idle.max", "idle.min", "max", "pending_requests", "timeouts", "create_time", "wait_time", "use_time"]
    {
        assert!(collected.kinds.contains_key(&format!("db.client.connection.{known}")), "{known}");
    }

    scenario.held.clear();
    tokio::time::sleep(SECOND * 3).await;
    assert_has_the_values(&collect(&exporter, &provider), &scenario.pool.status());
}

#[tokio::test(start_paused = true)]
async fn histograms_have_the_durations_in_seconds() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider_of(&exporter);
    let meter = provider.meter("test");
    let scenario = scenario(observer(POOL, &meter)).await;
    let collected = collect(&exporter, &provider);
    for server in &scenario.pool.status().servers {
        let sum = collected.values[&("db.client.connection.create_time".to_owned(), expected(Some(server), None))];
        let each = sum / server.totals.connects as f64;
        assert!((each - 0.02).abs() < 0.002, "{each} s");
    }
    let timed_out = expected(None, Some(("connring.outcome", "timed_out")));
    assert_eq!(collected.values.get(&("db.client.connection.wait_time".to_owned(), timed_out)), Some(&0.5));
    let ages: Vec<_> = collected.values.keys().filter(|(name, _)| name == "connring.connection_age").collect();
    assert!(matches!(&ages[..], [(_, of)] if of.contains("connring.reason=discarded")), "{ages:?}");
}

#[tokio::test(start_paused = true)]
async fn uses_are_timed_until_their_end_or_drop() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider_of(&exporter);
    let meter = provider.meter("test");
    let mut scenario = scenario(observer(POOL, &meter)).await;
    let use_times = otel::use_times(POOL, &meter);
    let conn = scenario.held.remove(0);
    let server = conn.address().to_owned();
    let timed = use_times.start(conn);
    assert_eq!(timed.address(), server);
    tokio::time::sleep(SECOND / 2).await;
    let conn = timed.end();
    tokio::time::sleep(SECOND).await;
    let timed = use_times.start(conn);
    tokio::time::sleep(SECOND / 4).await;
    drop(timed);
    let status = scenario.pool.status();
    assert_eq!(status.totals.closes(connring::CloseReason::Dropped), 1, "{status}");
    let collected = collect(&exporter, &provider);
    let series = ("db.client.connection.use_time".to_owned(), expected(status.server(&server), None));
    assert_eq!((collected.values[&series], collected.counts[&series]), (0.75, 2));
}

#[tokio::test(start_paused = true)]
async fn series_of_a_removed_server_end() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider_of(&exporter);
    let mut scenario = scenario(observer(POOL, &provider.meter("test"))).await;
    // Its observer has another provider here: histograms stay.
    let exporter = InMemoryMetricExporter::default();
    let provider = provider_of(&exporter);
    let _export = Export::new(&scenario.pool, &provider.meter("test"));
    let servers = |collected: Collected| {
        let attributes = collected.values.into_keys().flat_map(|(_, attributes)| attributes);
        attributes.filter(|text| text.starts_with("connring.server=")).collect::<BTreeSet<_>>().len()
    };
    assert_eq!(servers(collect(&exporter, &provider)), 2);
    scenario.pool.deregister("10.0.0.1:6379").expect("it is registered");
    scenario.held.clear();
    assert_eq!(servers(collect(&exporter, &provider)), 1);
}

#[tokio::test(start_paused = true)]
async fn pools_share_a_meter() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider_of(&exporter);
    let meter = provider.meter("test");
    let scenario = scenario(observer(POOL, &meter)).await;
    let other = connring::Pool::builder(scenario.script.clone()).name("other").server("10.0.0.1:6379").build();
    let other = other.expect("the settings are in range");
    let exports = (Export::new(&scenario.pool, &meter), otel::Export::new(&other, &meter));
    let of = |collected: &Collected, pool| {
        let attribute = format!("db.client.connection.pool.name={pool}");
        collected
            .values
            .keys()
            .filter(|(name, of)| name == "db.client.connection.max" && of.contains(&attribute))
            .count()
    };
    let collected = collect(&exporter, &provider);
    assert_eq!((of(&collected, POOL), of(&collected, "other")), (2, 1));
    drop(exports.1);
    let collected = collect(&exporter, &provider);
    assert_eq!((of(&collected, POOL), of(&collected, "other")), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn export_does_not_keep_the_pool_open() {
    let exporter = InMemoryMetricExporter::default();
    let provider = provider_of(&exporter);
    let meter = provider.meter("test");
    let mut scenario = scenario(observer(POOL, &meter)).await;
    let _export = Export::new(&scenario.pool, &meter);
    scenario.held.clear();
    assert!(collect(&exporter, &provider).has("db.client.connection.max"));
    let script = scenario.script.clone();
    drop(scenario);
    assert_eq!(script.total_counts().open, 0);
    assert!(!collect(&exporter, &provider).has("db.client.connection.max"));
}
