//! Time of a hot cycle: one task acquires and releases an idle connection, without contention.
//!
//! connring has 4 servers, without a rate limit and with one that is never reached; the other pools have neither
//! servers nor limits. Each pool has 4 connections. `TCP` is connring over sockets, with the liveness check of its
//! connector.
//!
//! Sources of error: the branch predictor and the first-level cache serve nothing else, unlike in a service.

use std::io;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use connring::TcpConnector;

use crate::contestants::{Connring, Contestant, Setup, peers};
use crate::floor::Floor;
use crate::report::{Entrant, Metric, Options, Report, Target, ratio};

const TIME: Metric = Metric { name: "cycle", unit: "ns" };
/// How long a contestant runs in each round.
const SPAN: Duration = Duration::from_millis(50);
const SERVERS: u32 = 4;
const PLAIN: Setup = Setup { servers: SERVERS, conns: 1, is_limited: false };
const LIMITED: Setup = Setup { is_limited: true, ..PLAIN };

/// The name of the reference for a contestant's ratio, and the contestant.
type Pair = (&'static str, Contestant);

pub fn run(options: &Options) {
    let mut report = Report::new("hot", options);
    let contestants = contestants();
    let entrants = contestants.iter().map(|(against, contestant)| Entrant {
        contestant: contestant.name.clone(),
        setting: Vec::new(),
        against,
        measure: Box::new(|| vec![contestant.nanoseconds(SPAN)]),
    });
    report.measure(&[TIME], entrants.collect());
    add_targets(&mut report);
    report.print();
}

fn contestants() -> Vec<Pair> {
    let floor = |interval_ns| Floor::new(SERVERS as usize, 1, interval_ns);
    let ours = [
        Contestant::by_sync("floor, sync", floor(Some(1))),
        Contestant::by_sync("floor, sync, no limit", floor(None)),
        Contestant::by_sync("connring, sync", Connring::new(LIMITED)),
        Contestant::by_sync("connring, sync, no limit", Connring::new(PLAIN)),
        Contestant::by_sync("connring, sync, TCP", tcp()),
        Contestant::by_async("floor, async", floor(Some(1))),
        Contestant::by_async("floor, async, no limit", floor(None)),
        Contestant::by_async("connring, async", Connring::new(LIMITED)),
        Contestant::by_async("connring, async, no limit", Connring::new(PLAIN)),
        Contestant::by_async("connring, async, TCP", tcp()),
    ];
    let against = |contestant: &Contestant| match (contestant.is_async, contestant.name.ends_with("no limit")) {
        (false, false) => "connring, sync",
        (false, true) => "connring, sync, no limit",
        (true, false) => "connring, async",
        (true, true) => "connring, async, no limit",
    };
    let mut all: Vec<_> = ours.into_iter().chain(peers(SERVERS)).collect();
    all.sort_by_key(|contestant| contestant.is_async);
    all.into_iter().map(|contestant| (against(&contestant), contestant)).collect()
}

/// Returns connring over sockets to silent servers in this process.
fn tcp() -> Connring<TcpConnector> {
    let listeners: Vec<_> = (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a listener")).collect();
    let addresses: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect();
    for listener in listeners {
        // Keeps accepted connections open until the process ends.
        thread::spawn(move || listener.incoming().collect::<Vec<io::Result<_>>>());
    }
    Connring::with(TcpConnector::new(), addresses.into_iter(), LIMITED)
}

fn add_targets(report: &mut Report) {
    let sync = ["r2d2", "r2d2, try_get", "pingora-pool"].as_slice();
    let asynchronous = ["deadpool", "bb8", "fast_pool", "mobc"].as_slice();
    for (peers, connring, floor, target) in [
        (sync, "connring, sync, no limit", "floor, sync, no limit", 5.0),
        (sync, "connring, sync", "floor, sync", 4.0),
        (asynchronous, "connring, async, no limit", "floor, async, no limit", 6.0),
        (asynchronous, "connring, async", "floor, async", 5.0),
    ] {
        let row = |name: &str| report.row(name, TIME.name, &[]).expect("the row was measured");
        let ours = row(connring);
        let fastest = peers.iter().filter_map(|peer| ratio(row(peer), ours)).fold(f64::INFINITY, f64::min);
        let to_floor = ratio(ours, row(floor)).expect("both were measured");
        report.target(format!("{connring}: times faster than the fastest peer"), fastest, Target::AtLeast(target));
        report.target(format!("{connring}: time relative to the floor"), to_floor, Target::AtMost(1.25));
    }
}
