//! The page that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use connring::metrics::{Kind, Metric};
use connring_metrics::BUCKETS;
use metrics_exporter_prometheus::PrometheusBuilder;

/// As the docs say that it is to be built.
pub(crate) fn exporter() -> PrometheusBuilder {
    PrometheusBuilder::new().with_recommended_naming(true).set_buckets(BUCKETS).expect("there are buckets")
}

/// The values of a page by their series: the name and the sorted labels, each as printed.
pub(crate) fn series(page: &str) -> BTreeMap<(String, BTreeSet<String>), f64> {
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split_terminator(',').map(str::to_owned).collect();
        ((name.to_owned(), labels), value.parse().expect("a number"))
    };
    page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(sample).collect()
}

/// A metric's name under the rules of Prometheus: base units and `total` as suffixes.
pub(crate) fn name(metric: &Metric) -> String {
    let unit = if metric.unit == "s" { "_seconds" } else { "" };
    let suffix = if metric.kind == Kind::Counter { "_total" } else { "" };
    format!("{}{unit}{suffix}", metric.name.replace('.', "_"))
}
