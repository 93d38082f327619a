//! The model of a server's health: what the backoff must be, computed from what the server did.

use crate::plan::Plan;

const MS: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Up { strikes: u32 },
    Recovering,
    Down { retry_at: u64, since: u64 },
    Probing,
}

/// The outcome of a connect attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Connected,
    Refused,
    OwnFault,
    TimedOut,
    /// Its server was removed.
    Removed,
}

/// The pool's decision when it began an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) generation: u64,
    pub(crate) is_probe: bool,
}

/// Times are in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    initial: u64,
    max: u64,
    threshold: u32,
    pub(crate) state: State,
    /// Failures in a row.
    pub(crate) failures: u32,
    /// One more each time it goes down.
    generation: u64,
    /// When it last came up or went down.
    pub(crate) turned: u64,
    pub(crate) pause_until: u64,
    pause_set: u64,
    pause_failures: u32,
}

impl Health {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            initial: plan.backoff_initial * MS,
            max: plan.backoff_max * MS,
            threshold: plan.fail_threshold,
            state: State::Up { strikes: 0 },
            failures: 0,
            generation: 1,
            turned: 0,
            pause_until: 0,
            pause_set: 0,
            pause_failures: 0,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. } | State::Recovering)
    }

    /// A server that was gone for good and is registered anew.
    pub(crate) fn reset(&mut self) {
        self.state = State::Up { strikes: 0 };
        self.failures = 0;
        self.generation += 1;
        (self.pause_until, self.pause_failures) = (0, 0);
    }

    fn interval(&self, failures: u32) -> u64 {
        let interval = self.initial as f64 * 1.5f64.powi(failures as i32 - 1);
        interval.min(self.max as f64) as u64
    }

    fn down(&mut self, failures: u32, interval: u64, now: u64) {
        self.failures = failures;
        self.generation += 1;
        self.turned = now;
        self.state = State::Down { retry_at: now + interval, since: now };
    }

    fn failed(&mut self, now: u64) {
        let failures = self.failures + 1;
        self.down(failures, self.interval(failures), now);
    }

    /// The server sees a connect attempt.
    ///
    /// # Errors
    ///
    /// The reason why this attempt must not run.
    pub(crate) fn attempt_began(&mut self, now: u64) -> Result<Begun, String> {
        // The pool schedules an attempt and a task begins it. In between, within one instant, other attempts may fail.
        if self.pause_until > now && self.pause_set != now {
            return Err(format!("an attempt in a pause that lasts until {} ms", self.pause_until / MS));
        }
        match self.state {
            State::Up { .. } | State::Recovering => Ok(Begun { generation: self.generation, is_probe: false }),
            State::Down { retry_at, .. } if retry_at <= now => {
                self.state = State::Probing;
                Ok(Begun { generation: self.generation, is_probe: true })
            }
            State::Down { since, .. } if since == now => Ok(Begun { generation: self.generation - 1, is_probe: false }),
            State::Down { retry_at, .. } => {
                Err(format!("an attempt at a server that is down, {} us before its retry", (retry_at - now) / 1_000))
            }
            State::Probing => Err("a second attempt at a server that is being probed".into()),
        }
    }

    pub(crate) fn attempt_ended(&mut self, begun: Begun, outcome: Outcome, now: u64) {
        match outcome {
            Outcome::Connected => {
                (self.pause_until, self.pause_failures) = (0, 0);
                if begun.is_probe {
                    self.turned = now;
                    self.state = State::Recovering;
                }
            }
            Outcome::Refused | Outcome::TimedOut => {
                if begun.is_probe || (self.is_up() && begun.generation == self.generation) {
                    self.failed(now);
                }
            }
            Outcome::OwnFault | Outcome::Removed => {
                if outcome == Outcome::OwnFault && self.pause_until <= now {
                    self.pause_failures += 1;
                    self.pause_until = now + self.interval(self.pause_failures);
                    self.pause_set = now;
                }
                if begun.is_probe {
                    // The probe has no result.
                    self.down(self.failures, self.interval(1), now);
                }
            }
        }
    }

    /// A caller fails a connection.
    pub(crate) fn reported(&mut self, generation: u64, now: u64) {
        match self.state {
            _ if generation != self.generation => {}
            State::Up { strikes } if strikes + 1 < self.threshold => self.state = State::Up { strikes: strikes + 1 },
            State::Up { .. } | State::Recovering => self.failed(now),
            State::Down { .. } | State::Probing => {}
        }
    }

    /// A caller releases a connection.
    pub(crate) fn released(&mut self, generation: u64) {
        if generation == self.generation && self.is_up() {
            self.state = State::Up { strikes: 0 };
            self.failures = 0;
        }
    }
}
