//! The checks after each step.

use std::time::Duration;

use connring::{PoolStatus, ServerState, ServerStatus, TryAcquireError};

use super::caller::Kind;
use super::rig::{BACKOFF, Model, Rig};

impl Rig {
    pub(super) fn check(&mut self) {
        let status = self.pool.status();
        self.check_order();
        self.check_lists(&status);
        for index in 0..self.models.len() {
            let server = status.servers.iter().find(|server| *server.address == *self.models[index].address);
            self.check_counts(index, server);
            self.check_backoff(index, server);
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
        let listed = sorted(listed.iter().map(|server| &*server.address).collect());
        assert_eq!(listed, sorted(self.listed.iter().map(|address| &**address).collect()));
        for server in draining {
            assert!(!self.listed.contains(&&*server.address), "a server is listed twice: {status:?}");
            assert_eq!(server.idle, 0, "a removed server has no idle connections");
        }
    }

    /// Checks that the pool's counts match those of the connector and respect the limits.
    fn check_counts(&mut self, index: usize, server: Option<&ServerStatus>) {
        let model = &mut self.models[index];
        let address = model.address;
        let held = self.held.iter().filter(|conn| conn.address() == address).count() as u32;
        let detached = self.detached.iter().filter(|conn| conn.address() == address).count() as u32;
        let connected = self.connector.counts(address).open - detached;
        let open = server.map_or(0, |server| server.open);
        assert!(connected <= open, "{address}: {connected} connections, {open} permits");
        assert!(!self.is_settled || connected == open, "{address}: {connected} connections, {open} permits");
        // Lowering the limit closes no connection in use, but allows no new one.
        assert!(open <= model.max_conns.max(model.open_before), "{address}: {open} of {}", model.max_conns);
        model.open_before = open;
        let Some(server) = server else { return assert_eq!(held, 0) };
        assert!(server.connecting <= self.max_attempts, "{server:?}");
        assert!(server.idle as u32 + server.connecting + held <= open, "{server:?}, {held} held");
        if server.state != ServerState::Draining {
            assert_eq!(server.max_conns, model.max_conns);
            assert_eq!(server.max_rps, model.rate.numbers().map(|(rps, _)| f64::from(rps)));
        }
    }

    /// Checks that a down server gets no connect attempt before its retry time, and then one at a time.
    fn check_backoff(&mut self, index: usize, server: Option<&ServerStatus>) {
        let now = self.clock.now();
        let model = &mut self.models[index];
        let Some(server) = server else {
            model.state_before = None;
            return;
        };
        let before = model.state_before.replace((server.state, server.connecting));
        if let (Some((was, attempts)), false) = (before, server.state == ServerState::Draining) {
            match (was, server.state) {
                (ServerState::Down { .. }, ServerState::Down { .. })
                | (ServerState::Probing { .. }, ServerState::Probing { .. }) => {
                    assert!(server.connecting <= attempts, "a down server gets an attempt: {server:?}");
                }
                (ServerState::Down { failures, .. }, ServerState::Probing { failures: same }) => {
                    // A connect that succeeds ends a pause before its time.
                    assert!(now >= model.retry_at || model.may_pause, "probed before the retry time: {server:?}");
                    assert_eq!(failures, same);
                    assert!(server.connecting <= attempts + 1, "more than one probe: {server:?}");
                }
                (ServerState::Down { .. }, ServerState::Up) => panic!("up without recovering first: {server:?}"),
                _ => {}
            }
        }
        match server.state {
            ServerState::Down { failures, retry_after } => {
                assert!(failures >= 1 && retry_after <= 10 * BACKOFF + Duration::from_micros(10));
                model.retry_at = now + retry_after;
            }
            ServerState::Probing { .. } => assert!(server.connecting >= 1, "probing without an attempt: {server:?}"),
            _ => {}
        }
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
        let connecting: u32 = status.servers.iter().map(|server| server.connecting).sum();
        let is_up = |server: &ServerStatus| matches!(server.state, ServerState::Up | ServerState::Recovering { .. });
        let none_is_up = !status.servers.iter().any(is_up);
        for server in status.servers.iter().filter(|server| server.state != ServerState::Draining) {
            let model =
                self.models.iter().find(|model| *model.address == *server.address).expect("the address has a model");
            let may_serve = is_up(server) || none_is_up;
            let has_token = model.rate.numbers().is_none() || (limited == 0 && is_up(server));
            assert!(
                !(may_serve && has_token && server.idle > 0),
                "an idle connection could serve a waiter: {status:?}"
            );
            if model.may_pause {
                continue;
            }
            let has_room = server.open < server.max_conns && server.connecting == 0;
            if is_up(server) && has_room && server.idle == 0 {
                assert!(waiting <= connecting as usize, "too few attempts run: {status:?}");
            }
            if let ServerState::Down { retry_after: Duration::ZERO, .. } = server.state {
                let has_room =
                    (server.open < server.max_conns || server.idle > 0) && server.connecting < self.max_attempts;
                assert!(!has_room, "a due server is not probed: {status:?}");
            }
        }
    }

    pub(super) fn check_all_windows(&self) {
        self.models.iter().for_each(Model::check_windows);
    }
}

impl Model {
    /// Checks that no window of length `T` has more than `burst + rate × T` checkouts.
    pub(super) fn check_windows(&self) {
        let Some((rps, burst)) = self.rate.numbers() else { return };
        for (from, _) in &self.checkouts {
            for (_, to) in &self.checkouts {
                let within = self.checkouts.iter().filter(|(begin, end)| begin >= from && end <= to).count();
                let beyond_burst = within as i128 - i128::from(burst);
                let window = to.as_nanos() as i128 - from.as_nanos() as i128;
                let is_within = within == 0 || beyond_burst * 1_000_000_000 <= i128::from(rps) * window;
                assert!(is_within, "{within} from {from:?} to {to:?}: {:?}", self.rate);
            }
        }
    }
}
