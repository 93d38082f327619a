//! One task, acquire and release, nobody else: what a hot cycle costs.
//!
//! connring has 4 servers, with a rate limit that is never met and without; the others know neither. All have 4
//! connections. `TCP` is connring with sockets, and the check that its connector makes of them.
//!
//! What pollutes it: the branch predictor and the nearest cache hold all that is needed, as in no service.

use std::io;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use connring::TcpConnector;

use crate::contestants::{Connring, Contestant, Setup, peers};
use crate::floor::Floor;
use crate::report::{Bar, Entrant, Metric, Options, Report, ratio};

const TIME: Metric = Metric { name: "cycle", unit: "ns" };
/// How long a contestant runs in a round.
const SPAN: Duration = Duration::from_millis(50);
const SERVERS: u32 = 4;
const PLAIN: Setup = Setup { servers: SERVERS, conns: 1, is_limited: false };
const LIMITED: Setup = Setup { is_limited: true, ..PLAIN };

/// The one that a contestant's ratio refers to, and the contestant.
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
    add_bars(&mut report);
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

/// connring over sockets to servers of this process, which say nothing.
fn tcp() -> Connring<TcpConnector> {
    let listeners: Vec<_> = (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a listener")).collect();
    let addresses: Vec<_> =
        listeners.iter().map(|listener| listener.local_addr().expect("an address").to_string()).collect();
    for listener in listeners {
        // They keep what they accepted until the process ends.
        thread::spawn(move || listener.incoming().collect::<Vec<io::Result<_>>>());
    }
    Connring::with(TcpConnector::new(), addresses.into_iter(), LIMITED)
}

fn add_bars(report: &mut Report) {
    let sync = ["r2d2", "r2d2, try_get", "pingora-pool"].as_slice();
    let asynchronous = ["deadpool", "bb8", "fast_pool", "mobc"].as_slice();
    for (peers, connring, floor, bar) in [
        (sync, "connring, sync, no limit", "floor, sync, no limit", 5.0),
        (sync, "connring, sync", "floor, sync", 4.0),
        (asynchronous, "connring, async, no limit", "floor, async, no limit", 6.0),
        (asynchronous, "connring, async", "floor, async", 5.0),
    ] {
        let row = |name: &str| report.row(name, TIME.name, &[]).expect("it was measured");
        let ours = row(connring);
        let fastest = peers.iter().filter_map(|peer| ratio(row(peer), ours)).fold(f64::INFINITY, f64::min);
        let to_floor = ratio(ours, row(floor)).expect("both were measured");
        report.bar(format!("{connring}: times faster than the fastest peer"), fastest, Bar::AtLeast(bar));
        report.bar(format!("{connring}: time to the floor's"), to_floor, Bar::AtMost(1.25));
    }
}
