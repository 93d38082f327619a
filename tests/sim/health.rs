//! The model of one server's breaker and health, computed from what the server and the callers did.

mod learn;

use crate::plan::Plan;
use crate::world::MS;

/// Whether callers may use the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    /// Up at the first good return, or some time after `until`.
    Recovering {
        until: u64,
    },
    Down {
        ejected_until: Option<u64>,
    },
}

/// Whether the server may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaker {
    Closed,
    Paused { until: u64 },
    Trying,
}

/// The end of an ejection that the pool's status does not tell yet: it shows the trial that runs.
pub(crate) const NOT_TOLD: u64 = u64::MAX;

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

/// Whether others of the server's connections answer, as far as the simulation can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    Yes,
    No,
    /// It depends on the pool's tick or on what is idle: the pool's status tells.
    Maybe,
}

/// The pool's decision when it began an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Begun {
    pub(crate) outage: u64,
    round: u64,
    pub(crate) is_trial: bool,
    /// The trial of a server that is down.
    pub(crate) is_probe: bool,
    /// It may have been scheduled in the same instant, before the server went down: then it does not end the outage.
    may_be_older: bool,
}

/// Times are in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    initial: u64,
    max: u64,
    pub(crate) state: State,
    /// One more each time it goes down.
    pub(crate) outage: u64,
    /// When the state last changed.
    pub(crate) turned: u64,
    pub(crate) breaker: Breaker,
    /// Failed attempts in a row.
    pub(crate) failures: u32,
    /// One more with each trial.
    round: u64,
    /// When its ejection ended before its time.
    pub(crate) due_from: u64,
    /// When the last pause began.
    pub(crate) paused_at: Option<u64>,
    /// The fewest and the most failures in a row that the pool may have counted.
    pub(crate) strikes: (u32, u32),
    /// The earliest and the latest time of the first of them.
    pub(crate) struck: (u64, u64),
    /// The fewest and the most ejections in a row.
    pub(crate) ejections: (u32, u32),
    /// When its ejection may be over, at the earliest: the status tells the later of its end and that of a pause.
    pub(crate) ejected_from: u64,
    /// How long it served since its last ejection, without the present time of service.
    pub(crate) served: u64,
    /// When it came out of its last outage or was registered again.
    pub(crate) serves_since: u64,
    /// It is removed, and does not serve meanwhile.
    is_removed: bool,
    /// The last good return.
    pub(crate) answered: Option<u64>,
    /// Since when an attempt that failed leaves open whether the server serves: the pool's status tells.
    pub(crate) unsure: bool,
    /// When a trial connected of which only the status tells whether it ended the outage.
    connected_at: u64,
    /// A connection with this outage number was refused right after its connect, at this time, by a caller or by a
    /// sweep: the first counts as a failed connect.
    pub(crate) closed_at_once: Option<(u64, u64)>,
    /// The pool may have forgotten a pause that was over, when the server was removed and registered again.
    pub(crate) breaker_unsure: bool,
    /// When an attempt failed since.
    unsure_since: Option<u64>,
    /// Nor does the pause tell it, where all pauses are as long.
    failures_unsure: bool,
}

