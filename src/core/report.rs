//! Status and errors: a snapshot of the pool, and why no server can serve.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::error::{AcquireError, Counts, Reason, Report, ServerReport, TryAcquireError, Unavailable};
use crate::raw::{BreakerState, HealthState, Time};
use crate::server::{ServerEntry, Total, chain};
use crate::servers::List;
use crate::status::{PoolStatus, ServerState, ServerStatus};
use crate::sync::Arc;

/// How many servers an error names.
const NAMED_SERVERS: usize = 8;
/// A caller that sleeps for `retry_after` does not spin.
const SHORTEST_RETRY: Duration = Duration::from_millis(1);

/// Why no caller can be served any more.
pub(crate) fn ended<C: Connector>(shared: &Shared<C>) -> Option<AcquireError<C::Error>> {
    let list = shared.servers.list();
    let ended = || if list.closed { AcquireError::Closed } else { AcquireError::NoServers };
    (list.len == 0).then(ended)
}

/// Whether there is a total outage: no server serves.
pub(crate) fn is_outage<C: Connector>(shared: &Shared<C>) -> bool {
    shared.servers.serving.serving() == 0
}

/// Whether there is a total outage, and callers shall not wait for its end.
pub(crate) fn fails_fast<C: Connector>(shared: &Shared<C>) -> bool {
    shared.settings.fail_fast_when_down && is_outage(shared)
}

/// Whether a caller that waits until `deadline` would wait in vain: no server serves, is connected to or has an open
/// connection, and none is tried before then.
pub(crate) fn is_pointless<C: Connector>(shared: &Shared<C>, now: Time, deadline: Time) -> bool {
    let retry = || {
        let own = shared.due_times.earliest(|number| resumes_at(shared, number, now));
        let ahead = shared.settings.outage_retry.map(|_| shared.due_times.ahead());
        own.into_iter().chain(ahead).min().unwrap_or(Time::NEVER)
    };
    fails_fast(shared)
        || is_outage(shared)
            && shared.attempts.running() == 0
            && shared.servers.list().open.is_empty()
            && retry() > deadline
}

/// When connecting to a server resumes, by the current list: an older one may lack it.
fn resumes_at<C: Connector>(shared: &Shared<C>, number: usize, now: Time) -> Option<Time> {
    shared.servers.list().entry(number)?.server().resumes_at(now)
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
        name: Arc::clone(entry.server().config().shared_name()),
        reason: reason(entry.server(), now),
    });
    Unavailable { report: Box::new(Report { servers: named.collect(), counts: counts(shared, &list) }) }
}

/// Counts the servers by the reason why they cannot serve.
fn counts<C: Connector>(shared: &Shared<C>, list: &List<C>) -> Counts {
    let now = shared.clock.time();
    let mut counts = Counts { waiters: shared.notifier.signals.waiters(), ..Counts::default() };
    let up = list.up.len();
    counts.down = list.len.saturating_sub(up);
    let mut retry = (shared.attempts.probes() > 0).then_some(now);
    if counts.down > 0 && retry.is_none() {
        retry = shared.due_times.earliest(|number| resumes_at(shared, number, now));
    }
    for entry in list.up.iter_from(0).filter_map(|number| list.entry(number)) {
        let at = match limit(entry.server(), now) {
            Limit::Token { available_at } => {
                counts.limited += 1;
                Some(available_at)
            }
            Limit::Full => {
                counts.full += 1;
                None
            }
            Limit::Paused { until } => {
                counts.paused += 1;
                Some(until)
            }
            Limit::Empty => {
                counts.empty += 1;
                None
            }
        };
        retry = retry.into_iter().chain(at).min();
    }
    counts.retry_after = retry.map(|at| at.since(now).max(SHORTEST_RETRY));
    counts
}

/// What keeps a server that is up from serving.
enum Limit {
    Token { available_at: Time },
    Full,
    Paused { until: Time },
    Empty,
}

