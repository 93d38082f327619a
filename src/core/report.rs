//! Status and errors: a snapshot of the pool, and why no server can serve.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::error::{AcquireError, Counts, Reason, Report, ServerReport, TryAcquireError, Unavailable};
use crate::raw::{HealthState, Time};
use crate::server::ServerEntry;
use crate::servers::List;
use crate::status::{PoolStatus, ServerState, ServerStatus};
use crate::sync::Arc;

/// How many servers an error names.
const NAMED_SERVERS: usize = 8;

/// Why no caller can be served any more.
pub(crate) fn ended<C: Connector>(shared: &Shared<C>) -> Option<AcquireError<C::Error>> {
    let list = shared.servers.list();
    let ended = || if list.closed { AcquireError::Closed } else { AcquireError::NoServers };
    (list.len == 0).then(ended)
}

/// Why `try_acquire` got nothing. It costs the same whatever the number of servers that are down.
#[cold]
pub(crate) fn refusal<C: Connector>(shared: &Shared<C>) -> TryAcquireError {
    let list = shared.servers.list();
    match (list.closed, list.len) {
        (true, _) => TryAcquireError::Closed,
        (false, 0) => TryAcquireError::NoServers,
        (false, _) => TryAcquireError::Unavailable(counts(shared, &list)),
    }
}

/// Why no server can serve now.
pub(crate) fn unavailable<C: Connector>(shared: &Shared<C>) -> Unavailable<C::Error> {
    let (list, now) = (shared.servers.list(), shared.clock.time());
    let named = list.iter().take(NAMED_SERVERS).map(|(_, entry)| ServerReport {
        address: Arc::clone(entry.server().config().shared_name()),
        reason: reason(entry.server(), now),
    });
    Unavailable { report: Box::new(Report { servers: named.collect(), counts: counts(shared, &list) }) }
}

/// Counts the servers by the reason why they cannot serve.
fn counts<C: Connector>(shared: &Shared<C>, list: &List<C>) -> Counts {
    let now = shared.clock.time();
    let mut counts = Counts { waiters: shared.notifier.signals.waiters(), ..Counts::default() };
    let mut retry = |at: Time| {
        let after = at.since(now);
        counts.retry_after = Some(counts.retry_after.map_or(after, |least| least.min(after)));
    };
    let up = list.up.len();
    // The current list: an older one may lack a server that has a due time, which would be dropped.
    let resumes_at = |number| shared.servers.list().entry(number)?.server().resumes_at(now);
    if shared.attempts.probes() > 0 {
        retry(now);
    } else if up < list.len {
        shared.due_times.earliest(resumes_at).into_iter().for_each(&mut retry);
    }
    for entry in list.up.iter_from(0).filter_map(|number| list.entry(number)) {
        match limit(entry.server(), now) {
            Limit::Token { available_at } => {
                counts.limited += 1;
                let after = available_at.since(now);
                counts.retry_after = Some(counts.retry_after.map_or(after, |least| least.min(after)));
            }
            Limit::Full => counts.full += 1,
            Limit::Empty => counts.empty += 1,
        }
    }
    counts.down = list.len.saturating_sub(up);
    counts
}

/// What keeps a server that is up from serving.
enum Limit {
    Token { available_at: Time },
    Full,
    Empty,
}

fn limit<C: Connector>(server: &ServerEntry<C>, now: Time) -> Limit {
    match server.bucket() {
        Some(bucket) if !bucket.has_token(now) => Limit::Token { available_at: bucket.available_at() },
        _ if !server.permits.counts().is_free() => Limit::Full,
        _ => Limit::Empty,
    }
}

/// Why a server cannot serve now.
fn reason<C: Connector>(server: &ServerEntry<C>, now: Time) -> Reason<C::Error> {
    let health = server.health.snapshot();
    if !health.is_up() {
        let (cause, failures) = (server.last_failure(), health.failures());
        return Reason::Down { cause, failures, retry_after: retry_after(server, now) };
    }
    match limit(server, now) {
        Limit::Token { available_at } => Reason::Limited { retry_after: available_at.since(now) },
        Limit::Full => Reason::Full { max_conns: server.permits.counts().max() },
        Limit::Empty => Reason::Empty { connecting: server.permits.counts().connecting() },
    }
}

/// How long a server stays down. Zero if it is probed.
fn retry_after<C: Connector>(server: &ServerEntry<C>, now: Time) -> Duration {
    server.down_until().map_or(Duration::ZERO, |until| until.since(now))
}

/// See [`Pool::status`](crate::Pool::status).
pub(crate) fn status<C: Connector>(shared: &Shared<C>) -> PoolStatus {
    let (list, now) = (shared.servers.list(), shared.clock.time());
    let listed = list.iter().map(|(_, entry)| {
        let health = entry.server().health.snapshot();
        let failures = health.failures();
        let state = match health.state() {
            HealthState::Up => ServerState::Up,
            HealthState::Recovering => ServerState::Recovering { failures },
            HealthState::Down => ServerState::Down { failures, retry_after: retry_after(entry.server(), now) },
            HealthState::Probing => ServerState::Probing { failures },
        };
        server_status(entry.server(), state, entry.generation.idle.len())
    });
    let draining = shared.servers.draining();
    let draining = draining.iter().map(|server| server_status(server, ServerState::Draining, 0));
    PoolStatus {
        name: Arc::clone(&shared.notifier.pool),
        servers: listed.chain(draining).collect(),
        waiters: shared.notifier.signals.waiters(),
        closed: list.closed,
    }
}

fn server_status<C: Connector>(server: &ServerEntry<C>, state: ServerState, idle: usize) -> ServerStatus {
    let counts = server.permits.counts();
    ServerStatus {
        address: Arc::clone(server.config().shared_name()),
        state,
        open: counts.open(),
        max_conns: counts.max(),
        idle,
        connecting: counts.connecting(),
        in_use: counts.open().saturating_sub(idle as u32).saturating_sub(counts.connecting()),
        max_rps: server.bucket().map(|bucket| bucket.rate().rps()),
    }
}
