//! Counts what happened since the pool was built: for each server, and for the pool with the servers that are gone.
//!
//! Nothing here is on the hot path: a connection adds its uses at its first return in each tick and when it closes.

use crate::close_reason::CloseReason;
use crate::status;
use crate::sync::{AtomicU64, Ordering};

/// What is counted of a server, and of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    /// Uses that ended.
    Checkouts,
    /// Uses that ended well.
    Successes,
    /// Failures that callers reported, and abandoned uses.
    Failures,
    /// Those of them that count towards an ejection: not of an older outage.
    CountedFailures,
    Ejections,
    /// Attempts that connected.
    Connects,
    /// Attempts that failed, those that timed out among them.
    ConnectFailures,
    ConnectTimeouts,
    /// Of the pool alone: callers that had to wait.
    Waits,
    /// Those of them whose timeout came first.
    WaitTimeouts,
    /// Callers that found the wait queue full.
    QueueFull,
}

const TOTALS: usize = Total::QueueFull as usize + 1;
const REASONS: usize = CloseReason::ALL.len();

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    counts: [AtomicU64; TOTALS],
    closes: [AtomicU64; REASONS],
}

impl Totals {
    // Relaxed: plain counters.

    pub(crate) fn add(&self, total: Total, count: u64) {
        self.counts[total as usize].fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_close(&self, why: CloseReason) {
        self.closes[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, total: Total) -> u64 {
        self.counts[total as usize].load(Ordering::Relaxed)
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
            closes: self.closes.each_ref().map(|count| count.load(Ordering::Relaxed)),
        }
    }
}
