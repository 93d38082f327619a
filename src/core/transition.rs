//! Changes a server's health and acts on it: event, bits, due time, last failure.

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::error::Failure;
use crate::raw::{Health, Outage, Probe, ProbeOwner, Reported, Snapshot, Time};
use crate::server::{Generation, chain};
use crate::sync::Arc;

/// Takes a server down after a failed attempt that began in `outage`.
pub(crate) fn connect_failed<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    outage: Outage,
    failure: Failure<C::Error>,
) {
    let now = shared.clock.time();
    if let Some(down) = generation.server.health.connect_failed(outage, retry_at(shared, now)) {
        went_down(shared, generation, down, failure, now);
    }
}

/// Counts a failure that a caller reported of a connection opened in `outage`.
pub(crate) fn reported<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    outage: Outage,
    failure: Failure<C::Error>,
) {
    let now = shared.clock.time();
    let threshold = shared.settings.fail_threshold;
    match generation.server.health.reported(outage, threshold, retry_at(shared, now)) {
        Reported::Down(down) => went_down(shared, generation, down, failure, now),
        Reported::Strike | Reported::Ignored => {
            let (pool, server) = names(shared, generation);
            tracing::debug!(%pool, %server, cause = %chain(&failure), "failure reported");
        }
    }
}

/// Counts the release of a connection opened in `outage`. If it ends the recovery or clears strikes, records it.
#[cold]
pub(crate) fn released<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, outage: Outage) {
    if generation.server.health.released(outage) {
        let (pool, server) = names(shared, generation);
        tracing::info!(%pool, %server, state = "up", "server is up");
    }
}

/// Pauses connecting to a server after an attempt that failed by the client's own fault.
pub(crate) fn pause_connecting<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, error: C::Error) {
    let now = shared.clock.time();
    let pause = &generation.server.pause;
    if pause.failed(now, retry_at(shared, now)) {
        shared.due_times.push(pause.until(), generation.server.number());
        shared.notifier.wake_before(pause.until());
        let retry_after = pause.until().since(now);
        let (pool, server) = names(shared, generation);
        tracing::warn!(
            %pool, %server, cause = %chain(&Failure::Connect(error)), ?retry_after,
            "connecting pauses: the client's own fault"
        );
    }
}

/// The right to decide how a probe of a server ends.
pub(crate) type ServerProbe<C> = Probe<Probed<C>>;

/// The server of a probe.
pub(crate) struct Probed<C: Connector> {
    shared: Arc<Shared<C>>,
    generation: Arc<Generation<C>>,
}

/// Begins the probe of a server that is down and due. One caller wins.
pub(crate) fn begin_probe<C: Connector>(
    shared: &Arc<Shared<C>>,
    generation: &Arc<Generation<C>>,
) -> Option<ServerProbe<C>> {
    let probed = Probed { shared: Arc::clone(shared), generation: Arc::clone(generation) };
    let probe = Probe::begin(probed, shared.clock.time())?;
    let (pool, server) = names(shared, generation);
    tracing::info!(%pool, %server, state = "probing", "server is probed");
    Some(probe)
}

/// Ends a probe that succeeded: the server serves again.
pub(crate) fn probe_succeeded<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, probe: ServerProbe<C>) {
    probe.succeeded();
    shared.servers.refresh(generation.server.number());
    shared.notifier.wake_if_waiters();
    // Last: it runs user code.
    let (pool, server) = names(shared, generation);
    tracing::info!(%pool, %server, state = "recovering", "server serves again");
}

/// Ends a probe that failed by the server's fault.
pub(crate) fn probe_failed<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    probe: ServerProbe<C>,
    failure: Failure<C::Error>,
) {
    let now = shared.clock.time();
    let down = probe.failed(retry_at(shared, now));
    went_down(shared, generation, down, failure, now);
}

impl<C: Connector> ProbeOwner for Probed<C> {
    fn health(&self) -> &Health {
        &self.generation.server.health
    }

    fn retry_at_after_drop(&self) -> Time {
        retry_at(&self.shared, self.shared.clock.time())(1)
    }

    fn probe_dropped(&self, down: Snapshot) {
        let now = self.shared.clock.time();
        went_down(&self.shared, &self.generation, down, Failure::Abandoned, now);
    }
}

/// Returns the time of the retry by the number of failures in a row.
fn retry_at<C: Connector>(shared: &Shared<C>, now: Time) -> impl Fn(u32) -> Time + '_ {
    move |failures| now.after(shared.settings.backoff.interval(failures, shared.random.draw()))
}

/// The server just went down: sets its last failure, bits and due time, and records the event.
fn went_down<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    down: Snapshot,
    failure: Failure<C::Error>,
    now: Time,
) {
    let failure = Arc::new(failure);
    let is_removed = generation.server.is_removed();
    if !is_removed {
        generation.server.set_last_failure(Some(Arc::clone(&failure)));
    }
    shared.servers.refresh(generation.server.number());
    shared.due_times.push(down.retry_at(), generation.server.number());
    shared.notifier.wake_before(down.retry_at());
    // If no server is up any more, idle connections of servers that are down may serve waiters.
    shared.notifier.wake_if_waiters();
    if is_removed {
        // `gone` is its last event.
        return;
    }
    // Last: it runs user code, whose panic must not keep the server from being retried.
    let retry_after = down.retry_at().since(now);
    let (pool, server) = names(shared, generation);
    tracing::warn!(
        %pool, %server, state = "down", cause = %chain(&*failure), failures = down.failures(), ?retry_after,
        "server is down"
    );
}

fn names<'a, C: Connector>(shared: &'a Shared<C>, generation: &Generation<C>) -> (&'a str, Arc<str>) {
    (&shared.notifier.pool, Arc::clone(generation.server.config().shared_name()))
}
