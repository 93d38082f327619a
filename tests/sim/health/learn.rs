//! What the model learns from the pool, where it cannot know.

use connring::StateKind;

use super::{Breaker, Health, State};
use crate::observer::Told;

impl Health {
    /// A trial that was scheduled before a removal or a reset, and whose attempt never began, is dropped unseen by the
    /// network. It pauses again.
    pub(crate) fn learn_of_dropped_trial(&mut self, paused_until: Option<u64>, changed: u64) {
        let until = changed + self.interval(1);
        let was_due = match self.state {
            State::Up => matches!(self.breaker, Breaker::Paused { until } if until <= changed),
            State::Recovering { .. } => false,
            // Or it was to begin ahead of its time.
            State::Down { .. } => self.due().is_some_and(|due| due <= changed) || !self.stays_ejected(changed),
        };
        if was_due && paused_until.is_some_and(|said| said.abs_diff(until) <= 20_000) {
            self.round += 1;
            self.pause(self.failures, changed);
            self.breaker = Breaker::Paused { until };
        }
    }

    /// What the pool says: whether the server serves, and the end of its pause. Learns what the model cannot know.
    pub(crate) fn learn(&mut self, told: Told, paused_until: Option<u64>, now: u64) {
        let (is_up, serves) = (told.kind == StateKind::Up, told.serves());
        if let Some((outage, at)) = self.closed_at_once.take() {
            // Its recovery may have ended by time in the same instant, before the connection closed.
            let is_over = matches!(self.state, State::Recovering { until } if until <= at + 20_000);
            // Or its trial has begun since.
            let is_tried = told.kind == StateKind::Probing;
            self.failures_unsure |= is_over && self.failures > 0 || is_tried;
            let is = |pause: u64| paused_until.is_some_and(|until| until.abs_diff(at + pause) <= 20_000);
            let pauses = is(self.interval(self.failures + 1)) || self.failures_unsure && is(self.interval(1));
            if self.breaker == Breaker::Closed && pauses {
                self.unsure_since = self.failures_unsure.then_some(at);
                self.pause(self.failures + 1, at);
            }
            self.unsure |= self.outage == outage || !self.serves() && !self.stays_ejected(at);
        }
        if let Some(at) = self.unsure_since.take() {
            let first = at + self.interval(1);
            self.failures_unsure = first == self.paused_until();
            if paused_until.is_some_and(|until| until.abs_diff(first) <= 20_000) {
                (self.failures, self.breaker) = (1, Breaker::Paused { until: first });
            }
            self.breaker_unsure = false;
        }
        if let Some(failures) = told.failures.filter(|_| std::mem::take(&mut self.failures_unsure)) {
            self.failures = failures;
        }
        if std::mem::take(&mut self.unsure) {
            match (self.serves(), serves) {
                (true, false) => self.goes_down(None, now),
                (false, true) if told.kind == StateKind::Recovering => {
                    let at = self.connected_at;
                    self.set(State::Recovering { until: at + self.interval(1) }, at);
                }
                (false, true) if !self.stays_ejected(now) => self.comes_up(now),
                _ => {}
            }
        }
        if let (true, StateKind::Ejected, Some(until)) = (self.is_not_told(), told.kind, told.until) {
            self.state = State::Down { ejected_until: Some(until) };
        }
        if matches!(self.state, State::Recovering { until } if until <= now + 20_000) && is_up {
            self.recovered(now);
        }
    }

    pub(crate) fn may_learn(&self) -> bool {
        self.unsure
            || self.closed_at_once.is_some()
            || self.unsure_since.is_some()
            || self.failures_unsure
            || self.is_not_told()
            || matches!(self.state, State::Recovering { .. })
    }
}
