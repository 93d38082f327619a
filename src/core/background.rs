//! The background task of a pool: the coarse time, due servers, weighted turns, sweeps, failure ratios, waiters.
//!
//! One per pool. It holds the pool weakly while it sleeps. It starts with the pool, or with the first async caller if
//! the pool was built outside a runtime, and again with the next one after the end of its runtime.
//!
//! It runs user code, which may panic: the drops of connections, the connector's hooks, wakers. (Panics of subscribers
//! and of the observer are caught where they are called.) A panic ends the present wake-up; the next one comes a
//! tick later, so that one which panics each time does not spin.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::panicking;

use crate::connector::Connector;
use crate::core::probes::Probes;
use crate::core::ratio::Ratios;
use crate::core::shared::Shared;
use crate::core::sweep::Sweeps;
use crate::core::{membership, settle};
use crate::raw::{TICK, Time};
use crate::server::{Notifier, quietly};
use crate::servers::TurnsUpkeep;
use crate::sync::{Arc, Weak};

struct Background<C: Connector> {
    shared: Weak<Shared<C>>,
    notifier: Arc<Notifier>,
    runtime: u64,
    is_finished: bool,
}

/// Starts the task, if it does not run.
#[cold]
pub(crate) fn ensure<C: Connector>(shared: &Arc<Shared<C>>) {
    let signals = &shared.signals;
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
        shared.signals.set_tick(Some(now));
    }
}

impl<C: Connector> Background<C> {
    async fn run(mut self) {
        let mut parts = Parts::default();
        loop {
            let Some(shared) = self.shared.upgrade() else { break };
            if shared.signals.is_closed() {
                break;
            }
            // A panic may leave work half done. The next wake-up does it, since it goes by how things are.
            let wake_up = || work(&shared, &mut parts);
            let worked = catch_unwind(AssertUnwindSafe(wake_up)).ok();
            let clock = shared.clock.clone();
            drop(shared);
            match worked {
                Some(wake_at) => {
                    clock.until(wake_at, self.notifier.woken()).await;
                }
                // Changes do not wake it meanwhile, so as not to spin.
                None => clock.sleep_until_time(clock.time().after(TICK)).await,
            }
        }
        self.is_finished = true;
    }
}

/// What the task remembers of its work.
#[derive(Default)]
struct Parts {
    probes: Probes,
    turns: TurnsUpkeep,
    sweeps: Sweeps,
    ratios: Ratios,
}

/// Does the work that is due, in order. Returns the time of the next.
fn work<C: Connector>(shared: &Arc<Shared<C>>, parts: &mut Parts) -> Time {
    // Changes from here on wake the task again.
    shared.notifier.wake_at.look();
    let now = shared.clock.time();
    store_tick(shared, now);
    let mut wake_at = parts.probes.run(shared, now).min(parts.turns.run(&shared.servers, now));
    parts.sweeps.run(shared, now);
    // After the sweep, which completes the totals.
    parts.ratios.run(shared, now);
    if shared.settings.maintenance {
        wake_at = wake_at.min(now.after(TICK));
    }
    if shared.signals.waiters() > 0 {
        settle::settle(shared);
        settle::wake_impatient(shared);
        wake_at = wake_at.min(settle::next_token(shared, now));
    }
    shared.notifier.wake_at.sleep(wake_at);
    wake_at
}

impl<C: Connector> Drop for Background<C> {
    fn drop(&mut self) {
        self.notifier.signals.end_run();
        if self.is_finished {
            return;
        }
        let Some(shared) = self.shared.upgrade() else { return };
        if !panicking() {
            // It drops connections: if that panics, the waiters are woken all the same.
            quietly(|| membership::runtime_lost(&shared, self.runtime));
        }
        // Waiters find that the task does not run, and start it on their own runtime.
        shared.queue.wake_all();
    }
}
