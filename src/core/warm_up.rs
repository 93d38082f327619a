//! Opens connections ahead of the callers.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::attempt::Purpose;
use crate::core::shared::Shared;
use crate::core::{attempt, background};
use crate::reports::{WarmUpReport, WarmUpServer};
use crate::server::{ServerRecord, chain, wait_until};
use crate::sync::Arc;

/// See [`Pool::warm_up`](crate::Pool::warm_up).
pub(crate) async fn warm_up<C: Connector>(shared: &Arc<Shared<C>>, timeout: Duration) -> WarmUpReport {
    background::ensure(shared);
    let started = shared.clock.time();
    let servers: Vec<_> = shared.servers.list().iter().map(|(_, entry)| Arc::clone(entry.server())).collect();
    let mut pending = servers.clone();
    let opened = wait_until(&shared.notifier.attempt_ended, || {
        pending.retain(|server| open_missing(shared, server));
        pending.is_empty().then_some(())
    });
    shared.clock.until(started.after(timeout), opened).await;
    let counted = servers.iter().filter(|server| server.disabled_until().is_none());
    let servers = counted.filter_map(|server| report(shared, server)).collect();
    WarmUpReport { servers, waited: shared.clock.time().since(started) }
}

/// Starts the attempts that a server lacks. False if it has its connections, or if none may start and none runs.
fn open_missing<C: Connector>(shared: &Arc<Shared<C>>, server: &Arc<ServerRecord<C>>) -> bool {
    // By the list: the generation changes when the server is reset.
    let Some(generation) = shared.servers.list().generation(server.number()) else { return false };
    let missing = missing(shared, server);
    if missing == 0 || !Arc::ptr_eq(&generation.server, server) {
        return false;
    }
    let lacking = missing.saturating_sub(server.permits.counts().connecting());
    let starts = (0..lacking).take_while(|_| attempt::start(shared, &generation, Purpose::Maintenance)).count();
    // Attempts that have just started may have ended already. The next look sees what came of them, and has the permits
    // of goodbyes that have ended.
    starts > 0 || server.permits.counts().connecting() > 0 || server.closing.get() > 0
}

/// How many connections a server lacks to its minimum of idle ones, at least one. Those that say goodbye do not count.
fn missing<C: Connector>(shared: &Shared<C>, server: &ServerRecord<C>) -> u32 {
    let (counts, wanted) = (server.permits.counts(), shared.settings.limits.min_idle.max(1));
    wanted.min(counts.max()).saturating_sub(counts.established().saturating_sub(server.closing.get()))
}

/// `None` of a server that was removed.
fn report<C: Connector>(shared: &Shared<C>, server: &Arc<ServerRecord<C>>) -> Option<WarmUpServer> {
    let list = shared.servers.list();
    let entry = list.entry(server.number()).filter(|entry| Arc::ptr_eq(entry.server(), server))?;
    Some(WarmUpServer {
        name: Arc::clone(server.config().shared_name()),
        idle: entry.generation.idle.len(),
        missing: missing(shared, server) as usize,
        connect_error: server.connect_error().map(|error| chain(&*error)),
    })
}
