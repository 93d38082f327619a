//! What a pool tells of itself: its status, and why no server can serve.

use std::time::Duration;

use crate::clock::between;
use crate::connector::Connector;
use crate::error::{Counts, Reason, Report, ServerReport, Unavailable};
use crate::raw::HealthState;
use crate::server::{LiveServer, Ring};
use crate::status::{PoolStatus, ServerState, ServerStatus};
use crate::sync::Arc;

/// How many servers an error names.
const NAMED_SERVERS: usize = 8;

impl<C: Connector> Ring<C> {
    /// See [`Pool::status`](crate::Pool::status).
    pub(crate) fn status(&self) -> PoolStatus {
        let now_ns = self.clock.now_ns();
        let list = self.list.load();
        let listed = list.servers.iter().map(|server| server.status(now_ns));
        let draining =
            list.draining().map(|server| ServerStatus { state: ServerState::Draining, ..server.status(now_ns) });
        PoolStatus {
            name: Arc::clone(&self.settings.name),
            servers: listed.chain(draining).collect(),
            waiters: self.line.waiting(),
            closed: list.closed,
        }
    }

    /// Why no server can serve, as it is now.
    pub(crate) fn unavailable(&self) -> Unavailable<C::Error> {
        let mut servers = Vec::new();
        let counts = self.count(|server, reason| {
            if servers.len() < NAMED_SERVERS {
                servers.push(ServerReport { address: Arc::clone(&server.address), reason });
            }
        });
        Unavailable { report: Box::new(Report { servers, counts }) }
    }

    /// The same, counted only.
    pub(crate) fn counts(&self) -> Counts {
        self.count(|_, _| {})
    }

    /// Counts the servers by their reasons, and shows each with its own.
    fn count(&self, mut show: impl FnMut(&LiveServer<C>, Reason<C::Error>)) -> Counts {
        let now_ns = self.clock.now_ns();
        let mut counts = Counts { waiters: self.line.waiting(), ..Counts::default() };
        for server in self.list.load().servers.iter() {
            let reason = server.reason(now_ns);
            add(&mut counts, &reason);
            show(server, reason);
        }
        counts
    }
}

impl<C: Connector> LiveServer<C> {
    /// What this server is doing.
    fn status(&self, now_ns: u64) -> ServerStatus {
        let health = self.health.snapshot();
        let failures = health.failures();
        let state = match health.state() {
            HealthState::Up => ServerState::Up,
            HealthState::Trial => ServerState::Recovering { failures },
            HealthState::Down => ServerState::Down { failures, retry_after: between(now_ns, health.retry_at()) },
            HealthState::Probing => ServerState::Probing { failures },
        };
        let (open, idle, dialing) = (self.permits.open(), self.idle.len(), self.dialing());
        ServerStatus {
            address: Arc::clone(&self.address),
            state,
            open,
            max_conns: self.permits.max(),
            idle,
            connecting: dialing,
            in_use: open.saturating_sub(idle as u32).saturating_sub(dialing),
            max_rps: self.bucket().map(|bucket| bucket.rate().rps()),
        }
    }

    /// Why this server cannot serve now.
    fn reason(&self, now_ns: u64) -> Reason<C::Error> {
        let health = self.health.snapshot();
        if !health.is_up() {
            let retry_after =
                if health.state() == HealthState::Down { between(now_ns, health.retry_at()) } else { Duration::ZERO };
            let cause = self.last_failure.load_full();
            return Reason::Down { cause, failures: health.failures(), retry_after };
        }
        match self.bucket() {
            Some(bucket) if !bucket.has_token(now_ns) => {
                Reason::Limited { retry_after: between(now_ns, bucket.available_at()) }
            }
            _ if !self.permits.is_free() => Reason::Full { max_conns: self.permits.max() },
            _ => Reason::Empty { connecting: self.dialing() },
        }
    }
}

fn add<E>(counts: &mut Counts, reason: &Reason<E>) {
    let mut retry =
        |after: Duration| counts.retry_after = Some(counts.retry_after.map_or(after, |least| least.min(after)));
    match reason {
        Reason::Down { retry_after, .. } => {
            retry(*retry_after);
            counts.down += 1;
        }
        Reason::Limited { retry_after } => {
            retry(*retry_after);
            counts.limited += 1;
        }
        Reason::Full { .. } => counts.full += 1,
        Reason::Empty { .. } => counts.empty += 1,
    }
}
