use std::collections::BTreeSet;
use std::time::Duration;

use connring::metrics::{Kind, METRICS};
use connring::{PoolStatus, WaitOutcome};
use connring_metrics::facade::{Export, observer, use_times};
use connring_metrics::metrics::set_default_local_recorder;
use metrics_util::MetricKindMask;

use crate::page::{exporter, name, series};
use crate::scenario::{POOL, SECOND, scenario};

/// The labels of a value, as the page prints them.
fn labels(server: Option<&str>, attribute: Option<(&str, &str)>) -> BTreeSet<String> {
    let pool = Some(("pool", POOL));
    [pool, server.map(|name| ("server", name)), attribute]
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}=\"{v}\""))
        .collect()
}

/// Asserts that the page has the values of the status and, histograms aside, no others.
fn assert_shows(page: &str, status: &PoolStatus) {
    let mut shown = series(page);
    for metric in METRICS.iter().filter(|metric| metric.kind != Kind::Histogram) {
        metric.read(status, &mut |sample| {
            let key = (name(metric), labels(sample.server, sample.attribute));
            assert_eq!(shown.remove(&key), Some(sample.value), "{key:?}");
        });
        let head = format!("# HELP {0} {1}\n# TYPE {0} {2}\n", name(metric), metric.help, metric.kind.name());
        assert!(page.contains(&head), "{head}");
    }
    let histograms: Vec<_> = METRICS.iter().filter(|metric| metric.kind == Kind::Histogram).map(name).collect();
    shown.retain(|(name, _), _| !histograms.iter().any(|histogram| name.starts_with(histogram.as_str())));
    assert!(shown.is_empty(), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn page_has_the_values_of_the_status() {
    let recorder = exporter().build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let mut scenario = scenario(observer(POOL)).await;
    let export = Export::new(&scenario.pool);
    let status = scenario.pool.status();
    assert!(status.servers.iter().all(|server| server.totals.connects > 0), "{status}");
    assert_eq!((status.wait_timeouts, status.totals.closed(), status.totals.connect_failures), (1, 1, 1), "{status}");
    assert_shows(&recorder.handle().render(), &status);

    scenario.held.clear();
    tokio::time::sleep(SECOND * 3).await;
    export.update();
    assert_eq!(scenario.pool.status().totals.closed(), 2);
    assert_shows(&recorder.handle().render(), &scenario.pool.status());
}

#[tokio::test(start_paused = true)]
async fn histograms_have_the_durations_in_seconds() {
    let recorder = exporter().build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let scenario = scenario(observer(POOL)).await;
    let shown = series(&recorder.handle().render());
    let of = |name: &str, labels| shown.get(&(name.to_owned(), labels)).copied();
    for server in scenario.pool.status().servers {
        let labels = labels(Some(&server.name), None);
        let connects = server.totals.connects as f64;
        assert_eq!(of("connring_connect_time_seconds_count", labels.clone()), Some(connects));
        let sum = of("connring_connect_time_seconds_sum", labels).expect("it connected");
        assert!((sum / connects - 0.02).abs() < 0.002, "{sum} s for {connects}");
    }
    let timed_out = labels(None, Some(("outcome", WaitOutcome::TimedOut.name())));
    assert_eq!(of("connring_wait_time_seconds_count", timed_out.clone()), Some(1.0));
    assert_eq!(of("connring_wait_time_seconds_sum", timed_out.clone()), Some(0.5));
    let mut bucket = timed_out;
    bucket.insert("le=\"0.1\"".to_owned());
    assert_eq!(of("connring_wait_time_seconds_bucket", bucket.clone()), Some(0.0));
    bucket.remove("le=\"0.1\"");
    bucket.insert("le=\"0.5\"".to_owned());
    assert_eq!(of("connring_wait_time_seconds_bucket", bucket), Some(1.0));
    let closed: f64 =
        shown.iter().filter(|((name, _), _)| name == "connring_connection_age_seconds_count").map(|(_, v)| v).sum();
    assert_eq!(closed, 1.0);
    assert_eq!(of("connring_connect_failure_time_seconds_count", labels(Some("10.0.0.2:6379"), None)), Some(1.0));
}

#[tokio::test(start_paused = true)]
async fn uses_are_timed_where_a_caller_asks_for_it() {
    let recorder = exporter().build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let mut scenario = scenario(observer(POOL)).await;
    let timed = use_times(POOL).start(scenario.held.remove(0));
    let labels = labels(Some(timed.address()), None);
    tokio::time::sleep(SECOND / 2).await;
    timed.end().release();
    let page = recorder.handle().render();
    assert!(page.contains("# TYPE connring_use_time_seconds histogram"), "{page}");
    let shown = series(&page);
    let of = |name: &str| shown[&(format!("connring_use_time_seconds_{name}"), labels.clone())];
    assert_eq!([of("count"), of("sum")], [1.0, 0.5]);
}

#[tokio::test(start_paused = true)]
async fn gauges_of_a_removed_server_are_zero_and_its_series_end() {
    let kinds = MetricKindMask::ALL;
    let recorder = exporter().idle_timeout(kinds, Some(Duration::from_millis(50))).build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let mut scenario = scenario(observer(POOL)).await;
    let export = Export::new(&scenario.pool);
    let removed = "server=\"10.0.0.1:6379\"";
    let of_removed = |page: &str| {
        let shown = series(page).into_iter().filter(|((_, labels), _)| labels.contains(removed));
        shown.map(|((name, _), value)| (name, value)).collect::<Vec<_>>()
    };
    let handle = recorder.handle();
    assert!(!of_removed(&handle.render()).is_empty());

    scenario.pool.deregister("10.0.0.1:6379").expect("it is registered");
    scenario.held.clear();
    assert_eq!(scenario.pool.status().servers.len(), 1);
    export.update();
    let gauges: Vec<_> = METRICS.iter().filter(|metric| metric.kind == Kind::Gauge).map(name).collect();
    let shown = of_removed(&handle.render());
    let shown: Vec<_> = shown.into_iter().filter(|(name, _)| gauges.contains(name)).collect();
    assert!(shown.len() > 10 && shown.iter().all(|(_, value)| *value == 0.0), "{shown:?}");

    // The exporter's time is real, and it ends series when a page is rendered.
    let ends = async {
        while !of_removed(&handle.render()).is_empty() {
            export.update();
            tokio::task::yield_now().await;
        }
    };
    ends.await;
    export.update();
    let status = scenario.pool.status();
    assert_shows(&handle.render(), &status);
}

#[tokio::test(start_paused = true)]
async fn counters_go_on_when_a_server_comes_back() {
    let recorder = exporter().build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let mut scenario = scenario(observer(POOL)).await;
    scenario.held.clear();
    let export = Export::new(&scenario.pool);
    let server = "10.0.0.1:6379";
    let connects = || {
        export.update();
        let key = ("connring_connects_total".to_owned(), labels(Some(server), None));
        series(&recorder.handle().render())[&key]
    };
    let mut expected = connects();
    assert_eq!(expected, 2.0);
    // A count that begins again is known by its fall.
    for uses in [5, 3, 1] {
        scenario.pool.deregister(server).expect("it is registered");
        // Until the pool has forgotten it.
        tokio::time::sleep(SECOND * 60).await;
        assert_eq!(connects(), expected, "while it is missing");
        scenario.pool.set_servers([server]).expect("the pool is open");
        for use_number in 1..=uses {
            scenario.pool.acquire().await.expect("it accepts").discard();
            assert_eq!(scenario.pool.status().servers[0].totals.connects, use_number);
            expected += 1.0;
            assert_eq!(connects(), expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn task_updates_at_the_interval_and_ends_with_the_handle() {
    let recorder = exporter().build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let mut scenario = scenario(observer(POOL)).await;
    let export = Export::every(&scenario.pool, SECOND * 10).expect("the interval is in range");
    let used = || {
        let shown = series(&recorder.handle().render()).into_iter();
        shown
            .filter(|((name, labels), _)| name == "connring_connections" && labels.contains("state=\"used\""))
            .map(|(_, v)| v)
            .sum::<f64>()
    };
    assert_eq!(used(), 1.0);
    scenario.held.push(scenario.pool.acquire().await.expect("one is idle"));
    tokio::time::sleep(SECOND * 9).await;
    assert_eq!(used(), 1.0);
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(used(), 2.0);

    drop(export);
    assert_eq!(used(), 0.0);
    tokio::time::sleep(SECOND * 20).await;
    assert_eq!(used(), 0.0);
    scenario.held.clear();
    assert!(scenario.open() > 0, "some are idle");
    let script = scenario.script.clone();
    drop(scenario);
    tokio::time::sleep(SECOND).await;
    assert_eq!(script.total_counts().open, 0, "the pool is closed with its last handle");
}

#[tokio::test(start_paused = true)]
async fn export_does_not_keep_the_pool_open() {
    let recorder = exporter().build_recorder();
    let _here = set_default_local_recorder(&recorder);
    let mut scenario = scenario(observer(POOL)).await;
    let _export = Export::every(&scenario.pool, SECOND * 10).expect("the interval is in range");
    let max = || {
        series(&recorder.handle().render())
            [&("connring_connections_max".to_owned(), labels(Some("10.0.0.1:6379"), None))]
    };
    assert_eq!(max(), 2.0);
    scenario.held.clear();
    let script = scenario.script.clone();
    drop(scenario);
    assert_eq!(script.total_counts().open, 0);
    tokio::time::sleep(SECOND * 11).await;
    assert_eq!(max(), 0.0);
}

#[tokio::test(start_paused = true)]
async fn interval_of_zero_is_an_error_that_names_it() {
    let scenario = scenario(observer(POOL)).await;
    let error = Export::every(&scenario.pool, Duration::ZERO).expect_err("it is too short");
    assert_eq!(error.to_string(), "the interval is 0ns, below 1ms");
}