fn limit<C: Connector>(server: &ServerEntry<C>, now: Time) -> Limit {
    let paused_until = server.breaker.snapshot().paused_until().filter(|&until| until > now);
    match (server.bucket(), paused_until) {
        (Some(bucket), _) if !bucket.has_token(now) => Limit::Token { available_at: bucket.available_at() },
        _ if !server.permits.counts().is_free() => Limit::Full,
        (_, Some(until)) => Limit::Paused { until },
        _ => Limit::Empty,
    }
}

/// Why a server cannot serve now.
fn reason<C: Connector>(server: &ServerEntry<C>, now: Time) -> Reason<C::Error> {
    let (health, breaker) = (server.health.snapshot(), server.breaker.snapshot());
    let retry_after = |at: Time| at.since(now).max(SHORTEST_RETRY);
    let connect_error = server.connect_error();
    if health.is_down() {
        let (cause, failures) = (server.last_failure(), breaker.failures());
        let retry_after = retry_after(server.down_until().unwrap_or(now));
        return Reason::Down { cause, connect_error, failures, retry_after };
    }
    match limit(server, now) {
        Limit::Token { available_at } => Reason::Limited { retry_after: retry_after(available_at) },
        Limit::Full => Reason::Full { max_conns: server.permits.counts().max() },
        Limit::Paused { until } => {
            Reason::Paused { cause: connect_error, failures: breaker.failures(), retry_after: retry_after(until) }
        }
        Limit::Empty => Reason::Empty { connecting: server.permits.counts().connecting() },
    }
}

/// See [`Pool::status`](crate::Pool::status).
pub(crate) fn status<C: Connector>(shared: &Shared<C>) -> PoolStatus {
    let (list, now) = (shared.servers.list(), shared.clock.time());
    let listed = list.iter().map(|(_, entry)| {
        let (health, breaker) = (entry.server().health.snapshot(), entry.server().breaker.snapshot());
        let failures = breaker.failures();
        let retry_after = entry.server().down_until().map_or(Duration::ZERO, |until| until.since(now));
        let state = match (health.state(), breaker.state()) {
            (HealthState::Up, _) => ServerState::Up,
            (HealthState::Recovering, _) => ServerState::Recovering,
            (HealthState::Down, BreakerState::Trying) => ServerState::Probing { failures },
            (HealthState::Down, _) if health.ejected_until().is_some() => ServerState::Ejected { retry_after },
            (HealthState::Down, _) => ServerState::Down { failures, retry_after },
        };
        let idle = &entry.generation.idle;
        server_status(entry.server(), state, [idle.len(), idle.capacity()], now)
    });
    let draining = shared.servers.draining();
    let draining = draining.iter().map(|server| server_status(server, ServerState::Draining, [0, 0], now));
    PoolStatus {
        name: Arc::clone(&shared.notifier.pool),
        servers: listed.chain(draining).collect(),
        waiters: shared.notifier.signals.waiters(),
        totals: shared.notifier.totals.read(),
        waits: shared.notifier.totals.get(Total::Waits),
        wait_timeouts: shared.notifier.totals.get(Total::WaitTimeouts),
        queue_full: shared.notifier.totals.get(Total::QueueFull),
        closed: list.closed,
    }
}

/// `idle` is the number of idle connections, and the room for them.
fn server_status<C: Connector>(
    server: &ServerEntry<C>,
    state: ServerState,
    [idle, room]: [usize; 2],
    now: Time,
) -> ServerStatus {
    let (config, counts) = (server.config(), server.permits.counts());
    let paused_until = server.breaker.snapshot().paused_until().filter(|&until| until > now);
    ServerStatus {
        name: Arc::clone(config.shared_name()),
        address: Arc::clone(config.shared_address()),
        state,
        open: counts.open(),
        max_conns: counts.max(),
        idle,
        max_idle: counts.max().min(room as u32),
        connecting: counts.connecting(),
        closing: server.closing(),
        in_use: counts.established().saturating_sub(idle as u32 + server.closing()),
        max_rps: server.bucket().map(|bucket| bucket.rate().rps()),
        connecting_paused: paused_until.map(|until| until.since(now)),
        connect_error: server.connect_error().map(|error| chain(&*error)),
        totals: server.totals().read(),
    }
}
