//! What is remembered of a server's ejections: how many came in a row, and the time that the server served since.

use core::time::Duration;

use super::super::time::Time;
use super::HealthSnapshot;

/// The number of ejections in a row falls by one for each of these that the server has served since the last one.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

/// See the module's page.
#[derive(Debug)]
pub(super) struct Ejections {
    /// How many came in a row, by the last one.
    in_a_row: u32,
    /// How long the server has served since the last one, without the present time of service.
    served: Duration,
    /// Since when it serves; [`Time::NEVER`] while it does not.
    serves_since: Time,
}

impl Ejections {
    pub(super) fn new() -> Self {
        Self { in_a_row: 0, served: Duration::ZERO, serves_since: Time::NEVER }
    }

    /// How many in a row there are with the next one, less those that are forgiven by now.
    pub(super) fn next(&self, now: Time) -> u32 {
        let forgiven = self.served(now).as_nanos() / FORGIVEN_AFTER.as_nanos();
        self.in_a_row.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX)).saturating_add(1)
    }

    /// Another one begins, so many in a row.
    pub(super) fn begin(&mut self, in_a_row: u32) {
        (self.in_a_row, self.served) = (in_a_row, Duration::ZERO);
    }

    fn served(&self, now: Time) -> Duration {
        self.served.saturating_add(now.since(self.serves_since))
    }

    /// The word changed. Each change that ends or begins serving comes here, in the order in which they happened.
    pub(super) fn note(&mut self, found: HealthSnapshot, left: HealthSnapshot, now: Time) {
        match (found.serves(), left.serves()) {
            (true, false) => (self.served, self.serves_since) = (self.served(now), Time::NEVER),
            (false, true) => self.serves_since = now,
            _ => {}
        }
    }
}