impl Health {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            initial: plan.backoff_initial * MS,
            max: plan.backoff_max * MS,
            state: State::Up,
            outage: 1,
            turned: 0,
            breaker: Breaker::Closed,
            failures: 0,
            round: 1,
            paused_at: None,
            strikes: (0, 0),
            struck: (0, 0),
            ejections: (0, 0),
            ejected_from: 0,
            served: 0,
            serves_since: 0,
            is_removed: false,
            answered: None,
            unsure: false,
            connected_at: 0,
            closed_at_once: None,
            breaker_unsure: false,
            unsure_since: None,
            failures_unsure: false,
            due_from: 0,
        }
    }

    pub(crate) fn serves(&self) -> bool {
        !matches!(self.state, State::Down { .. })
    }

    pub(crate) fn is_ejected(&self) -> bool {
        matches!(self.state, State::Down { ejected_until: Some(_) })
    }

    /// Whether it is ejected, and that cannot be over.
    pub(crate) fn stays_ejected(&self, now: u64) -> bool {
        self.is_ejected() && now < self.ejected_from
    }

    /// How long it has served since its last ejection.
    pub(crate) fn served(&self, now: u64) -> u64 {
        self.served + if self.is_removed { 0 } else { now.saturating_sub(self.serves_since) }
    }

    /// It is removed, or registered again.
    pub(crate) fn set_removed(&mut self, is_removed: bool, now: u64) {
        if self.serves() && is_removed != self.is_removed {
            (self.served, self.serves_since) = (self.served(now), now);
        }
        self.is_removed = is_removed;
    }

    fn is_not_told(&self) -> bool {
        self.state == State::Down { ejected_until: Some(NOT_TOLD) }
    }

    /// The end of the pause, or of the last one.
    pub(crate) fn paused_until(&self) -> u64 {
        if let Breaker::Paused { until } = self.breaker { until } else { 0 }
    }

    /// When its trial is due, if it is down and not tried.
    pub(crate) fn due(&self) -> Option<u64> {
        match (self.state, self.breaker) {
            (State::Down { ejected_until }, Breaker::Closed | Breaker::Paused { .. }) => {
                Some(ejected_until.unwrap_or(0).max(self.paused_until()))
            }
            _ => None,
        }
    }

    /// A server that was gone for good and is registered anew.
    pub(crate) fn reset(&mut self) {
        self.set(State::Up, self.turned);
        self.outage += 1;
        self.round += 1;
        (self.breaker, self.failures) = (Breaker::Closed, 0);
        (self.strikes, self.ejections, self.answered) = ((0, 0), (0, 0), None);
        (self.unsure, self.closed_at_once) = (false, None);
        (self.breaker_unsure, self.unsure_since, self.failures_unsure) = (false, None, false);
    }

    /// Its connections begin anew: those from before tell nothing until they come back well.
    pub(crate) fn begins_anew(&mut self) {
        self.outage += 1;
        self.strikes = (0, 0);
    }

    /// The pool may or may not have dropped what no longer shows.
    pub(crate) fn may_be_reset(&mut self) {
        (self.strikes.0, self.ejections.0) = (0, 0);
        self.breaker_unsure = matches!(self.breaker, Breaker::Paused { .. });
        self.failures_unsure = self.failures > 0;
    }

    fn interval(&self, failures: u32) -> u64 {
        let interval = self.initial as f64 * 1.5f64.powi(failures.max(1) as i32 - 1);
        interval.min(self.max as f64) as u64
    }

    fn set(&mut self, state: State, now: u64) {
        if !self.serves() && !matches!(state, State::Down { .. }) {
            self.serves_since = now;
        }
        (self.state, self.turned) = (state, now);
    }

    pub(crate) fn goes_down(&mut self, ejected_until: Option<u64>, now: u64) {
        self.outage += 1;
        self.strikes = (0, 0);
        self.served = if ejected_until.is_some() { 0 } else { self.served(now) };
        self.set(State::Down { ejected_until }, now);
    }

    /// Its connections answer although it refuses others.
    fn comes_up(&mut self, now: u64) {
        self.set(State::Up, now);
    }

    /// No server serves: its ejection ends.
    pub(crate) fn end_ejection(&mut self, now: u64) {
        if self.is_ejected() {
            self.due_from = now;
            self.state = State::Down { ejected_until: None };
        }
    }

    fn pause(&mut self, failures: u32, now: u64) {
        self.failures = failures;
        self.paused_at = Some(now);
        self.breaker = Breaker::Paused { until: now + self.interval(failures) };
    }

    fn begin_trial(&mut self, is_probe: bool, now: u64) -> Begun {
        self.breaker = Breaker::Trying;
        self.round += 1;
        let may_be_older = is_probe && self.turned == now;
        Begun { outage: self.outage, round: self.round, is_trial: true, is_probe, may_be_older }
    }

    /// The server sees a connect attempt. `ahead`: trials may begin ahead of their time. `alone`: nothing else is open.
    ///
    /// # Errors
    ///
    /// The reason why this attempt must not run.
    pub(crate) fn attempt_began(&mut self, now: u64, ahead: bool, alone: bool) -> Result<Begun, String> {
        // The pool schedules an attempt and a task begins it. In between, within one instant, other attempts may fail.
        let ordinary = Begun { outage: self.outage, round: self.round, ..Begun::default() };
        match (self.state, self.breaker) {
            (State::Recovering { .. }, _) if !alone => {
                Err("an attempt at a server that recovers and has a connection".into())
            }
            (State::Up | State::Recovering { .. }, Breaker::Closed) => Ok(ordinary),
            (State::Up | State::Recovering { .. }, Breaker::Paused { until }) => match () {
                () if until <= now && self.breaker_unsure => Ok(ordinary),
                () if until <= now => Ok(self.begin_trial(false, now)),
                () if self.paused_at == Some(now) => Ok(ordinary),
                () => Err(format!("an attempt in a pause that lasts until {} us", until / 1_000)),
            },
            (State::Up | State::Recovering { .. }, Breaker::Trying) => {
                Err("an attempt beside the trial after a pause".into())
            }
            (State::Down { .. }, Breaker::Trying) if self.turned == now => {
                Ok(Begun { outage: self.outage - 1, round: self.round - 1, ..ordinary })
            }
            (State::Down { .. }, Breaker::Trying) => Err("a second attempt at a server that is being probed".into()),
            (State::Down { .. }, _) => {
                let due = self.due().unwrap_or(0);
                // The end of an ejection that began during a trial may never be told.
                let may_be_due = self.is_not_told() && self.paused_until() <= now;
                if due <= now || (ahead || may_be_due) && !self.stays_ejected(now) {
                    return Ok(self.begin_trial(true, now));
                }
                if self.turned == now {
                    let is_trial =
                        !self.breaker_unsure && matches!(self.breaker, Breaker::Paused { until } if until <= now);
                    let begun = if is_trial { self.begin_trial(false, now) } else { ordinary };
                    return Ok(Begun { outage: self.outage - 1, ..begun });
                }
                Err(format!("an attempt at a server that is down, {} us before its time", (due - now) / 1_000))
            }
        }
    }

    pub(crate) fn attempt_ended(&mut self, begun: Begun, outcome: Outcome, evidence: Evidence, now: u64) {
        match outcome {
            Outcome::Connected => {
                if self.breaker_unsure {
                    // The pool has forgotten the failures, or a pause that is over.
                    self.failures_unsure = self.failures > 0;
                }
                if begun.is_trial || std::mem::take(&mut self.breaker_unsure) {
                    self.breaker = Breaker::Closed;
                }
                if begun.may_be_older && !self.serves() {
                    (self.unsure, self.connected_at) = (true, now);
                } else if begun.is_trial && !self.serves() && self.outage == begun.outage {
                    self.set(State::Recovering { until: now + self.interval(1) }, now);
                }
            }
            Outcome::Removed => {
                if begun.is_trial {
                    self.pause(self.failures, now);
                    // The trial counted no failure.
                    self.breaker = Breaker::Paused { until: now + self.interval(1) };
                }
            }
            Outcome::Refused | Outcome::TimedOut | Outcome::OwnFault => {
                self.connect_failed(begun, outcome != Outcome::OwnFault, evidence, now);
            }
        }
    }

    fn connect_failed(&mut self, begun: Begun, is_servers_fault: bool, evidence: Evidence, now: u64) {
        let counts = match self.breaker {
            Breaker::Closed => !begun.is_trial && begun.round == self.round,
            Breaker::Paused { .. } => self.breaker_unsure,
            Breaker::Trying => begun.is_trial,
        };
        if counts {
            self.unsure_since = (self.breaker_unsure || self.failures_unsure).then_some(now);
            self.pause(self.failures + 1, now);
        }
        if !is_servers_fault {
            return;
        }
        match (self.state, evidence) {
            _ if begun.outage != self.outage => {}
            (State::Down { .. }, Evidence::No) => {}
            (State::Down { ejected_until: Some(until) }, _) if until > now => self.unsure = !self.stays_ejected(now),
            (State::Down { .. }, Evidence::Yes) => self.comes_up(now),
            (State::Down { .. }, Evidence::Maybe) => self.unsure = true,
            (_, Evidence::Yes) => {}
            (_, Evidence::No) => self.goes_down(None, now),
            (_, Evidence::Maybe) => self.unsure = true,
        }
    }

    /// A connection came back well: the first time under this outage number?
    pub(crate) fn answers(&mut self, is_first: bool, now: u64) {
        self.answered = Some(now);
        self.strikes = (0, 0);
        if is_first {
            self.clear_failures();
        }
        if matches!(self.state, State::Recovering { .. }) {
            self.recovered(now);
        }
    }

    /// Its recovery is over.
    fn recovered(&mut self, now: u64) {
        self.clear_failures();
        self.comes_up(now);
    }

    fn clear_failures(&mut self) {
        if self.breaker == Breaker::Closed {
            (self.failures, self.failures_unsure) = (0, false);
        }
    }
}
