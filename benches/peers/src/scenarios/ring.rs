//! Time of a hot cycle over 1 to 10 000 servers, with all of them up or all but one down.
//!
//! Each server has one connection. A down server failed at its first connect attempt and is not probed within an hour.
//! There is no rate limit.
//!
//! Sources of error: with many servers, the share of the caches that other programs leave. The servers lie in memory in
//! the order of the list, which favours prefetching; a long-lived pool has no such order.

use std::io;
use std::time::Duration;

use connring::{Connector, Pool, PooledConn, ServerState};

use crate::contestants::{Connring, Contestant, Setup, current_thread};
use crate::floor::Floor;
use crate::report::{Entrant, Metric, Options, Report, Target, ratio};

const TIME: Metric = Metric { name: "cycle", unit: "ns" };
/// How long a contestant runs in each round.
const SPAN: Duration = Duration::from_millis(50);
const SERVERS: [u32; 5] = [1, 10, 100, 1_000, 10_000];
const UP: &str = "connring, all up";
const DOWN: &str = "connring, all but one down";
const FLOOR: &str = "floor";

pub fn run(options: &Options) {
    let mut report = Report::new("ring", options);
    let contestants: Vec<_> =
        SERVERS.iter().flat_map(|&servers| contestants(servers).map(|one| (servers, one))).collect();
    let entrants = contestants.iter().map(|(servers, contestant)| Entrant {
        contestant: contestant.name.clone(),
        setting: vec![("servers", (*servers).into())],
        against: UP,
        measure: Box::new(|| vec![contestant.nanoseconds(SPAN)]),
    });
    report.measure(&[TIME], entrants.collect());
    add_targets(&mut report);
    report.print();
}

fn contestants(servers: u32) -> [Contestant; 3] {
    [
        Contestant::by_sync(UP, Connring::new(Setup { servers, conns: 1, is_limited: false })),
        Contestant::by_sync(DOWN, all_but_one_down(servers)),
        Contestant::by_sync(FLOOR, Floor::new(servers as usize, 1, None)),
    ]
}

/// A connector that one server accepts and all others refuse.
struct OneUp;

const THE_ONE: &str = "up";

impl Connector for OneUp {
    type Conn = u64;
    type Error = io::Error;

    async fn connect(&self, server: &connring::Server) -> Result<u64, io::Error> {
        if server.address() == THE_ONE { Ok(1) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
    }
}

fn all_but_one_down(servers: u32) -> Connring<OneUp> {
    let address = |server| if server == servers / 2 { THE_ONE.to_owned() } else { format!("server-{server}") };
    let connring = Connring::cold(OneUp, (0..servers).map(address), Setup { servers, conns: 1, is_limited: false });
    current_thread().block_on(async {
        let the_one = connring.0.acquire().await.expect("a connection");
        // While the only connection is checked out, a waiter causes connect attempts to all other servers.
        let waiting = tokio::spawn(acquire(connring.0.clone()));
        let is_up = |state| state == ServerState::Up;
        while connring.0.status().servers.iter().filter(|server| is_up(server.state)).count() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        the_one.release();
        waiting.await.expect("the task does not panic").release();
    });
    connring
}

async fn acquire(pool: Pool<OneUp>) -> PooledConn<OneUp> {
    pool.acquire().await.expect("the only connection is released")
}

fn add_targets(report: &mut Report) {
    let of = |name, servers, to, to_servers| {
        let row = |name, servers| report.row(name, TIME.name, &[("servers", servers)]).expect("the row was measured");
        ratio(row(name, servers), row(to, to_servers)).expect("both were measured")
    };
    let targets = [
        ("1 000 servers, 999 down: time relative to one server", of(DOWN, 1_000, UP, 1), 2.0),
        ("10 000 servers up: time relative to the floor", of(UP, 10_000, FLOOR, 10_000), 1.25),
    ];
    for (figure, value, target) in targets {
        report.target(figure, value, Target::AtMost(target));
    }
}
