//! The earliest retry of the servers that are down: `next_retry` of the ring, with one server that has one permit.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering, fence};
use loom::thread;

use crate::check;
use crate::raw::{Health, HealthState, Permits};

struct Ring {
    health: Health,
    permits: Permits,
    next_retry: AtomicU64,
}

impl Ring {
    /// As `Ring::forget_retries`, then the look at the only server. True if a probe would start.
    fn probe(&self) -> bool {
        self.next_retry.swap(u64::MAX, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        self.health.snapshot().state() == HealthState::Down && self.permits.is_free()
    }

    /// As `Ring::room_made`.
    fn room_made(&self) {
        fence(Ordering::SeqCst);
        if self.health.snapshot().state() == HealthState::Down {
            self.next_retry.fetch_min(0, Ordering::AcqRel);
        }
    }
}

/// Property: whoever finds a retry due either finds room for its probe, or whoever makes room enters the retry again.
/// Threads: one takes the server down and looks at its retry, one gives the permit back.
/// Mutation that fails it: no fence in `forget_retries`, or none in `room_made`.
pub fn a_retry_finds_room_or_is_entered_again() {
    check(None, || {
        let ring = Ring { health: Health::new(), permits: Permits::new(1), next_retry: AtomicU64::new(u64::MAX) };
        assert!(ring.permits.take());
        let ring = Arc::new(ring);
        let holder = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                ring.permits.give_back();
                ring.room_made();
            })
        };
        ring.health.dial_failed(ring.health.snapshot().generation(), |_| 0).expect("it is up");
        ring.next_retry.fetch_min(0, Ordering::AcqRel);
        let probes = ring.probe();
        holder.join().unwrap();
        assert!(probes || ring.next_retry.load(Ordering::Relaxed) == 0, "the retry is lost");
    });
}
