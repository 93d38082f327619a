//! What holds after each step.

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
        let woken = self.callers.iter().filter(|caller| caller.rung().is_some()).count();
        assert!(in_slots <= woken, "{in_slots} connections are on their way to {woken} callers");
        assert!(status.waiters <= self.callers.len());
        if self.is_settled {
            self.check_nobody_waits_in_vain(&status);
        }
    }

    /// Whoever was just woken came before all that still wait. Called before any other caller is polled.
    pub(super) fn check_order(&mut self) {
        let now = self.clock.now();
        let mut someone_waits = false;
        for caller in &mut self.callers {
            someone_waits |= caller.waits_in_line();
            if caller.rung().is_some() && !caller.is_judged {
                // One whose time is up is woken out of turn, to leave.
                caller.overtook = someone_waits && caller.kind == Kind::Acquire && !caller.is_due(now);
                caller.is_judged = true;
            }
        }
    }

    fn check_lists(&self, status: &PoolStatus) {
        assert_eq!(status.closed, self.closed);
        let (listed, draining): (Vec<_>, Vec<_>) =
            status.servers.iter().partition(|server| server.state != ServerState::Draining);
        // A server takes the first place that is free and keeps it, whatever the order of later lists.
        let sorted = |mut names: Vec<&str>| -> Vec<String> {
            names.sort_unstable();
            names.into_iter().map(str::to_owned).collect()
        };
        let listed = sorted(listed.iter().map(|server| &*server.address).collect());
        assert_eq!(listed, sorted(self.listed.iter().map(|address| &**address).collect()));
        for server in draining {
            assert!(!self.listed.contains(&&*server.address), "it is there twice: {status:?}");
            assert_eq!(server.idle, 0, "nothing stays idle at a removed server");
        }
    }

    /// The pool counts what the connector counts, and that is within the limit.
    fn check_counts(&mut self, index: usize, server: Option<&ServerStatus>) {
        let model = &mut self.models[index];
        let address = model.address;
        let held = self.held.iter().filter(|conn| conn.address() == address).count() as u32;
        let detached = self.detached.iter().filter(|conn| conn.address() == address).count() as u32;
        let connected = self.connector.counts(address).open - detached;
        let open = server.map_or(0, |server| server.open);
        assert!(connected <= open, "{address}: {connected} connections, {open} permits");
        assert!(!self.is_settled || connected == open, "{address}: {connected} connections, {open} permits");
        // What was open when the limit was lowered stays, but nothing is added.
        assert!(open <= model.max_conns.max(model.open_before), "{address}: {open} of {}", model.max_conns);
        model.open_before = open;
        let Some(server) = server else { return assert_eq!(held, 0) };
        assert!(server.connecting <= self.max_dials, "{server:?}");
        assert!(server.idle as u32 + server.connecting + held <= open, "{server:?}, {held} held");
        if server.state != ServerState::Draining {
            assert_eq!(server.max_conns, model.max_conns);
            assert_eq!(server.max_rps, model.rate.numbers().map(|(rps, _)| f64::from(rps)));
        }
    }

    /// A Down server is left alone until its retry; then one dial at a time is tried.
    fn check_backoff(&mut self, index: usize, server: Option<&ServerStatus>) {
        let now = self.clock.now();
        let model = &mut self.models[index];
        let Some(server) = server else {
            model.state_before = None;
            return;
        };
        let before = model.state_before.replace((server.state, server.connecting));
        if let (Some((was, dials)), false) = (before, server.state == ServerState::Draining) {
            match (was, server.state) {
                (ServerState::Down { .. }, ServerState::Down { .. })
                | (ServerState::Probing { .. }, ServerState::Probing { .. }) => {
                    assert!(server.connecting <= dials, "it is Down, and dialled: {server:?}");
                }
                (ServerState::Down { failures, .. }, ServerState::Probing { failures: same }) => {
                    // A connect that succeeds ends a pause before its time.
                    assert!(now >= model.retry_at || model.may_pause, "probed before its retry: {server:?}");
                    assert_eq!(failures, same);
                    assert!(server.connecting <= dials + 1, "probed by more than one: {server:?}");
                }
                (ServerState::Down { .. }, ServerState::Up) => panic!("up without a trial: {server:?}"),
                _ => {}
            }
        }
        match server.state {
            ServerState::Down { failures, retry_after } => {
                assert!(failures >= 1 && retry_after <= 10 * BACKOFF + Duration::from_micros(10));
                model.retry_at = now + retry_after;
            }
            ServerState::Probing { .. } => assert!(server.connecting >= 1, "nobody probes: {server:?}"),
            _ => {}
        }
    }

    /// All tasks have run: whoever waits now waits for something that only time or another caller can bring.
    fn check_nobody_waits_in_vain(&mut self, status: &PoolStatus) {
        let waiting = self.callers.iter().filter(|caller| caller.waits_in_line()).count();
        assert!(waiting <= status.waiters, "{waiting} wait, or were served and not woken: {status:?}");
        if waiting == 0 || self.closed || self.listed.is_empty() {
            return;
        }
        let limited = match self.pool.try_acquire() {
            Err(TryAcquireError::Unavailable(counts)) => counts.limited,
            other => panic!("somebody waits: {other:?}"),
        };
        let connecting: u32 = status.servers.iter().map(|server| server.connecting).sum();
        let is_up = |server: &ServerStatus| matches!(server.state, ServerState::Up | ServerState::Recovering { .. });
        let none_is_up = !status.servers.iter().any(is_up);
        for server in status.servers.iter().filter(|server| server.state != ServerState::Draining) {
            let model = self.models.iter().find(|model| *model.address == *server.address).expect("one of the three");
            let may_serve = is_up(server) || none_is_up;
            let has_token = model.rate.numbers().is_none() || (limited == 0 && is_up(server));
            assert!(!(may_serve && has_token && server.idle > 0), "it could serve: {status:?}");
            if model.may_pause {
                continue;
            }
            let has_room = server.open < server.max_conns && server.connecting == 0;
            if is_up(server) && has_room && server.idle == 0 {
                assert!(waiting <= connecting as usize, "no attempt runs: {status:?}");
            }
            if let ServerState::Down { retry_after: Duration::ZERO, .. } = server.state {
                let has_room =
                    (server.open < server.max_conns || server.idle > 0) && server.connecting < self.max_dials;
                assert!(!has_room, "nobody probes it: {status:?}");
            }
        }
    }

    pub(super) fn check_all_windows(&self) {
        self.models.iter().for_each(Model::check_windows);
    }
}

impl Model {
    /// In no window were more handed out than `burst + rate × T`.
    pub(super) fn check_windows(&self) {
        let Some((rps, burst)) = self.rate.numbers() else { return };
        for (from, _) in &self.handouts {
            for (_, to) in &self.handouts {
                let within = self.handouts.iter().filter(|(begin, end)| begin >= from && end <= to).count();
                let beyond_burst = within as i128 - i128::from(burst);
                let window = to.as_nanos() as i128 - from.as_nanos() as i128;
                let is_within = within == 0 || beyond_burst * 1_000_000_000 <= i128::from(rps) * window;
                assert!(is_within, "{within} from {from:?} to {to:?}: {:?}", self.rate);
            }
        }
    }
}
