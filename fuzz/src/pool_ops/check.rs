//! The checks after each step.

use std::time::Duration;

use connring::{PoolStatus, ServerState, ServerStatus, TryAcquireError};

use super::caller::Kind;
use super::model::Model;
use super::rig::{BACKOFF, Rig};

/// When a server without room for its probe is looked at again.
const ROOM_RETRY: Duration = Duration::from_millis(100);
/// An attempt that has connected keeps its place for a tenth of the usual connect time, which is at most the rig's
/// `connect_timeout`.
const LONGEST_REST: Duration = Duration::from_millis(101);

/// What the last check saw of a server.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    state: ServerState,
    attempts: u64,
    /// When it may be probed, if it was down.
    retry_at: Duration,
    /// Another server served.
    others_serve: bool,
}

pub(super) fn is_up(state: ServerState) -> bool {
    matches!(state, ServerState::Up | ServerState::Recovering)
}

impl Rig {
    pub(super) fn check(&mut self) {
        let status = self.pool.status();
        self.check_order();
        self.check_lists(&status);
        for index in 0..self.models.len() {
            let server = status.servers.iter().find(|server| *server.name == *self.models[index].name);
            self.check_counts(index, server);
            self.check_backoff(index, server, &status);
        }
        let in_use: u32 = status.servers.iter().map(|server| server.in_use).sum();
        let in_slots = in_use as usize - self.held.len();
        let woken = self.callers.iter().filter(|caller| caller.woken_at().is_some()).count();
        assert!(in_slots <= woken, "{in_slots} connections were handed over, but {woken} callers were woken");
        assert!(status.waiters <= self.callers.len());
        if self.is_settled {
            self.check_waiters_need_to_wait(&status);
        }
    }

    /// Records which woken callers overtook a caller that still waits. Must run before any other caller is polled.
    pub(super) fn check_order(&mut self) {
        let now = self.clock.now();
        let mut earlier_waits = false;
        for caller in &mut self.callers {
            earlier_waits |= caller.waits_in_queue();
            if caller.woken_at().is_some() && !caller.is_judged {
                // A caller whose deadline has passed is woken out of order, to leave the queue.
                caller.overtook = earlier_waits && caller.kind == Kind::Acquire && !caller.is_due(now);
                caller.is_judged = true;
            }
        }
    }

    fn check_lists(&self, status: &PoolStatus) {
        assert_eq!(status.closed, self.closed);
        let (listed, draining): (Vec<_>, Vec<_>) =
            status.servers.iter().partition(|server| server.state != ServerState::Draining);
        // A server keeps its place, so the pool's order may differ from that of a later list.
        let sorted = |mut names: Vec<&str>| -> Vec<String> {
            names.sort_unstable();
            names.into_iter().map(str::to_owned).collect()
        };
        let listed = sorted(listed.iter().map(|server| &*server.name).collect());
        assert_eq!(listed, sorted(self.listed.iter().map(|name| &**name).collect()));
        for server in draining {
            assert!(!self.listed.contains(&&*server.name), "a server is listed twice: {status:?}");
            assert_eq!(server.idle, 0, "a removed server has no idle connections");
        }
    }

    /// Checks that the pool's counts match those of the connector and respect the limits.
    fn check_counts(&mut self, index: usize, server: Option<&ServerStatus>) {
        let name = self.models[index].name;
        let is_of_it = |address: &str| address.starts_with(name);
        let held = self.held.iter().filter(|held| is_of_it(held.conn.address())).count() as u32;
        let detached = self.detached.iter().filter(|conn| is_of_it(conn.address())).count() as u32;
        let connected = self.counts(name).open - detached;
        let model = &mut self.models[index];
        let open = server.map_or(0, |server| server.open);
        assert!(connected <= open, "{name}: {connected} connections, {open} permits");
        assert!(!self.is_settled || connected == open, "{name}: {connected} connections, {open} permits");
        // Lowering the limit closes no connection in use, but allows no new one.
        assert!(open <= model.max_conns.max(model.open_before), "{name}: {open} of {}", model.max_conns);
        model.open_before = open;
        let Some(server) = server else { return assert_eq!(held, 0) };
        assert!(server.connecting <= self.max_attempts, "{server:?}");
        assert!(server.idle as u32 + server.connecting + held <= open, "{server:?}, {held} held");
        if server.totals.connects != model.connects {
            (model.connects, model.connected_at) = (server.totals.connects, Some(self.clock.now()));
        }
        if server.state != ServerState::Draining {
            assert_eq!(server.max_conns, model.max_conns);
            assert_eq!(server.max_rps, model.rate.numbers().map(|(rps, _)| f64::from(rps)));
        }
    }

