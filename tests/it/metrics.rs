//! The table of metrics: the docs list what the code has, and the values are those of the status.

use std::collections::BTreeSet;

use connring::metrics::{Kind, METRICS, Metric};
use connring::{PoolStatus, StateKind};

use crate::support::{Rig, open};

#[test]
fn the_docs_have_the_table_of_the_code() {
    let listed = |names: &[&str]| match names {
        [] => " ".to_owned(),
        names => format!(" `{}` ", names.join("`, `")),
    };
    let row = |metric: &Metric| {
        let Metric { name, kind, unit, attributes, opentelemetry, .. } = metric;
        let known_as = listed(opentelemetry.as_slice());
        format!("//! | `{name}` | {} | `{unit}` |{}|{known_as}|", kind.name(), listed(attributes))
    };
    let docs = include_str!("../../src/metrics.rs").lines().filter(|line| line.starts_with("//! | `"));
    assert_eq!(docs.collect::<Vec<_>>(), METRICS.iter().map(row).collect::<Vec<_>>());
}

#[test]
fn names_are_unique_and_histograms_name_a_method_of_the_observer() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    let observer = include_str!("../../src/observer.rs");
    for metric in METRICS {
        let is_heard = metric.kind == Kind::Histogram && metric.name != "connring.use_time";
        assert_eq!(metric.observer_method().is_some(), is_heard, "{metric:?}");
        assert!(metric.observer_method().is_none_or(|name| observer.contains(&format!("    fn {name}(&self"))));
        assert!(metric.help.ends_with('.') && !metric.unit.is_empty(), "{metric:?}");
    }
}

/// The values of a metric, with their server and their second attribute.
fn values(name: &str, status: &PoolStatus) -> Vec<(Option<String>, Option<&'static str>, f64)> {
    let metric = METRICS.iter().find(|metric| metric.name == name).expect("it is in the table");
    let mut values = Vec::new();
    metric.read(status, &mut |sample| {
        let named: Vec<_> =
            sample.server.map(|_| "server").into_iter().chain(sample.attribute.map(|(key, _)| key)).collect();
        assert_eq!(named, metric.attributes);
        values.push((sample.server.map(str::to_owned), sample.attribute.map(|(_, value)| value), sample.value));
    });
    values
}

#[tokio::test]
async fn values_are_those_of_the_status() {
    let rig = Rig::manual(|b| b.servers(["a", "b"]).max_conns_per_server(3).max_idle_per_server(2));
    let mut held = open(&rig, 2).await;
    held.remove(0).release();
    let status = rig.pool.status();
    let of = |server: &str, attribute, value| (Some(server.to_owned()), attribute, value);
    let connections = [
        of("a", Some("idle"), 1.0),
        of("a", Some("used"), 0.0),
        of("a", Some("connecting"), 0.0),
        of("a", Some("closing"), 0.0),
        of("b", Some("idle"), 0.0),
        of("b", Some("used"), 1.0),
        of("b", Some("connecting"), 0.0),
        of("b", Some("closing"), 0.0),
    ];
    assert_eq!(values("connring.connections", &status), connections);
    assert_eq!(values("connring.connections.max", &status), [of("a", None, 3.0), of("b", None, 3.0)]);
    assert_eq!(values("connring.connections.max_idle", &status), [of("a", None, 2.0), of("b", None, 2.0)]);
    assert_eq!(values("connring.connects", &status), [of("a", None, 1.0), of("b", None, 1.0)]);
    assert_eq!(values("connring.checkouts", &status), [of("a", None, 1.0), of("b", None, 0.0)]);
    assert_eq!(values("connring.waits", &status), [(None, None, 2.0)]);
    assert_eq!(values("connring.wait_time", &status), []);
    let states: Vec<_> = values("connring.server.state", &status);
    assert_eq!(states.len(), 2 * (StateKind::ALL.len() - 3), "all but those of events");
    assert!(states.iter().all(|(_, state, value)| (*state == Some("up")) == (*value == 1.0)), "{states:?}");
    held.remove(0).discard();
    let closes = values("connring.closes", &rig.pool.status());
    let closed: Vec<_> = closes.into_iter().filter(|(_, _, value)| *value > 0.0).collect();
    assert_eq!(closed, [of("b", Some("discarded"), 1.0)]);
}
