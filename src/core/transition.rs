//! What follows from a server's change of state: its event, its bits, its due time, its last failure.

use crate::clock::between;
use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::error::Failure;
use crate::raw::{Health, Outage, Probe, ProbeOwner, Reported, Snapshot};
use crate::server::{Generation, chain};
use crate::sync::Arc;

/// An attempt that began in `outage` failed, by the server's fault.
pub(crate) fn connect_failed<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    outage: Outage,
    failure: Failure<C::Error>,
) {
    let now_ns = shared.clock.now_ns();
    if let Some(down) = generation.server.health.connect_failed(outage, retry_at(shared, now_ns)) {
        went_down(shared, generation, down, failure, now_ns);
    }
}

/// A caller reported a failure of a connection that was opened in `outage`.
pub(crate) fn reported<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    outage: Outage,
    failure: Failure<C::Error>,
) {
    let now_ns = shared.clock.now_ns();
    let threshold = shared.settings.fail_threshold;
    match generation.server.health.reported(outage, threshold, retry_at(shared, now_ns)) {
        Reported::Down(down) => went_down(shared, generation, down, failure, now_ns),
        Reported::Strike | Reported::Ignored => {
            let (pool, server) = names(shared, generation);
            tracing::debug!(%pool, %server, cause = %chain(&failure), "failure reported");
        }
    }
}

/// A connection that was opened in `outage` was released, and that changes the health.
#[cold]
pub(crate) fn released<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, outage: Outage) {
    if generation.server.health.released(outage) {
        let (pool, server) = names(shared, generation);
        tracing::info!(%pool, %server, state = "up", "server is up");
    }
}

/// An attempt failed by the client's own fault: connecting to the server pauses.
pub(crate) fn paused<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, failure: Failure<C::Error>) {
    let now_ns = shared.clock.now_ns();
    let pause = &generation.server.pause;
    if pause.failed(now_ns, retry_at(shared, now_ns)) {
        shared.due.push(pause.until(), generation.server.number());
        shared.notifier.wake_before(pause.until());
        let retry_after = between(now_ns, pause.until());
        let (pool, server) = names(shared, generation);
        tracing::warn!(
            %pool, %server, cause = %chain(&failure), ?retry_after,
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

/// Begins the probe of a server that is down, if its retry is due. One caller wins.
pub(crate) fn begin_probe<C: Connector>(
    shared: &Arc<Shared<C>>,
    generation: &Arc<Generation<C>>,
) -> Option<ServerProbe<C>> {
    let probed = Probed { shared: Arc::clone(shared), generation: Arc::clone(generation) };
    let probe = Probe::begin(probed, shared.clock.now_ns())?;
    let (pool, server) = names(shared, generation);
    tracing::info!(%pool, %server, state = "probing", "server is probed");
    Some(probe)
}

/// The probe succeeded: the server serves again.
pub(crate) fn probe_succeeded<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, probe: ServerProbe<C>) {
    probe.succeeded();
    shared.servers.follow(generation.server.number());
    shared.notifier.changed();
    // Last: it runs user code.
    let (pool, server) = names(shared, generation);
    tracing::info!(%pool, %server, state = "recovering", "server serves again");
}

/// The probe failed, by the server's fault.
pub(crate) fn probe_failed<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    probe: ServerProbe<C>,
    failure: Failure<C::Error>,
) {
    let now_ns = shared.clock.now_ns();
    let down = probe.failed(retry_at(shared, now_ns));
    went_down(shared, generation, down, failure, now_ns);
}

impl<C: Connector> ProbeOwner for Probed<C> {
    fn health(&self) -> &Health {
        &self.generation.server.health
    }

    fn retry_at_after_drop(&self) -> u64 {
        retry_at(&self.shared, self.shared.clock.now_ns())(1)
    }

    fn probe_dropped(&self, down: Snapshot) {
        let now_ns = self.shared.clock.now_ns();
        went_down(&self.shared, &self.generation, down, Failure::Abandoned, now_ns);
    }
}

/// When to retry after that many failures in a row.
fn retry_at<C: Connector>(shared: &Shared<C>, now_ns: u64) -> impl Fn(u32) -> u64 + '_ {
    move |failures| now_ns.saturating_add(shared.settings.backoff.interval_ns(failures, shared.random.draw()))
}

/// The health word says Down since just now.
fn went_down<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    down: Snapshot,
    failure: Failure<C::Error>,
    now_ns: u64,
) {
    let failure = Arc::new(failure);
    let is_removed = generation.server.is_removed();
    if !is_removed {
        generation.server.set_last_failure(Some(Arc::clone(&failure)));
    }
    shared.servers.follow(generation.server.number());
    shared.due.push(down.retry_at(), generation.server.number());
    shared.notifier.wake_before(down.retry_at());
    // The last resort serves from now on, if no server is up.
    shared.notifier.changed();
    if is_removed {
        // Its last event is that it is gone.
        return;
    }
    // Last: it runs user code, whose panic must not keep the server from being retried.
    let retry_after = between(now_ns, down.retry_at());
    let (pool, server) = names(shared, generation);
    tracing::warn!(
        %pool, %server, state = "down", cause = %chain(&*failure), failures = down.failures(), ?retry_after,
        "server is down"
    );
}

fn names<'a, C: Connector>(shared: &'a Shared<C>, generation: &Generation<C>) -> (&'a str, Arc<str>) {
    (&shared.notifier.pool, Arc::clone(generation.server.config().shared_name()))
}