    /// Checks that a server that is down or ejected gets no connect attempt before its time, and then one at a time.
    fn check_backoff(&mut self, index: usize, server: Option<&ServerStatus>, status: &PoolStatus) {
        let (now, name) = (self.clock.now(), self.models[index].name);
        let counts = self.counts(name);
        // Those that were started: a task that has not run yet has not called the connector.
        let not_called = server.map_or(0, |server| server.connecting.saturating_sub(counts.in_flight));
        let attempts = counts.attempts + u64::from(not_called);
        let serves = |other: &ServerStatus| *other.name != *name && is_up(other.state);
        let others_serve = status.servers.iter().any(serves);
        let retries_ahead = self.rules.retries_ahead;
        let model = &mut self.models[index];
        let Some(server) = server.filter(|server| server.state != ServerState::Draining) else {
            model.seen = None;
            return;
        };
        if server.open >= server.max_conns {
            model.full_at = Some(now);
        }
        let retry_at = match server.state {
            ServerState::Down { retry_after, .. } => {
                // Not 10 µs later than the longest pause, but for each that was cut short.
                assert!(retry_after <= 10 * BACKOFF + Duration::from_millis(1), "{server:?}");
                now + retry_after
            }
            ServerState::Ejected { retry_after } => {
                let until = model.reports.ejected_until.max(now + 10 * BACKOFF);
                assert!(now + retry_after <= until + Duration::from_millis(1), "{server:?}");
                now + retry_after
            }
            ServerState::Probing { .. } => {
                assert!(server.connecting >= 1, "probing without an attempt: {server:?}");
                now
            }
            _ => now,
        };
        let seen = model.seen.replace(Seen { state: server.state, attempts, retry_at, others_serve });
        let Some(seen) = seen else { return };
        if seen.state != server.state {
            model.reports.changes += 1;
        }
        if is_up(seen.state) {
            return;
        }
        let started = attempts.saturating_sub(seen.attempts);
        // While no server serves, and for a while after it, servers are tried ahead of their time.
        let is_strict = !retries_ahead && seen.others_serve && others_serve;
        assert!(started == 0 || !is_strict || now >= seen.retry_at, "probed before its time: {server:?}");
        assert!(started <= 1 || is_up(server.state), "more than one probe: {server:?}");
    }

    /// Checks, after all tasks have run, that each waiter needs the clock or another caller to be served.
    fn check_waiters_need_to_wait(&mut self, status: &PoolStatus) {
        let waiting = self.callers.iter().filter(|caller| caller.waits_in_queue()).count();
        assert!(waiting <= status.waiters, "{waiting} callers wait, some of them served but not woken: {status:?}");
        if waiting == 0 || self.closed || self.listed.is_empty() {
            return;
        }
        let limited = match self.pool.try_acquire() {
            Err(TryAcquireError::Unavailable(counts)) => counts.limited,
            other => panic!("`try_acquire` while callers wait: {other:?}"),
        };
        let now = self.clock.now();
        let connecting: u32 = status.servers.iter().map(|server| server.connecting).sum();
        let is_up = |server: &ServerStatus| is_up(server.state);
        let none_is_up = !status.servers.iter().any(is_up);
        for server in status.servers.iter().filter(|server| server.state != ServerState::Draining) {
            let model = self.models.iter().find(|model| *model.name == *server.name).expect("the server has a model");
            let may_serve = is_up(server) || none_is_up;
            let has_token = model.rate.numbers().is_none() || (limited == 0 && is_up(server));
            assert!(
                !(may_serve && has_token && server.idle > 0),
                "an idle connection could serve a waiter: {status:?}"
            );
            let has_room = server.open < server.max_conns && server.connecting == 0;
            let may_connect = server.state == ServerState::Up && server.connecting_paused.is_none();
            // Callers that will not wait for tokens count until they are polled, and get no attempts without a token.
            let is_exact = has_token || !self.callers.iter().any(|caller| caller.kind == Kind::AcquireNow);
            let may_rest = model.connected_at.is_some_and(|at| now - at <= LONGEST_REST);
            if may_connect && has_room && server.idle == 0 && is_exact && !may_rest {
                assert!(waiting <= connecting as usize, "too few attempts run: {status:?}");
            }
            let is_due = matches!(
                server.state,
                ServerState::Down { retry_after: Duration::ZERO, .. }
                    | ServerState::Ejected { retry_after: Duration::ZERO }
            );
            // While no server is up, probes keep a distance.
            let was_full = model.full_at.is_some_and(|at| now - at <= ROOM_RETRY);
            assert!(!is_due || none_is_up || was_full || !has_room, "a due server is not probed: {status:?}");
        }
    }

    pub(super) fn check_all_windows(&self) {
        self.models.iter().for_each(Model::check_windows);
    }
}
