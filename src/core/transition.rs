//! Changes a server's breaker and health, and acts on it: event, bits, due time, last failure.

use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::connector::{ConnectFault, Connector};
use crate::core::closing::close;
use crate::core::idle_conns::{close_of_older_outages, has_answering_connection};
use crate::core::look_again::{look_again, look_at};
use crate::core::outage;
use crate::core::shared::Shared;
use crate::error::Failure;
use crate::raw::{BreakerState, Ejected, HealthSnapshot, HealthState, Outage, Pass, Time};
use crate::server::{Connection, Generation, Total, chain};
use crate::status::StateKind;
use crate::sync::Arc;

/// A reported failure adds to those before it for this long.
const STRIKES_LAST: Duration = Duration::from_secs(10);

/// How things stood when an attempt began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Begun {
    pub(crate) pass: Pass,
    /// The server's outage number.
    pub(crate) outage: Outage,
    pub(crate) tick: Time,
}

/// Acts on a failed connect. Connecting pauses. If it is the server's fault, the server goes down, unless others of its
/// connections answer: then it is overloaded rather than dead.
pub(crate) fn connect_failed<C: Connector>(
    shared: &Shared<C>,
    generation: &Arc<Generation<C>>,
    begun: Begun,
    fault: ConnectFault,
    failure: Arc<Failure<C::Error>>,
) {
    let (server, now) = (&generation.server, shared.clock.time());
    let paused = server.breaker.failed(begun.pass, pause_end(shared, now));
    let paused = paused.and_then(|paused| Some((paused.paused_until()?, paused.failures())));
    if let Some((until, _)) = paused {
        look_at(shared, generation, until);
    }
    server.set_connect_error(Some(Arc::clone(&failure)));
    if let Some((until, failures)) = paused {
        server.tell_pause(&failure, failures, until.since(now));
    }
    if fault == ConnectFault::Client {
        return;
    }
    let answers = match *failure {
        Failure::ConnectTimeout { .. } => server.answered.is_since(begun.tick),
        _ => has_answering_connection(shared, generation),
    };
    if answers {
        let is_ejected = server.health.ejected_until().is_some_and(|until| until > now);
        let health = server.health.snapshot();
        // An attempt that began before the present outage says nothing about it.
        if !health.is_down() || health.outage() != begun.outage || is_ejected {
            return;
        }
        close_outdated(shared, generation, begun.outage);
        if server.health.come_up(&shared.servers.serving, begun.outage, now) {
            serves_again(shared, generation, begun.outage);
            server.tell_state(StateKind::Up, "server refuses connects, its connections answer");
        }
    } else if let Some(down) = server.health.connect_failed(&shared.servers.serving, begun.outage, now) {
        went_down(shared, generation, down, failure, now);
    }
}

/// Closes a connection that may not be reused, out of line of the hot path.
#[cold]
pub(crate) fn close_unusable<C: Connector>(shared: &Shared<C>, conn: Box<Connection<C>>, now: Time) {
    match conn.why_expired(now, shared.idle_limit) {
        Some(why) => close(conn, why),
        None => close_refused(shared, conn, CloseReason::Unfit),
    }
}

/// Closes a connection that the connector refuses. If it was never used and is younger than a second, that counts as a
/// failed connect.
pub(crate) fn close_refused<C: Connector>(shared: &Shared<C>, conn: Box<Connection<C>>, why: CloseReason) {
    const AT_ONCE: Duration = Duration::from_secs(1);
    // The tick stands still while the client is stalled.
    let opened_at = conn.info().opened_at();
    let age = shared.clock.time().since(opened_at);
    let is_new = conn.info().uses() == 0 && age < AT_ONCE;
    let (generation, outage) = (Arc::clone(conn.generation()), conn.outage());
    close(conn, why);
    if is_new {
        let begun = Begun { pass: generation.server.breaker.pass(), outage, tick: opened_at };
        connect_failed(shared, &generation, begun, ConnectFault::Server, Arc::new(Failure::ClosedAtOnce));
    }
}

/// Closes the idle connections of a server that have not come back well since `outage` began, before callers may use
/// the server again: these died with it, or it was ejected for their failures.
fn close_outdated<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, outage: Outage) {
    // In the generation that took over, if the settings changed during the attempt.
    if let Some(current) = shared.servers.current(generation) {
        close_of_older_outages(&current, outage);
    }
}

/// The server serves again after `outage`, and `close_outdated` has run.
fn serves_again<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, outage: Outage) {
    shared.servers.refresh(generation.number());
    shared.notifier.wake_if_waiters();
    // Again: a thread that found the server down may have returned one since. After the fence of `refresh`, which
    // pairs with the push of that thread.
    close_outdated(shared, generation, outage);
}

/// An attempt ended undecided. If it was the trial, the pause goes on.
pub(crate) fn abandoned<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, pass: Pass) {
    let until = pause_end(shared, shared.clock.time())(1);
    if let Some(until) = generation.server.breaker.abandoned(pass, until).and_then(|paused| paused.paused_until()) {
        look_at(shared, generation, until);
    }
}

