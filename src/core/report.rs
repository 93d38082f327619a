//! Status and errors: a snapshot of the pool, and why no server can serve.

use std::time::Duration;

use crate::acquire_options::Wish;
use crate::connector::Connector;
use crate::core::outage::resumes_at;
use crate::core::shared::Shared;
use crate::core::spill;
use crate::error::{Counts, Reason, Report, ServerReport, TryAcquireError, Unavailable};
use crate::raw::{BreakerState, HealthState, Time};
use crate::server::{Server, ServerRecord, chain};
use crate::servers::List;
use crate::settings::DEFAULT_NAME;
use crate::status::{PoolStatus, ServerState, ServerStatus};
use crate::sync::Arc;

/// How many servers an error names.
const NAMED_SERVERS: usize = 8;
/// A caller that sleeps for `retry_after` does not spin.
const SHORTEST_RETRY: Duration = Duration::from_millis(1);

/// Why `try_acquire` got nothing. It costs the same whatever the number of servers that are down.
#[cold]
pub(crate) fn refusal<C: Connector>(shared: &Shared<C>) -> TryAcquireError {
    let list = shared.servers.list();
    match (list.closed, list.len) {
        (true, _) => TryAcquireError::Closed,
        (false, 0) => TryAcquireError::NoServers,
        (false, _) => TryAcquireError::Unavailable(counts(shared, &list, None)),
    }
}

/// Why no server can serve a caller now.
pub(crate) fn unavailable<C: Connector>(shared: &Shared<C>, wish: Option<&Wish>) -> Unavailable<C::Error> {
    let (list, now) = (shared.servers.list(), shared.clock.time());
    let worst = spill::worst_tier(shared, &list, now);
    let named = list.iter().take(NAMED_SERVERS).map(|(_, entry)| ServerReport {
        name: Arc::clone(entry.server().config().shared_name()),
        reason: reason(entry.server(), spill::avoids(shared, &list, wish, entry.server()), worst, now),
    });
    let pool = Some(&shared.settings.name).filter(|name| ***name != *DEFAULT_NAME).cloned();
    Unavailable { report: Box::new(Report { pool, servers: named.collect(), counts: counts(shared, &list, wish) }) }
}

