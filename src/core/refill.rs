//! Connects to a server that has fewer idle connections than its minimum.
//!
//! The background task alone runs it, when it looks at a server: in a sweep, after an attempt has ended, and when the
//! server comes up.

use crate::connector::Connector;
use crate::core::attempt::{self, Purpose};
use crate::core::shared::Shared;
use crate::raw::Time;
use crate::server::Generation;
use crate::sync::Arc;

/// Starts the attempts that a server needs now. They end together with the look at it, so that the next ones start.
pub(crate) fn refill<C: Connector>(shared: &Arc<Shared<C>>, generation: &Arc<Generation<C>>, now: Time) {
    for _ in 0..needed(shared, generation, now) {
        if !attempt::start(shared, generation, Purpose::Maintenance) {
            return;
        }
    }
}

/// How many attempts to start at a server: none unless it is plainly up, and one alone after a pause.
fn needed<C: Connector>(shared: &Shared<C>, generation: &Generation<C>, now: Time) -> u32 {
    let (server, minimum) = (&generation.server, shared.settings.min_idle());
    if minimum == 0 || !server.health.snapshot().is_plainly_up() {
        return 0;
    }
    let Some(is_trial) = server.breaker.snapshot().may_begin(now) else { return 0 };
    let (lasting, room) = {
        let mut record = server.idle_history();
        // A connection that does not fit into the queue would close at once.
        (record.lasting(generation.idle.len()), generation.idle.room().saturating_sub(record.away))
    };
    let missing = (minimum as usize).saturating_sub(lasting).min(room) as u32;
    let most = if is_trial { 1 } else { shared.settings.max_concurrent_connects_per_server };
    server.permits.counts().room(at_once(missing).min(most))
}

/// How many attempts may run at once where so many connections are missing: few, since no caller waits for them.
fn at_once(missing: u32) -> u32 {
    missing.min(2.max(missing / 4))
}

#[cfg(test)]
mod tests {
    use super::at_once;

    #[test]
    fn a_quarter_of_what_is_missing_is_connected_at_once() {
        assert_eq!([0, 1, 2, 3, 11, 12, 100].map(at_once), [0, 1, 2, 2, 2, 3, 25]);
    }
}
