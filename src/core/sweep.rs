//! Closes idle connections that are past their lifetime or idle timeout.

use std::time::Duration;

use crate::connector::Connector;
use crate::core::hand_over::{after_push, move_or_close};
use crate::core::shared::Shared;
use crate::raw::Time;
use crate::server::Generation;
use crate::servers::thread_number;
use crate::sync::Arc;

/// The shortest and the longest time between two sweeps.
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// Sweeps all servers if the last sweep was a quarter of the shortest lifetime ago.
pub(crate) fn sweep_if_due<C: Connector>(shared: &Shared<C>, now: Time, swept: &mut Time) {
    let settings = &shared.settings;
    let shortest = settings.idle_timeout.into_iter().chain(settings.max_lifetime).min();
    let Some(shortest) = shortest.filter(|_| settings.maintenance) else { return };
    if now.since(*swept) < (shortest / 4).clamp(SWEEP_MIN, SWEEP_MAX) {
        return;
    }
    *swept = now;
    let generations: Vec<_> = shared.servers.list().iter().map(|(_, entry)| Arc::clone(&entry.generation)).collect();
    for generation in generations {
        sweep(&generation, now, shared.idle_timeout);
    }
}

/// Closes the connections that are too old. Each of the others leaves the queue for a moment, so waiters are served
/// afterwards.
fn sweep<C: Connector>(generation: &Arc<Generation<C>>, now: Time, idle_timeout: Time) {
    let mut rejected = Vec::new();
    generation.idle.retain(|conn| !conn.is_over_age(now, idle_timeout), |conn| rejected.push(conn));
    // `retain` also refuses items of a closed generation. Expired ones are dropped here, or `move_or_close` would move
    // them.
    rejected.retain(|conn| !conn.is_over_age(now, idle_timeout));
    rejected.into_iter().for_each(move_or_close);
    after_push(generation, thread_number());
}