/// Counts the servers by the reason why they cannot serve.
fn counts<C: Connector>(shared: &Shared<C>, list: &List<C>, wish: Option<&Wish>) -> Counts {
    let now = shared.clock.time();
    let mut counts = Counts { waiters: shared.signals.waiters(), ..Counts::default() };
    let (up, standby) = (list.up.len(), list.standby.len());
    // A look at the bitmap costs as much as the rest of a refusal, so none more where it is empty.
    let spilled_to: Vec<_> = match standby {
        0 => Vec::new(),
        _ => spill::servers(shared, list, 0, now).map(|(_, entry)| entry).collect(),
    };
    counts.standby = standby.saturating_sub(spilled_to.len());
    counts.disabled = shared.servers.disabled();
    counts.down = list.len.saturating_sub(up + standby + counts.disabled);
    let mut retry = (shared.attempts.probes() > 0).then_some(now);
    if counts.down + counts.disabled > 0 && retry.is_none() {
        retry = shared.due_times.earliest(now, |number| resumes_at(shared, number, now));
    }
    // Not beyond so many: `up` may have grown since.
    for entry in list.up.iter_from(0).take(up).filter_map(|number| list.entry(number)).chain(spilled_to) {
        let at = match obstacle(entry.server(), spill::avoids(shared, list, wish, entry.server()), now) {
            Obstacle::Avoided => {
                counts.avoided += 1;
                None
            }
            Obstacle::Token { available_at } => {
                counts.limited += 1;
                Some(available_at)
            }
            Obstacle::Full => {
                counts.full += 1;
                None
            }
            Obstacle::Paused { until } => {
                counts.paused += 1;
                Some(until)
            }
            Obstacle::Empty => {
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
enum Obstacle {
    Avoided,
    Token { available_at: Time },
    Full,
    Paused { until: Time },
    Empty,
}

fn obstacle<C: Connector>(server: &ServerRecord<C>, is_avoided: bool, now: Time) -> Obstacle {
    let (breaker, counts) = (server.breaker.snapshot(), server.permits.counts());
    // Also while the trial after the pause runs.
    let paused_until = (breaker.state() != BreakerState::Closed).then(|| breaker.paused_until().unwrap_or(now));
    if is_avoided {
        return Obstacle::Avoided;
    }
    match (server.bucket(), paused_until) {
        (Some(bucket), _) if !bucket.has_token(now) => Obstacle::Token { available_at: bucket.available_at() },
        _ if counts.established() >= counts.max() => Obstacle::Full,
        (_, Some(until)) => Obstacle::Paused { until },
        // It recovers, and its connections are in use.
        _ if server.serves() && server.most_attempts(1) == 0 && counts.connecting() == 0 => {
            Obstacle::Paused { until: server.recovering_until() }
        }
        _ => Obstacle::Empty,
    }
}

/// Why a server cannot serve now, where callers may use the tiers up to `worst`.
fn reason<C: Connector>(server: &ServerRecord<C>, is_avoided: bool, worst: usize, now: Time) -> Reason<C::Error> {
    let (health, breaker) = (server.health.snapshot(), server.breaker.snapshot());
    let retry_after = |at: Time| at.since(now).max(SHORTEST_RETRY);
    let connect_error = server.connect_error();
    if let Some(until) = server.disabled_until() {
        return Reason::Disabled { ends_in: (until != Time::NEVER).then(|| retry_after(until)) };
    }
    if health.is_down() {
        let (cause, failures) = (server.last_failure(), breaker.failures());
        let retry_after = retry_after(server.down_until().unwrap_or(now));
        return Reason::Down { cause, connect_error, failures, retry_after };
    }
    if health.tier() > worst {
        return Reason::Standby { tier: health.tier() as u32 };
    }
    match obstacle(server, is_avoided, now) {
        Obstacle::Avoided => Reason::Avoided,
        Obstacle::Token { available_at } => Reason::Limited { retry_after: retry_after(available_at) },
        Obstacle::Full => Reason::Full { max_conns: server.permits.counts().max() },
        Obstacle::Paused { until } => {
            let cause = connect_error.or_else(|| server.last_failure());
            Reason::Paused { cause, failures: breaker.failures(), retry_after: retry_after(until) }
        }
        Obstacle::Empty => Reason::Empty { connecting: server.permits.counts().connecting() },
    }
}

/// The names of the removed servers with connections that were not returned, in their order, and how many of each.
pub(crate) fn not_returned<C: Connector>(shared: &Shared<C>) -> Vec<(Arc<str>, usize)> {
    let of = |server: &Arc<ServerRecord<C>>| {
        (Arc::clone(server.config().shared_name()), server.permits.counts().open() as usize)
    };
    let mut servers: Vec<_> = shared.servers.draining().iter().map(of).filter(|&(_, open)| open > 0).collect();
    servers.sort_unstable();
    servers
}

/// See [`Pool::servers`](crate::Pool::servers).
pub(crate) fn servers<C: Connector>(shared: &Shared<C>) -> Vec<Server> {
    shared.servers.list().iter().map(|(_, entry)| (*entry.server().config()).clone()).collect()
}

/// See [`Pool::status`](crate::Pool::status).
pub(crate) fn status<C: Connector>(shared: &Shared<C>) -> PoolStatus {
    let (list, now, tier_in_use) = (shared.servers.list(), shared.clock.time(), shared.servers.tier_in_use());
    let min_idle = shared.settings.min_idle() as usize;
    let listed = list.iter().map(|(_, entry)| {
        let (health, breaker) = (entry.server().health.snapshot(), entry.server().breaker.snapshot());
        let failures = breaker.failures();
        let retry_after = entry.server().down_until().map_or(Duration::ZERO, |until| until.since(now));
        let state = match (entry.server().disabled_until(), health.state(), breaker.state()) {
            (Some(Time::NEVER), ..) => ServerState::Disabled { ends_in: None },
            (Some(until), ..) => ServerState::Disabled { ends_in: Some(until.since(now)) },
            (None, HealthState::Up, _) => ServerState::Up,
            (None, HealthState::Recovering, _) => ServerState::Recovering,
            (None, HealthState::Down, BreakerState::Trying) => ServerState::Probing { failures },
            (None, HealthState::Down, _) if health.is_ejected() => ServerState::Ejected { retry_after },
            (None, HealthState::Down, _) => ServerState::Down { failures, retry_after },
        };
        let idle = &entry.generation.idle;
        server_status(entry.server(), state, tier_in_use, [idle.len(), idle.capacity(), min_idle], now)
    });
    let draining = shared.servers.draining();
    let draining = draining.iter().map(|server| server_status(server, ServerState::Draining, tier_in_use, [0; 3], now));
    let waits = &shared.notifier.waits;
    PoolStatus {
        name: Arc::clone(&shared.notifier.name),
        servers: listed.chain(draining).collect(),
        waiters: shared.signals.waiters(),
        totals: shared.notifier.totals.read(),
        waits: waits.all.get(),
        wait_timeouts: waits.timeouts.get(),
        queue_full: waits.queue_full.get(),
        closed: list.closed,
    }
}

/// `idle` is the number of idle connections, the room for them, and how many are kept.
fn server_status<C: Connector>(
    server: &ServerRecord<C>,
    state: ServerState,
    tier_in_use: usize,
    [idle, room, min_idle]: [usize; 3],
    now: Time,
) -> ServerStatus {
    let (config, counts, health) = (server.config(), server.permits.counts(), server.health.snapshot());
    let paused_until = server.connecting_paused(now);
    ServerStatus {
        name: Arc::clone(config.shared_name()),
        address: Arc::clone(config.shared_address()),
        state,
        weight: server.weight.full(),
        tier: health.tier() as u32,
        standby: health.serves() && health.tier() > tier_in_use,
        open: counts.open(),
        max_conns: counts.max(),
        idle,
        min_idle: min_idle as u32,
        max_idle: counts.max().min(room as u32),
        connecting: counts.connecting(),
        closing: server.closing.get(),
        in_use: counts.established().saturating_sub(idle as u32 + server.closing.get()),
        max_rps: server.bucket().map(|bucket| bucket.rate().rps()),
        connecting_paused: paused_until.map(|until| until.since(now)),
        connect_error: server.connect_error().map(|error| chain(&*error)),
        totals: server.totals().read(),
    }
}
