//! Closes idle connections: those past their lifetime or idle timeout, those that may not be reused, and those that an
//! outage or a report makes suspect.

use std::cell::Cell;
use std::time::Duration;

use crate::connector::Connector;
use crate::core::hand_over::{after_push, move_or_close};
use crate::core::shared::Shared;
use crate::raw::{Outage, Time};
use crate::server::{Connection, Generation};
use crate::servers::thread_number;
use crate::sync::Arc;

/// The shortest and the longest time between two sweeps.
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// Sweeps all servers if the last sweep was a quarter of the shortest lifetime ago. Asks the connector, too:
/// connections that their server has closed do not stay half open.
pub(crate) fn sweep_if_due<C: Connector>(shared: &Shared<C>, now: Time, swept: &mut Time) {
    let settings = &shared.settings;
    if !settings.maintenance {
        return;
    }
    let shortest = settings.idle_timeout.into_iter().chain(settings.max_lifetime).min();
    let distance = shortest.map_or(SWEEP_MAX, |shortest| (shortest / 4).clamp(SWEEP_MIN, SWEEP_MAX));
    if now.since(*swept) < distance {
        return;
    }
    *swept = now;
    let list = shared.servers.list();
    let generations = list.iter().map(|(_, entry)| &entry.generation);
    let generations: Vec<_> = generations.filter(|generation| !generation.idle.is_empty()).map(Arc::clone).collect();
    // Not while the list is held: it runs user code.
    drop(list);
    for generation in generations {
        close_unfit(&generation, |conn| {
            let checked_out_at = conn.info.checked_out_at();
            let is_fit = conn.is_reusable(&shared.connector, now, shared.idle_timeout);
            conn.info.check_out(checked_out_at);
            is_fit
        });
    }
}

/// Whether an open connection of the server has come back well since the server last went down: in use, or idle and
/// reusable. Asks the connector about the idle ones, and closes those that may not be reused.
pub(crate) fn has_answering_connection<C: Connector>(shared: &Shared<C>, generation: &Generation<C>) -> bool {
    let server = &generation.server;
    let outage = server.health.snapshot().outage();
    if server.answered.is_any_open(outage) {
        let now = shared.clock.time();
        if let Some(generation) = shared.servers.list().generation(generation.number) {
            close_unfit(&generation, |conn| conn.is_reusable(&shared.connector, now, shared.idle_timeout));
        }
    }
    server.answered.is_any_open(outage)
}

/// Closes the idle connections that have not come back well since `outage` began.
pub(crate) fn close_of_older_outages<C: Connector>(generation: &Arc<Generation<C>>, outage: Outage) {
    close_unfit(generation, |conn| conn.outage == outage);
}

/// Closes the connections that have been idle since `idle_since` or longer.
pub(crate) fn close_idle_since<C: Connector>(generation: &Arc<Generation<C>>, idle_since: Time) {
    close_unfit(generation, |conn| conn.info.idle_since() > idle_since);
}

/// Closes one idle connection of a server, to make room for an attempt: the oldest that has not come back well since
/// the server last went down, if there is one, else the oldest of a shard.
pub(crate) fn make_room<C: Connector>(generation: &Generation<C>) {
    let (near, outage) = (thread_number(), generation.server.health.snapshot().outage());
    let older = generation.idle.pop_if(near, |conn| conn.outage != outage, move_or_close);
    drop(older.or_else(|| generation.idle.pop(near)));
}

/// Closes the idle connections that are not fit. Each of the others leaves the queue for a moment, so waiters are
/// served afterwards.
fn close_unfit<C: Connector>(generation: &Arc<Generation<C>>, mut is_fit: impl FnMut(&mut Connection<C>) -> bool) {
    let is_unfit = Cell::new(false);
    let (mut unfit, mut refused) = (Vec::new(), Vec::new());
    generation.idle.retain(
        |conn| {
            is_unfit.set(!is_fit(conn));
            !is_unfit.get()
        },
        // Also refuses fit items, of a closed generation: those move.
        |conn| if is_unfit.get() { unfit.push(conn) } else { refused.push(conn) },
    );
    drop(unfit);
    refused.into_iter().for_each(move_or_close);
    after_push(generation, thread_number());
}
