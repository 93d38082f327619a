//! Counts what happened since the pool was built: for each server, and for the pool with the servers that are gone.
//!
//! Nothing here is on the hot path: a connection adds its uses at its first return in each tick and when it closes.

use crate::close_reason::CloseReason;
use crate::status;
use crate::sync::{AtomicU64, OnceLock, Ordering};

/// What is counted of each server, and of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    /// Uses that ended.
    Checkouts,
    /// Uses that ended well.
    Successes,
    /// Failures that callers reported, abandoned uses, recycles that failed and checks that timed out.
    Failures,
    /// Those of them that count towards an ejection: not of an older outage.
    CountedFailures,
    Ejections,
    /// Attempts that connected.
    Connects,
    /// Attempts that failed, those that timed out among them.
    ConnectFailures,
    ConnectTimeouts,
}

const TOTALS: usize = Total::ConnectTimeouts as usize + 1;
const REASONS: usize = CloseReason::ALL.len();

/// A plain counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Relaxed, here and below: it publishes nothing.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    counts: [Counter; TOTALS],
    /// Allocated at the first close.
    closes: OnceLock<Box<[Counter; REASONS]>>,
}

impl Totals {
    pub(crate) fn add(&self, total: Total, count: u64) {
        self.counts[total as usize].add(count);
    }

    pub(crate) fn add_close(&self, why: CloseReason) {
        self.closes.get_or_init(Box::default)[why as usize].add(1);
    }

    pub(crate) fn get(&self, total: Total) -> u64 {
        self.counts[total as usize].get()
    }

    /// A snapshot for the status.
    pub(crate) fn read(&self) -> status::Totals {
        status::Totals {
            checkouts: self.get(Total::Checkouts),
            successes: self.get(Total::Successes),
            failures: self.get(Total::Failures),
            ejections: self.get(Total::Ejections),
            connects: self.get(Total::Connects),
            connect_failures: self.get(Total::ConnectFailures),
            connect_timeouts: self.get(Total::ConnectTimeouts),
            closes: self.closes.get().map_or([0; REASONS], |closes| closes.each_ref().map(Counter::get)),
        }
    }
}

/// What is counted of the pool alone.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    /// Callers that had to wait.
    pub(crate) all: Counter,
    /// Those of them whose timeout came first.
    pub(crate) timeouts: Counter,
    /// Callers that found the wait queue full.
    pub(crate) queue_full: Counter,
}
