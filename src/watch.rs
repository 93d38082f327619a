//! The task that watches the time for those who wait: tokens, ends of backoffs and pauses. It lives while somebody
//! waits, and a second longer, so that a line that forms again and again does not start it each time.
//!
//! It holds the ring weakly while it sleeps. If its runtime goes, those who wait start it anew on theirs.

use std::thread::panicking;

use crate::connector::Connector;
use crate::raw::Alarm;
use crate::server::Ring;
use crate::sync::{Arc, Weak};

/// How long it stays after the line has become empty, and the longest that it sleeps.
const LINGER_NS: u64 = 1_000_000_000;

struct Watching<C: Connector> {
    ring: Weak<Ring<C>>,
    runtime: u64,
    finished: bool,
}

impl<C: Connector> Ring<C> {
    /// Sees to it that a task watches. Called by each caller that waits, at each poll.
    pub(crate) fn watch(self: &Arc<Self>) {
        if self.alarm.is_watched() {
            // It may sleep with nobody to watch for.
            return self.ring_before(Alarm::UNTIL_RUNG - 1);
        }
        // The second try is for the caller's runtime, if the first found the pool's gone.
        for _ in 0..2 {
            if self.alarm.is_watched() || !self.alarm.engage() {
                return;
            }
            let ring = Arc::downgrade(self);
            // Made before it runs: a runtime that has gone drops it unpolled.
            if !self.runtime.spawn(|runtime| Watching { ring, runtime, finished: false }.run()) {
                self.alarm.dismiss();
            }
        }
    }

    /// Does what time has brought, and tells when it next brings something. `None`: nobody waits.
    fn look(self: &Arc<Self>) -> Option<u64> {
        self.alarm.look();
        // Without callers nothing is probed. Who joins from here on rings.
        if self.line.waiting() == 0 {
            return None;
        }
        let now_ns = self.clock.now_ns();
        if self.next_retry().is_some_and(|retry_at| retry_at <= now_ns) {
            self.probe(now_ns);
        }
        self.serve();
        let mut next = self.next_retry().filter(|&retry_at| retry_at > now_ns).unwrap_or(u64::MAX);
        let mut look_at = |at_ns: u64| {
            if at_ns > now_ns {
                next = next.min(at_ns);
            }
        };
        let list = self.list.load();
        for turn in &list.up {
            look_at(turn.bucket.as_ref().map_or(0, |bucket| bucket.available_at()));
            look_at(turn.server.pause.until());
        }
        if list.up.is_empty() {
            // The last resort, idle connections of servers that are down, waits for tokens too.
            for server in list.servers.iter().filter(|server| !server.idle.is_empty()) {
                look_at(server.bucket().map_or(0, |bucket| bucket.available_at()));
            }
        }
        (self.line.waiting() > 0).then_some(next)
    }
}

impl<C: Connector> Watching<C> {
    async fn run(mut self) {
        let mut empty_since = None;
        loop {
            let Some(ring) = self.ring.upgrade() else { break };
            let next = ring.look();
            let now_ns = ring.clock.now_ns();
            let wake_at;
            if let Some(next) = next {
                empty_since = None;
                wake_at = next.min(now_ns.saturating_add(LINGER_NS));
                ring.alarm.sleep(wake_at);
            } else {
                let since = *empty_since.get_or_insert(now_ns);
                wake_at = since.saturating_add(LINGER_NS);
                // Whoever joins now wakes it.
                ring.alarm.sleep(Alarm::UNTIL_RUNG);
                let closed = ring.list.load().closed;
                if closed || now_ns >= wake_at {
                    ring.alarm.dismiss();
                    // Behind the fence of `dismiss`: who joined before it is seen here, who joins after it sees nobody
                    // watch.
                    if ring.line.waiting() == 0 || !ring.alarm.engage() {
                        break;
                    }
                    continue;
                }
            }
            let (clock, bell) = (ring.clock.clone(), Arc::clone(&ring.bell));
            drop(ring);
            clock.until_ns(wake_at, bell.notified()).await;
        }
        self.finished = true;
    }
}

impl<C: Connector> Drop for Watching<C> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let Some(ring) = self.ring.upgrade() else { return };
        ring.alarm.dismiss();
        if !panicking() {
            ring.runtime.lost(self.runtime);
        }
        // Those who wait see that nobody watches, and start it on their own runtime.
        ring.line.wake_all();
    }
}
