use std::sync::atomic::{AtomicUsize, Ordering};

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{InMemoryMetricExporter, PeriodicReader, SdkMeterProvider};

use super::*;

#[tokio::test]
async fn reads_the_status_once_for_each_collection() {
    let connector = connring::connect_fn(|_: Server| async { Ok::<_, std::io::Error>(()) });
    let pool = Pool::builder(connector).servers(["a", "b"]).build().unwrap();
    let reader = PeriodicReader::builder(InMemoryMetricExporter::default());
    let reader = reader.with_interval(Duration::from_secs(86_400)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    let reads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&reads);
    let read = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        Some(pool.status())
    };
    let export = Export::of(read, &provider.meter("test"));
    for collections in 1..4 {
        provider.force_flush().unwrap();
        assert_eq!(reads.load(Ordering::Relaxed), collections);
    }
    drop(export);
    provider.force_flush().unwrap();
    assert_eq!(reads.load(Ordering::Relaxed), 3, "the export was dropped");
}

#[test]
fn snapshot_that_is_too_old_is_not_used() {
    let status = || Some(Pool::builder(connring::TcpConnector::new()).build().unwrap().status());
    let shared = Shared { read: Box::new(status), current: Mutex::new(None) };
    let snapshot = |metric| shared.snapshot(metric).unwrap();
    let first = snapshot(&METRICS[0]);
    assert!(Arc::ptr_eq(&first, &snapshot(&METRICS[1])));
    shared.current.lock().unwrap().as_mut().unwrap().taken -= MAX_AGE;
    assert!(!Arc::ptr_eq(&first, &snapshot(&METRICS[2])));
}

#[test]
fn addresses_are_split_where_they_are_a_host_and_a_port() {
    for (address, host, port) in [
        ("10.0.0.1:6379", "10.0.0.1", Some(6379)),
        ("db-1.example:5432", "db-1.example", Some(5432)),
        ("[::1]:80", "::1", Some(80)),
        ("fe80::1:80", "fe80::1:80", None),
        ("/run/db.sock", "/run/db.sock", None),
        ("host:http", "host:http", None),
        ("host:70000", "host:70000", None),
    ] {
        assert_eq!(split(address), (host, port), "{address}");
    }
}
