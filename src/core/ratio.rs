//! Ejects servers by the part of their results that failed in the last ten seconds: `Ejection::failure_ratio`.
//!
//! Once a second, after the sweep, the background task looks at the totals of each server. So nothing is counted for it
//! elsewhere. A use counts up to a second late. What was found before is kept with the server, so a server that is
//! removed for a while goes on with it as it does with its health.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::core::transition;
use crate::error::Failure;
use crate::raw::Time;
use crate::server::{Results, Total};
use crate::sync::Arc;

/// The time between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// What the background task remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct Ratios {
    looked: Option<Time>,
}

impl Ratios {
    /// Ejects the servers whose ratio is too high, if it is time to look.
    pub(crate) fn run<C: Connector>(&mut self, shared: &Shared<C>, now: Time) {
        let ejection = &shared.settings.ejection;
        let Some(ratio) = ejection.failure_ratio.filter(|_| shared.settings.maintenance) else { return };
        if self.looked.is_some_and(|looked| now.since(looked) < PERIOD) {
            return;
        }
        self.looked = Some(now);
        let generations: Vec<_> =
            shared.servers.list().iter().map(|(_, entry)| Arc::clone(&entry.generation)).collect();
        for generation in generations {
            let (server, health) = (&generation.server, generation.server.health.snapshot());
            let totals = Results {
                successes: server.totals().get(Total::Successes),
                failures: server.totals().get(Total::CountedFailures),
            };
            let mut recent = server.recent_results();
            let Results { successes, failures } = recent.add(now, health.outage(), totals);
            let all = successes + failures;
            // The quotient of 3 and 10 is the very `0.3` that a user writes.
            let is_too_high = all >= u64::from(ejection.min_results) && failures as f64 / all as f64 >= ratio;
            if health.is_down() || is_too_high {
                recent.begin(now, health.outage(), totals);
            }
            drop(recent);
            if is_too_high {
                let failure = Failure::Reported(format!("{failures} of {all} results failed").into());
                let failures = failures.try_into().unwrap_or(u32::MAX);
                transition::eject(shared, &generation, health.outage(), failure, failures, None);
            }
        }
    }
}
