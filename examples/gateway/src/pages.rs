//! The pages for people who run it: the status as a table, and the metrics for Prometheus.

use std::fmt::Write as _;

use connring::metrics::{Kind, METRICS};
use connring::{Connector, Pool, PoolStatus};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

/// The page of that path.
pub(crate) fn page<C: Connector>(pool: &Pool<C>, path: &str) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/status" => (StatusCode::OK, pool.status().to_string()),
        "/metrics" => (StatusCode::OK, prometheus(&pool.status())),
        _ => (StatusCode::NOT_FOUND, "see /status and /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}

/// All counters and gauges, in the text format of Prometheus.
fn prometheus(status: &PoolStatus) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let unit = if metric.unit == "s" { "_seconds" } else { "" };
        let total = if metric.kind == Kind::Counter { "_total" } else { "" };
        let name = format!("{}{unit}{total}", metric.name.replace('.', "_"));
        let mut samples = String::new();
        metric.read(status, &mut |sample| {
            let _ = write!(samples, "{name}{{pool=\"{}\"", escaped(&status.name));
            for (label, value) in sample.server.map(|server| ("server", server)).into_iter().chain(sample.attribute) {
                let _ = write!(samples, ",{label}=\"{}\"", escaped(value));
            }
            let _ = writeln!(samples, "}} {}", sample.value);
        });
        // A histogram has none: it would need an observer.
        if !samples.is_empty() {
            let (help, kind) = (metric.help, metric.kind.name());
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        }
    }
    text
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use connring::{Pool, Server, connect_fn};

    use super::*;

    #[test]
    fn metrics_are_in_the_text_format() {
        let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
        let pool = Pool::builder(connector).name("a \"pool\"").server("a:1").max_conns_per_server(7).build().unwrap();
        let text = prometheus(&pool.status());
        for part in [
            "# HELP connring_connections_max The most that may be open.\n# TYPE connring_connections_max gauge\n\
             connring_connections_max{pool=\"a \\\"pool\\\"\",server=\"a:1\"} 7\n",
            "connring_server_state{pool=\"a \\\"pool\\\"\",server=\"a:1\",state=\"up\"} 1\n",
            "# TYPE connring_waits_total counter\nconnring_waits_total{pool=\"a \\\"pool\\\"\"} 0\n",
            "connring_server_connecting_paused_seconds{pool=\"a \\\"pool\\\"\",server=\"a:1\"} 0\n",
        ] {
            assert!(text.contains(part), "{part}\nis missing in\n{text}");
        }
        assert!(!text.contains("histogram"));
    }
}