/// An attempt connected: connecting goes on. A server that was down when it began recovers.
pub(crate) fn connected<C: Connector>(shared: &Shared<C>, generation: &Arc<Generation<C>>, begun: Begun) {
    let (server, Begun { pass, outage, .. }) = (&generation.server, begun);
    server.breaker.succeeded(pass);
    if server.breaker.snapshot().state() == BreakerState::Closed {
        server.set_connect_error(None);
    }
    let (health, now) = (server.health.snapshot(), shared.clock.time());
    if !pass.is_trial() || !health.is_down() {
        return;
    }
    if health.outage() != outage {
        // It went down since the trial began, which tells nothing of this outage: the next one does.
        return look_at(shared, generation, server.down_until().unwrap_or(now));
    }
    let until = pause_end(shared, now)(1);
    server.set_recovering_until(until);
    // Before drops run, which may panic: a server that is still down then is tried again.
    look_at(shared, generation, until);
    close_outdated(shared, generation, outage);
    if server.health.begin_recovery(&shared.servers.serving, outage, now).is_some() {
        // Again: the drops may have taken until then, and the look found it down.
        look_at(shared, generation, until);
        serves_again(shared, generation, outage);
        // Last: it runs user code.
        server.tell_state(StateKind::Recovering, "server serves again");
    }
}

/// A connection came back well under `outage`. Clears the strikes, and ends a recovery.
#[cold]
pub(crate) fn succeeded<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, outage: Outage) {
    let server = &generation.server;
    if !server.strikes.is_clear() && server.health.snapshot().outage() == outage {
        server.strikes.clear();
    }
    end_recovery(shared, generation, outage);
}

/// Ends a recovery from `outage`.
pub(crate) fn end_recovery<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, outage: Outage) {
    if generation.server.health.end_recovery(outage) {
        generation.server.breaker.clear_failures();
        // Waiters may connect to it again.
        shared.notifier.wake_if_waiters();
        look_again(shared, generation);
        // The last event of one that is removed is that it is gone.
        if !generation.server.is_removed() {
            generation.server.tell_state(StateKind::Up, "server is up");
        }
    }
}

/// Counts a failure that a caller reported of a connection of `outage`. Ejects the server where there were enough, and
/// at once while it recovers or where the caller says for how long.
pub(crate) fn reported<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    outage: Outage,
    failure: Failure<C::Error>,
    eject_for: Option<Duration>,
) {
    let (server, consecutive) = (&generation.server, shared.settings.ejection.consecutive_failures);
    server.count(Total::Failures, 1);
    let health = server.health.snapshot();
    let pool = server.pool_name();
    if health.is_down() || health.outage() != outage {
        tracing::debug!(
            %pool, server = %server.config().name(), cause = %chain(&failure), "failure of an older outage reported"
        );
        return;
    }
    server.count(Total::CountedFailures, 1);
    let strikes = server.strikes.count(shared.clock.time(), STRIKES_LAST);
    let is_enough = eject_for.is_some() || health.state() == HealthState::Recovering || strikes >= consecutive;
    if !is_enough {
        tracing::debug!(
            %pool, server = %server.config().name(), cause = %chain(&failure), failures = strikes, "failure reported"
        );
        return;
    }
    eject(shared, generation, outage, failure, strikes, eject_for);
}

/// Ejects a server after so many failures of connections of `outage`, if the settings allow it. Both the failures in a
/// row and the failures of the last seconds come here.
pub(crate) fn eject<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    outage: Outage,
    failure: Failure<C::Error>,
    failures: u32,
    eject_for: Option<Duration>,
) {
    let (server, now, ejection) = (&generation.server, shared.clock.time(), &shared.settings.ejection);
    server.strikes.clear();
    let until = |k| now.after(eject_for.unwrap_or_else(|| ejection.duration(k, shared.random.draw())));
    let ejected = match ejection.enforce {
        true => server.health.eject(&shared.servers.serving, outage, ejection.max_ejected_ratio, now, until),
        false => Ejected::Refused,
    };
    match ejected {
        Ejected::Down(down) => {
            server.count(Total::Ejections, 1);
            went_down(shared, generation, down, Arc::new(failure), now);
        }
        Ejected::Refused => {
            tracing::warn!(
                pool = %server.pool_name(), server = %server.config().name(), cause = %chain(&failure), failures,
                enforce = ejection.enforce, "server is not ejected"
            );
        }
        Ejected::Ignored => {}
    }
}

/// The server just went down.
fn went_down<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    down: HealthSnapshot,
    failure: Arc<Failure<C::Error>>,
    now: Time,
) {
    let server = &generation.server;
    server.strikes.clear();
    let is_removed = server.is_removed();
    if !is_removed {
        server.set_last_failure(Some(Arc::clone(&failure)));
    }
    shared.servers.refresh(server.number());
    let until = server.avoided_until().unwrap_or(now);
    look_at(shared, generation, until);
    stopped_serving(shared, now);
    // If no server is up, idle connections of servers that are down serve from now on.
    shared.notifier.wake_if_waiters();
    if is_removed {
        // Its last event is that it is gone.
        return;
    }
    // Last: it runs user code, whose panic must not keep the server from being retried.
    let state = if down.is_ejected() { StateKind::Ejected } else { StateKind::Down };
    server.tell_down(state, &failure, until.since(now));
}

/// Called where a server may have stopped serving. If none serves any more, those that were ejected are tried at once.
pub(crate) fn stopped_serving<C: Connector>(shared: &Shared<C>, now: Time) {
    if !outage::is_total_outage(shared) {
        return;
    }
    if shared.settings.fail_fast_when_down {
        shared.queue.wake_all();
    }
    let list = shared.servers.list();
    if let Some(distance) = shared.settings.ahead_distance(list.len) {
        shared.due_times.bring_ahead(now, now.after(distance));
    }
    for (number, entry) in list.iter() {
        if entry.server().health.end_ejection() {
            shared.due_times.push(now, number);
        }
    }
    shared.notifier.wake_before(now);
}

/// When a pause ends that begins now, after that many failures in a row.
fn pause_end<C: Connector>(shared: &Shared<C>, now: Time) -> impl Fn(u32) -> Time + '_ {
    move |failures| now.after(shared.settings.backoff.interval(failures, shared.random.draw()))
}
