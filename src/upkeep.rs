//! The task that closes what is too old, and keeps the coarse time by which it is told how old that is.
//!
//! It holds the ring weakly. With upkeep off it does neither, and what is too old is found out when it is about to be
//! handed out. But it is there: it is dropped with its runtime, and so the pool learns that the connections dialled
//! there are dead.

use std::pin::pin;
use std::thread::panicking;
use std::time::Duration;

use crate::clock::nanos;
use crate::connector::Connector;
use crate::server::{LiveServer, Ring};
use crate::sync::{Arc, Weak};

/// The step of the coarse time.
const TICK: Duration = Duration::from_millis(100);
/// The longest time between two looks at all idle connections.
const SWEEP_MAX: Duration = Duration::from_secs(1);

struct Upkeep<C: Connector> {
    ring: Weak<Ring<C>>,
    runtime: u64,
    finished: bool,
}

impl<C: Connector> Ring<C> {
    /// Starts the task, if it is not running.
    #[cold]
    pub(crate) fn start_upkeep(self: &Arc<Self>) {
        // The second try is for the caller's runtime, if the first found the pool's gone.
        for _ in 0..2 {
            if self.list.load().closed || self.is_attended() || self.attend(self.clock.now_ns()) {
                return;
            }
            let ring = Arc::downgrade(self);
            // Made before it runs: a runtime that has gone drops it unpolled.
            if !self.runtime.spawn(|runtime| Upkeep { ring, runtime, finished: false }.run()) {
                self.leave_unattended();
            }
        }
    }

    /// Closes what is too old. Each idle connection is taken out and put back, so that their order stays.
    fn sweep(&self, now_ns: u64) {
        let servers = Arc::clone(&self.list.load().servers);
        for server in servers.iter() {
            self.sweep_server(server, now_ns);
        }
    }

    fn sweep_server(&self, server: &Arc<LiveServer<C>>, now_ns: u64) {
        server.idle.visit(|entry, near| {
            if !self.is_over_age(&entry, now_ns) {
                entry.hold(near).put_back(entry);
            }
        });
    }
}

impl<C: Connector> Upkeep<C> {
    async fn run(mut self) {
        let mut swept_ns = 0;
        loop {
            let Some(ring) = self.ring.upgrade() else { break };
            let ended = Arc::clone(&ring.ended);
            let mut ended = pin!(ended.notified());
            ended.as_mut().enable();
            // After `enable`: who closes the pool from here on is heard.
            if ring.list.load().closed {
                break;
            }
            let now_ns = ring.clock.now_ns();
            ring.attend(now_ns);
            let settings = &ring.settings;
            let wake_at = if settings.maintenance { now_ns.saturating_add(nanos(TICK)) } else { u64::MAX };
            if let Some(shortest) = settings.idle_timeout.into_iter().chain(settings.max_lifetime).min() {
                let sweep_ns = nanos((shortest / 4).clamp(TICK, SWEEP_MAX));
                if settings.maintenance && now_ns.saturating_sub(swept_ns) >= sweep_ns {
                    swept_ns = now_ns;
                    ring.sweep(now_ns);
                }
            }
            let clock = ring.clock.clone();
            drop(ring);
            clock.until_ns(wake_at, ended).await;
        }
        self.finished = true;
    }
}

impl<C: Connector> Drop for Upkeep<C> {
    fn drop(&mut self) {
        let Some(ring) = self.ring.upgrade() else { return };
        ring.leave_unattended();
        if !self.finished && !panicking() {
            ring.runtime.lost(self.runtime);
        }
    }
}
