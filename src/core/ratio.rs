//! Ejects servers by the part of their results that failed in the last ten seconds: `Ejection::failure_ratio`.
//!
//! Once a second, after the sweep, the background task looks at the totals of each server. So nothing is counted for it
//! elsewhere, and its memory is lost when the task starts again. A use counts up to a second late.

use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::time::Duration;

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::core::transition;
use crate::error::Failure;
use crate::raw::{Outage, Time};
use crate::server::{ServerEntry, Total};
use crate::sync::{Arc, Weak};

/// The time between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// A result counts for this long.
const WINDOW: Duration = Duration::from_secs(10);

/// What the background task remembers of the servers, by their numbers.
pub(crate) struct Ratios<C: Connector> {
    looked: Option<Time>,
    windows: BTreeMap<usize, Window<C>>,
}

/// The last results of a server, in one outage number.
struct Window<C: Connector> {
    server: Weak<ServerEntry<C>>,
    outage: Outage,
    samples: Samples,
}

impl<C: Connector> Ratios<C> {
    pub(crate) fn new() -> Self {
        Self { looked: None, windows: BTreeMap::new() }
    }

    /// Ejects the servers whose ratio is too high, if it is time to look.
    pub(crate) fn run(&mut self, shared: &Shared<C>, now: Time) {
        let ejection = &shared.settings.ejection;
        let Some(ratio) = ejection.failure_ratio.filter(|_| shared.settings.maintenance) else { return };
        if self.looked.is_some_and(|looked| now.since(looked) < PERIOD) {
            return;
        }
        self.looked = Some(now);
        let generations: Vec<_> =
            shared.servers.list().iter().map(|(_, entry)| Arc::clone(&entry.generation)).collect();
        let mut old = mem::take(&mut self.windows);
        for generation in generations {
            let (server, health) = (&generation.server, generation.server.health.snapshot());
            // Another server may have the number by now.
            let known = old.remove(&generation.number).filter(|window| window.server.as_ptr() == Arc::as_ptr(server));
            let known = known.filter(|window| window.outage == health.outage() && !health.is_down());
            let mut samples = known.map(|window| window.samples).unwrap_or_default();
            let results = Results {
                successes: server.totals().get(Total::Successes),
                failures: server.totals().get(Total::CountedFailures),
            };
            let Results { successes, failures } = samples.add(now, results);
            let all = successes + failures;
            // The quotient of 3 and 10 is the very `0.3` that a user writes.
            let is_too_high = all >= u64::from(ejection.min_results) && failures as f64 / all as f64 >= ratio;
            if is_too_high {
                samples = Samples::default();
                samples.add(now, results);
            }
            let window = Window { server: Arc::downgrade(server), outage: health.outage(), samples };
            self.windows.insert(generation.number, window);
            if is_too_high {
                let failure = Failure::Reported(format!("{failures} of {all} results failed").into());
                let failures = failures.try_into().unwrap_or(u32::MAX);
                transition::eject(shared, &generation, health.outage(), failure, failures, None);
            }
        }
    }
}

/// The totals of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Results {
    successes: u64,
    failures: u64,
}

/// The totals at each look of the window. The first one is the last before it, or begins it.
#[derive(Debug, Default)]
struct Samples(VecDeque<(Time, Results)>);

impl Samples {
    /// Adds the totals of now. Returns the results since the window began.
    fn add(&mut self, now: Time, results: Results) -> Results {
        self.0.push_back((now, results));
        // The second one does as well if it is from before the window, too, or if there were no results in between.
        while self.0.len() > 1 && (now.since(self.0[1].0) >= WINDOW || self.0[1].1 == self.0[0].1) {
            self.0.pop_front();
        }
        let first = self.0[0].1;
        Results { successes: results.successes - first.successes, failures: results.failures - first.failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_count_for_ten_seconds_and_a_server_without_any_keeps_one_sample() {
        let mut samples = Samples::default();
        let mut add = |seconds, successes, failures| {
            let now = Time::ZERO.after(Duration::from_secs(seconds));
            let Results { successes, failures } = samples.add(now, Results { successes, failures });
            (successes, failures, samples.0.len())
        };
        assert_eq!(add(0, 5, 5), (0, 0, 1), "those of before are not known to be new");
        assert_eq!(add(1, 7, 6), (2, 1, 2));
        assert_eq!(add(2, 7, 6), (2, 1, 3));
        assert_eq!(add(10, 9, 6), (4, 1, 4));
        assert_eq!(add(11, 9, 6), (2, 0, 3), "those of the first second are too old");
        assert_eq!(add(20, 9, 6), (0, 0, 1));
        assert_eq!(add(30, 9, 6), (0, 0, 1));
    }
}
