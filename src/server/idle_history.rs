//! What the background task keeps about a server's idle connections between two sweeps.

use std::time::Duration;

use crate::raw::Time;

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct IdleHistory {
    /// Connections that were opened: the index of the next one's lifetime.
    opened: u64,
    /// Idle connections that were about to end at the last sweep.
    pub(crate) ending: usize,
    /// Idle connections that are out of their queue for a check.
    pub(crate) away: usize,
    /// When the window began, and the lowest number of idle connections in it and in the one before.
    window_began: Time,
    lowest: usize,
    lowest_before: usize,
    /// What the last window found too many, and is not closed yet.
    surplus: usize,
}

impl IdleHistory {
    /// The index of a new connection's lifetime among those of its server.
    pub(crate) fn next_lifetime(&mut self) -> u64 {
        self.opened += 1;
        self.opened
    }

    /// How many idle connections go on living, where `idle` are in the queue.
    pub(crate) fn lasting(&mut self, idle: usize) -> usize {
        if idle == 0 {
            // All were closed since the last sweep.
            self.ending = 0;
        }
        (idle + self.away).saturating_sub(self.ending)
    }

    /// Notes how many idle connections go on living, and returns how many of them are too many. At the end of a window
    /// these are the lowest number in it and in the one before, less `keep`.
    pub(crate) fn surplus(&mut self, lasting: usize, keep: usize, window: Duration, now: Time) -> usize {
        let elapsed = now.since(self.window_began);
        self.lowest = self.lowest.min(lasting);
        if elapsed >= 2 * window {
            // No sweep came by for a whole window: the server had no connections.
            self.lowest = 0;
        }
        if elapsed >= window {
            self.surplus = self.lowest.min(self.lowest_before).saturating_sub(keep);
            self.lowest_before = std::mem::replace(&mut self.lowest, lasting);
            self.window_began = now;
        }
        self.surplus = self.surplus.min(lasting.saturating_sub(keep));
        self.surplus
    }

    /// So many connections were closed: they count towards the surplus.
    pub(crate) fn closed(&mut self, count: usize) {
        self.surplus = self.surplus.saturating_sub(count);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{IdleHistory, Time};

    const WINDOW: Duration = Duration::from_secs(10);

    /// The surplus after each second, for the numbers of idle connections.
    fn surplus(record: &mut IdleHistory, from: u64, idle: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let at = |second: u64| Time::ZERO.after(Duration::from_secs(second));
        idle.into_iter().zip(from..).map(|(idle, second)| record.surplus(idle, 2, WINDOW, at(second))).collect()
    }

    #[test]
    fn surplus_is_what_two_windows_did_not_need() {
        let mut record = IdleHistory::default();
        assert_eq!(surplus(&mut record, 1, [9; 29]), [0; 29], "not idle for two whole windows");
        assert_eq!(surplus(&mut record, 30, [9, 9]), [7, 7]);
        record.closed(3);
        assert_eq!(surplus(&mut record, 32, [6, 5, 3, 2, 9]), [4, 3, 1, 0, 0], "as far as they are idle still");
        assert_eq!(surplus(&mut record, 37, [9; 23]), [0; 23], "the window from 30 to 40 needed all but 2");
        assert_eq!(surplus(&mut record, 60, [9]), [7]);
    }

    #[test]
    fn what_was_closed_is_no_surplus_any_more() {
        let mut record = IdleHistory::default();
        surplus(&mut record, 1, [9; 29]);
        assert_eq!(surplus(&mut record, 30, [9]), [7]);
        record.closed(3);
        assert_eq!(surplus(&mut record, 31, [9, 9]), [4, 4], "others were opened since");
    }

    #[test]
    fn time_without_a_sweep_does_not_count() {
        let mut record = IdleHistory::default();
        surplus(&mut record, 1, [9; 25]);
        assert_eq!(surplus(&mut record, 100, [9; 20]), [0; 20], "all were closed and opened again");
        assert_eq!(surplus(&mut record, 120, [9]), [7]);
    }
}
