//! The pace: the time at which each request is due.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::now;

/// Due times are multiples of this step, of which a second has 4 000.
const STEP: Duration = Duration::from_micros(250);
const STEPS_PER_SECOND: u64 = 4_000;

/// Issues requests at a fixed rate, independent of the answers to earlier ones.
///
/// It uses a separate thread, because tokio's timers have a resolution of a millisecond, longer than most of the
/// measured times.
pub(crate) struct Pace {
    due: Arc<DueStarts>,
    thread: JoinHandle<()>,
}

pub(crate) struct DueStarts {
    began: Instant,
    per_second: u64,
    /// One permit for each request that is due but not begun.
    ready: Semaphore,
    issued: AtomicU64,
    begun: AtomicU64,
    stopped: AtomicBool,
}

impl Pace {
    pub(crate) fn start(began: Instant, per_second: u32) -> Self {
        let due = Arc::new(DueStarts {
            began,
            per_second: per_second.into(),
            ready: Semaphore::new(0),
            issued: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let thread = thread::spawn({
            let due = due.clone();
            move || due.keep_time()
        });
        Self { due, thread }
    }

    pub(crate) fn due(&self) -> Arc<DueStarts> {
        self.due.clone()
    }

    /// Stops the pace. Returns the number of requests that were due but not begun.
    pub(crate) fn stop(self) -> u64 {
        self.due.stopped.store(true, Ordering::Relaxed);
        self.due.ready.close();
        self.thread.thread().unpark();
        let _ = self.thread.join();
        self.due.issued.load(Ordering::Relaxed).saturating_sub(self.due.begun.load(Ordering::Relaxed))
    }
}

impl DueStarts {
    /// Waits until a request is due. Returns its due time, or `None` after the end.
    pub(crate) async fn next(&self) -> Option<Instant> {
        self.ready.acquire().await.ok()?.forget();
        let nth = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let steps = (nth * STEPS_PER_SECOND).div_ceil(self.per_second);
        Some(self.began + Duration::from_micros(steps * STEP.as_micros() as u64))
    }

    fn keep_time(&self) {
        while !self.stopped.load(Ordering::Relaxed) {
            let steps = (self.began.elapsed().as_nanos() / STEP.as_nanos()) as u64;
            let due = steps * self.per_second / STEPS_PER_SECOND;
            let issued = self.issued.swap(due, Ordering::Relaxed);
            self.ready.add_permits((due - issued) as usize);
            let next = self.began + Duration::from_micros((steps + 1) * STEP.as_micros() as u64);
            thread::park_timeout(next.saturating_duration_since(now()));
        }
    }
}
