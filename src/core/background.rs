//! The background task of a pool: the coarse time, due servers, expiry, waiters.
//!
//! One per pool. It holds the pool weakly while it sleeps. It starts with the pool, or with the first async caller if
//! the pool was built outside a runtime, and again after a panic or the end of its runtime.

use std::thread::panicking;
use std::time::Duration;

use crate::connector::Connector;
use crate::core::retry::Retries;
use crate::core::shared::{Shared, TICK};
use crate::core::{hand_over, membership, settle, sweep, transition};
use crate::raw::Time;
use crate::server::Notifier;
use crate::sync::{Arc, Weak};

/// The shortest and the longest time between two sweeps.
const SWEEP_MIN: Duration = Duration::from_millis(100);
const SWEEP_MAX: Duration = Duration::from_secs(1);

struct Background<C: Connector> {
    shared: Weak<Shared<C>>,
    notifier: Arc<Notifier>,
    runtime: u64,
    is_finished: bool,
}

/// Starts the task, if it does not run.
#[cold]
pub(crate) fn ensure<C: Connector>(shared: &Arc<Shared<C>>) {
    let signals = &shared.notifier.signals;
    // If the pool's runtime was shut down, the spawn drops the task at once, which forgets the runtime; the second try
    // uses the caller's.
    for _ in 0..2 {
        // Without a runtime, do not set `running`.
        if signals.is_closed() || signals.is_running() || shared.runtime.adopt().is_none() || !signals.begin_run() {
            return;
        }
        store_tick(shared, shared.clock.time());
        let (weak, notifier) = (Arc::downgrade(shared), Arc::clone(&shared.notifier));
        // Made before it is polled: a runtime that was shut down drops it unpolled.
        let task = |runtime| Background { shared: weak, notifier, runtime, is_finished: false }.run();
        if !shared.runtime.spawn(task) {
            signals.end_run();
        }
    }
}

fn store_tick<C: Connector>(shared: &Shared<C>, now: Time) {
    if shared.settings.maintenance {
        shared.notifier.signals.set_tick(Some(now));
    }
}

impl<C: Connector> Background<C> {
    async fn run(mut self) {
        let (mut retries, mut swept) = (Retries::new(), Time::ZERO);
        loop {
            let Some(shared) = self.shared.upgrade() else { break };
            if shared.notifier.signals.is_closed() {
                break;
            }
            let wake_at = work(&shared, &mut retries, &mut swept);
            let clock = shared.clock.clone();
            drop(shared);
            clock.until(wake_at, self.notifier.woken()).await;
        }
        self.is_finished = true;
    }
}

/// Does the work that is due, in order. Returns the time of the next.
fn work<C: Connector>(shared: &Arc<Shared<C>>, retries: &mut Retries, swept: &mut Time) -> Time {
    // Changes from here on wake the task again.
    shared.notifier.wake_at.look();
    let now = shared.clock.time();
    store_tick(shared, now);
    let mut wake_at = retries.run(shared, now);
    sweep_if_due(shared, now, swept);
    if shared.settings.maintenance {
        wake_at = wake_at.min(now.after(TICK));
    }
    if shared.notifier.signals.waiters() > 0 {
        settle::settle(shared);
        settle::wake_impatient(shared);
        wake_at = wake_at.min(settle::next_token(shared, now));
    }
    shared.notifier.wake_at.sleep(wake_at);
    wake_at
}

/// Closes the idle connections of all servers that may not be reused, if the last sweep was a quarter of the shortest
/// lifetime ago. Asks the connector, too: connections that their server has closed do not stay half open.
fn sweep_if_due<C: Connector>(shared: &Shared<C>, now: Time, swept: &mut Time) {
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
        let unfit = hand_over::take_unfit(&generation, |conn| {
            // The totals get what they lack of it.
            conn.permit.count_uses();
            sweep::why_unfit(shared, conn, now)
        });
        unfit.into_iter().for_each(|(conn, _)| transition::close_unusable(shared, conn, now));
    }
}

impl<C: Connector> Drop for Background<C> {
    fn drop(&mut self) {
        self.notifier.signals.end_run();
        if self.is_finished {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        if !panicking() {
            membership::runtime_lost(&shared, self.runtime);
        }
        // Waiters find that the task does not run, and start it on their own runtime.
        shared.queue.wake_all();
    }
}
