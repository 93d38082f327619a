//! What the pool tells its observer: the states of servers, which the status hides while a server is disabled, and why
//! connections closed.

use std::sync::Arc;
use std::time::Duration;

use connring::{CloseReason, Observer, Server, ServerState, StateChange, StateKind};

use crate::features::Feature;
use crate::plan::Plan;
use crate::reports::{Open, STEP, TICK};
use crate::world::{MS, State, World};

/// What the pool says of a server's health.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Told {
    pub(crate) kind: StateKind,
    pub(crate) failures: Option<u32>,
    /// When it may be tried, if it is down.
    pub(crate) until: Option<u64>,
}

impl Told {
    pub(crate) const UP: Self = Self { kind: StateKind::Up, failures: None, until: None };

    pub(crate) fn of(state: ServerState, now: u64) -> Self {
        let until = |after: Duration| Some(now + after.as_nanos() as u64);
        let (failures, until) = match state {
            ServerState::Down { failures, retry_after } => (Some(failures), until(retry_after)),
            ServerState::Ejected { retry_after } => (None, until(retry_after)),
            ServerState::Probing { failures } => (Some(failures), None),
            _ => (None, None),
        };
        Self { kind: state.kind(), failures, until }
    }

    pub(crate) fn serves(self) -> bool {
        matches!(self.kind, StateKind::Up | StateKind::Recovering)
    }
}

/// A connection that was dropped, until the observer hears why.
#[derive(Debug)]
pub(crate) struct Dropped {
    pub(crate) conn: u64,
    pub(crate) open: Open,
    /// When the pool closed it.
    pub(crate) closed_at: u64,
    pub(crate) uses: u64,
    /// The reason for which the connector was asked to say goodbye, if it was.
    pub(crate) asked: Option<CloseReason>,
}

#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) world: Arc<World>,
}

impl Observer for Watcher {
    fn state_changed(&self, server: &Server, change: &StateChange<'_>) {
        let now = self.world.now();
        let mut state = self.world.state();
        let index = state.find(server.address());
        match change.to {
            StateKind::Up | StateKind::Recovering | StateKind::Down | StateKind::Ejected | StateKind::Probing => {
                let until = change.retry_after.map(|after| now + after.as_nanos() as u64);
                state.servers[index].heard = Told { kind: change.to, failures: None, until };
            }
            StateKind::Enabled => state.was_enabled(index, now),
            _ => {}
        }
    }

    fn closed(&self, server: &Server, why: CloseReason, age: Duration, uses: u64) {
        let (now, is_dropped) = (self.world.now(), self.world.pool().is_none());
        let mut state = self.world.state();
        state.closes[why as usize] += 1;
        let Some(dropped) = state.dropped.take() else {
            return state.violated(format!("a connection to {} closed by {why:?} and is open", server.address()));
        };
        let plan = &self.world.plan;
        let facts = (server.address(), age.as_nanos() as u64, uses);
        let expected = (&*state.servers[dropped.open.server].address, now - dropped.open.opened, dropped.uses);
        let wrong = if facts == expected { None } else { Some(format!("{facts:?} are said, it is {expected:?}")) };
        let wrong = wrong.or_else(|| state.wrong_reason(plan, &dropped, why, is_dropped, now));
        if let Some(wrong) = wrong {
            state.violated(format!("connection {} closed by {why:?}: {wrong}; {dropped:?}", dropped.conn));
        }
        let failed = state.failed_recycles.remove(&dropped.conn);
        drop(state);
        if let (Some(expected), Some(pool)) = (failed, self.world.pool()) {
            let status = pool.status();
            self.world.state().reported(plan, expected, &status, now);
        }
    }
}

impl State {
    /// Whether the model is sure that a server is down, or that it is not.
    pub(crate) fn is_surely(&self, index: usize, is_down: bool, now: u64) -> bool {
        let health = &self.servers[index].health;
        let is_sure = health.turned < now && !health.unsure && health.closed_at_once.is_none();
        is_sure && health.serves() != is_down
    }

    /// Why a connection cannot have closed for that reason.
    fn wrong_reason(
        &self,
        plan: &Plan,
        dropped: &Dropped,
        why: CloseReason,
        is_pool_dropped: bool,
        now: u64,
    ) -> Option<String> {
        let (open, at, server) = (&dropped.open, dropped.closed_at, &self.servers[dropped.open.server]);
        if dropped.asked.is_some_and(|asked| asked != why) {
            return Some("another reason than that of its goodbye".into());
        }
        if dropped.asked.is_none() && is_polite(why) && self.is_surely(open.server, false, now) {
            return Some("it might say goodbye and was not asked to".into());
        }
        if let Some(expected) = open.closes {
            return (expected != why).then(|| format!("it is {expected:?}"));
        }
        let is_quiet = |ms: u64| !open.in_use && at + TICK >= open.idle_since + ms * MS;
        let is_plausible = match why {
            CloseReason::IdleTimeout => plan.idle_timeout.is_some_and(is_quiet),
            CloseReason::Surplus => plan.maintenance && plan.idle_timeout.is_some() && !open.in_use,
            CloseReason::MaxLifetime => plan.max_lifetime.is_some_and(|ms| at + STEP >= open.opened + ms * MS),
            // Checked where it is asked to say goodbye.
            CloseReason::OverMaximum => true,
            CloseReason::MadeRoom => plan.has(Feature::Wishes) && !open.in_use,
            CloseReason::Removed => server.removed_at >= Some(open.opened),
            CloseReason::Reset => server.emptied_at >= Some(open.opened),
            CloseReason::PoolClosed => self.is_closed || is_pool_dropped,
            CloseReason::Broken => server.broken_at == Some(at) && !open.in_use,
            CloseReason::CheckFailed => plan.maintenance && plan.idle_check_interval.is_some() && !open.in_use,
            CloseReason::Unfit => !open.in_use && self.is_told(open, at),
            CloseReason::Outage => open.outage < server.health.outage || !self.is_surely(open.server, false, at),
            _ => false,
        };
        (!is_plausible).then(|| format!("{server:?}"))
    }
}

/// Whether the connector is asked to say goodbye to a connection that works.
pub(crate) fn is_polite(why: CloseReason) -> bool {
    matches!(
        why,
        CloseReason::IdleTimeout
            | CloseReason::Surplus
            | CloseReason::MaxLifetime
            | CloseReason::OverMaximum
            | CloseReason::MadeRoom
            | CloseReason::Removed
            | CloseReason::Reset
            | CloseReason::PoolClosed
    )
}
