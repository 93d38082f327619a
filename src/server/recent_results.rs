//! The results of a server in the last ten seconds, for `Ejection::failure_ratio`.
//!
//! Part of the server's record: they last as long, whether the server is registered meanwhile or not, and whether the
//! background task has started again. Only results of one outage number are counted together.

use std::collections::VecDeque;
use std::time::Duration;

use crate::raw::{Outage, Time};

/// A result counts for this long.
const WINDOW: Duration = Duration::from_secs(10);

/// How many uses ended well, and how many failures counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct RecentResults {
    outage: Outage,
    /// The server's totals at each look of the window. The first one is the last before it, or begins it.
    looks: VecDeque<(Time, Results)>,
}

impl RecentResults {
    pub(crate) fn new() -> Self {
        Self { outage: Outage::NONE, looks: VecDeque::new() }
    }

    /// The window begins now.
    pub(crate) fn begin(&mut self, now: Time, outage: Outage, totals: Results) {
        self.outage = outage;
        self.looks.clear();
        self.looks.push_back((now, totals));
    }

    /// Adds a look under an outage number. Returns the results since the window began.
    pub(crate) fn add(&mut self, now: Time, outage: Outage, totals: Results) -> Results {
        // After a gap as long as the window, what came in it may be older than the window.
        let is_recent = self.looks.back().is_some_and(|&(at, _)| now.since(at) < WINDOW);
        if outage != self.outage || !is_recent {
            self.begin(now, outage, totals);
        } else {
            self.looks.push_back((now, totals));
        }
        // The second one does as well if it is from before the window, too, or if there were no results in between.
        while self.looks.len() > 1 && (now.since(self.looks[1].0) >= WINDOW || self.looks[1].1 == self.looks[0].1) {
            self.looks.pop_front();
        }
        let first = self.looks[0].1;
        Results { successes: totals.successes - first.successes, failures: totals.failures - first.failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a look at a second, under that outage number. Returns the results, and how many looks are kept.
    fn add(recent: &mut RecentResults, seconds: u64, outage: Outage, totals: (u64, u64)) -> (u64, u64, usize) {
        let now = Time::ZERO.after(Duration::from_secs(seconds));
        let (successes, failures) = totals;
        let results = recent.add(now, outage, Results { successes, failures });
        (results.successes, results.failures, recent.looks.len())
    }

    #[test]
    fn results_count_for_ten_seconds_and_a_server_without_any_keeps_one_look() {
        let mut recent = RecentResults::new();
        let mut add = |seconds, successes, failures| add(&mut recent, seconds, Outage::NONE, (successes, failures));
        assert_eq!(add(0, 5, 5), (0, 0, 1), "those of before are not known to be new");
        assert_eq!(add(1, 7, 6), (2, 1, 2));
        assert_eq!(add(2, 7, 6), (2, 1, 3));
        assert_eq!(add(10, 9, 6), (4, 1, 4));
        assert_eq!(add(11, 9, 6), (2, 0, 3), "those of the first second are too old");
        assert_eq!(add(20, 9, 6), (0, 0, 1));
        assert_eq!(add(30, 9, 6), (0, 0, 1));
    }

    #[test]
    fn results_of_a_gap_count_if_it_is_shorter_than_ten_seconds() {
        let mut recent = RecentResults::new();
        let mut add = |seconds, successes| add(&mut recent, seconds, Outage::NONE, (successes, 0));
        assert_eq!(add(0, 0), (0, 0, 1));
        assert_eq!(add(9, 3), (3, 0, 2));
        assert_eq!(add(18, 4), (4, 0, 3), "the first look is the last before the window");
        assert_eq!(add(28, 9), (0, 0, 1));
    }
}
