//! The expected state of the servers.

use std::time::Duration;

use connring::Server;
use connring::test_util::ScriptedConn;

use super::caller::Moment;
use super::check::Seen;
use super::reports::Reports;
use super::{Limits, Rate, Rules};

const MAX_CHECKOUTS: usize = 40;

/// The expected state of one server.
pub(super) struct Model {
    pub(super) name: &'static str,
    /// Where it is, if it is registered.
    address: String,
    /// 0 if it is not registered.
    pub(super) max_conns: u32,
    pub(super) rate: Rate,
    /// The step at which the current bucket began.
    rate_since: u64,
    /// The earliest and the latest possible time of each checkout.
    checkouts: Vec<(Duration, Duration)>,
    pub(super) open_before: u32,
    pub(super) seen: Option<Seen>,
    /// How many connects of it were seen, and when the last one was.
    pub(super) connects: u64,
    pub(super) connected_at: Option<Duration>,
    /// When all its permits were taken last.
    pub(super) full_at: Option<Duration>,
    pub(super) reports: Reports,
    /// The connections that were checked out before the last reset, removal or change of address.
    retired: Vec<u64>,
    /// Those since then.
    used: Vec<u64>,
}

/// The addresses that a server may have: its name, and that after a move.
pub(super) fn addresses(name: &str) -> [String; 2] {
    [name.to_owned(), format!("{name}2")]
}

fn address(name: &str, limits: Limits) -> String {
    let [first, second] = addresses(name);
    if limits.has_moved { second } else { first }
}

pub(super) fn server(name: &str, limits: Limits) -> Server {
    let server = if limits.has_moved { Server::named(name, address(name, limits)) } else { Server::new(name) };
    let server = server.max_conns(limits.max_conns());
    match limits.rate.numbers() {
        None => server,
        Some((rps, burst)) => server.max_rps(rps.into()).burst(burst),
    }
}

impl Model {
    /// That of a server with limits, registered or not.
    pub(super) fn new(name: &'static str, limits: Limits, is_listed: bool) -> Self {
        Self {
            name,
            address: address(name, limits),
            max_conns: if is_listed { limits.max_conns() } else { 0 },
            rate: limits.rate,
            rate_since: 0,
            checkouts: Vec::new(),
            open_before: 0,
            seen: None,
            connects: 0,
            connected_at: None,
            full_at: None,
            reports: Reports::default(),
            retired: Vec::new(),
            used: Vec::new(),
        }
    }

    /// Applies settings. The bucket goes on if the rate is the same, also of a server that was removed.
    pub(super) fn apply(&mut self, limits: Limits, step: u64) {
        self.max_conns = limits.max_conns();
        let address = address(self.name, limits);
        if self.address != address {
            self.address = address;
            self.retire_connections();
        }
        if self.rate != limits.rate {
            self.check_windows();
            self.checkouts.clear();
            self.rate_since = step;
            self.rate = limits.rate;
        }
    }

    pub(super) fn remove(&mut self) {
        self.max_conns = 0;
        self.retire_connections();
        // Once nothing of it is left, its record may be forgotten.
        self.reports.forget();
    }

    /// A connection was checked out now, granted at `since` or later.
    pub(super) fn check_out(&mut self, conn: &ScriptedConn, since: Moment, now: Duration) {
        assert_eq!(conn.address(), self.address);
        assert!(!self.retired.contains(&conn.id()), "a connection outlived a reset or a removal");
        self.used.push(conn.id());
        if since.0 >= self.rate_since && self.checkouts.len() < MAX_CHECKOUTS {
            self.checkouts.push((since.1, now));
        }
    }

    /// No connection that was opened so far is checked out again.
    pub(super) fn retire_connections(&mut self) {
        self.retired.append(&mut self.used);
    }

    /// Checks that no window of length `T` has more than `burst + rate × T` checkouts.
    pub(super) fn check_windows(&self) {
        let Some((rps, burst)) = self.rate.numbers() else { return };
        for (from, _) in &self.checkouts {
            for (_, to) in &self.checkouts {
                let within = self.checkouts.iter().filter(|(begin, end)| begin >= from && end <= to).count();
                let beyond_burst = within as i128 - i128::from(burst);
                let window = to.as_nanos() as i128 - from.as_nanos() as i128;
                let is_within = within == 0 || beyond_burst * 1_000_000_000 <= i128::from(rps) * window;
                assert!(is_within, "{within} from {from:?} to {to:?}: {:?}", self.rate);
            }
        }
    }
}

impl Rules {
    pub(super) fn max_ejected_ratio(self) -> f64 {
        [0.5, 1.0, 0.0][usize::from(self.cap % 3)]
    }

    /// Whether one more server may be ejected while so many of the registered ones serve.
    pub(super) fn allows_ejection(self, registered: usize, serving: usize) -> bool {
        let left = serving - 1;
        self.enforce && left >= 1 && left as f64 >= (1.0 - self.max_ejected_ratio()) * registered as f64
    }
}
