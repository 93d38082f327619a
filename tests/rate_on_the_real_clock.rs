//! Rate limits on the real clock: the share of the limit that waiters receive, and the processor time of waiting.
//!
//! This is a separate binary, and its tests run one at a time, so that no other test competes for the processor.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{Clock, Pool};
use tokio::task::JoinSet;

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

/// The start and the end of an acquire on the real clock. The token was taken in between.
#[derive(Debug, Clone, Copy)]
struct Checkout {
    asked: Duration,
    got: Duration,
}

/// Runs `callers` tasks that acquire and release in a loop. Returns the first `count` checkouts.
async fn checkouts(clock: &Clock, rps: f64, callers: u32, count: usize) -> Vec<Checkout> {
    let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock.clone());
    let pool =
        builder.server("a").max_rps(rps).max_conns_per_server(callers).build().expect("the settings are in range");
    let done = Arc::new(Mutex::new(Vec::with_capacity(count)));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (pool, clock, done) = (pool.clone(), clock.clone(), Arc::clone(&done));
        tasks.spawn(async move {
            loop {
                let asked = clock.now();
                let conn = pool.acquire().await.expect("the server serves");
                let got = clock.now();
                conn.release();
                let mut done = done.lock().expect("the lock is not poisoned");
                if done.len() == count {
                    return;
                }
                done.push(Checkout { asked, got });
            }
        });
    }
    tasks.join_next().await;
    tasks.shutdown().await;
    std::mem::take(&mut *done.lock().expect("the lock is not poisoned"))
}

/// Asserts the rate limit over windows that begin at eight evenly spaced times. A window counts the checkouts that were
/// requested after its beginning.
fn assert_bound(checkouts: &[Checkout], rps: f64, burst: usize) {
    let (first, last) = (checkouts[0].asked, checkouts[checkouts.len() - 1].got);
    for part in 0..8 {
        let from = first + (last - first) * part / 8;
        let since = checkouts.iter().filter(|checkout| checkout.asked >= from);
        for (before, checkout) in since.enumerate() {
            let allowed = burst as f64 + rps * (checkout.got - from).as_secs_f64();
            assert!((before + 1) as f64 <= allowed, "{} of {allowed} since {from:?} at {rps} rps", before + 1);
        }
    }
}

/// Runs `task` on a current-thread runtime.
fn on_this_thread<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built").block_on(task)
}

#[test]
fn waiters_get_full_rate_on_real_clock() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let clock = Clock::system();
    let cases = [(1.0_f64, 4, 3), (50.0, 20, 25), (100.0, 20, 50), (10_000.0, 100, 5_000), (200_000.0, 200, 80_000)];
    for (rps, callers, count) in cases {
        let burst = 1 + (rps / 100.0).ceil() as usize;
        // Tokens that arrive while the burst is checked out are taken immediately, so they are skipped too.
        let skipped = burst + 4 * (rps / 100.0) as usize;
        // A stall of the machine that outlasts the burst loses tokens for good, so the best of ten tries counts.
        let mut best = 0.0;
        for _ in 0..10 {
            let checkouts = on_this_thread(checkouts(&clock, rps, callers, skipped + count));
            assert_bound(&checkouts, rps, burst);
            let took = checkouts[skipped + count - 1].got - checkouts[skipped].got;
            best = f64::max(best, (count - 1) as f64 / took.as_secs_f64() / rps);
            if best >= 0.99 {
                break;
            }
        }
        assert!(best >= 0.99, "{} % of {rps} rps", 100.0 * best);
    }
}

/// Returns the processor time that this thread has used.
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    let used = stat.split_whitespace().next().and_then(|used| used.parse().ok()).expect("nanoseconds come first");
    Duration::from_nanos(used)
}

#[cfg(target_os = "linux")]
#[test]
fn hundred_waiters_use_little_processor_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // An unoptimized build needs several times as much, which is still far below the cost of a task that spins.
    let most = if cfg!(debug_assertions) { 0.2 } else { 0.05 };
    let clock = Clock::system();
    let mut best = 1.0;
    // Other load on the machine can only raise the result, so the best of ten tries counts.
    for _ in 0..10 {
        let before = thread_time();
        let checkouts = on_this_thread(checkouts(&clock, 1_000.0, 100, 311));
        let used = thread_time() - before;
        let took = checkouts[checkouts.len() - 1].got - checkouts[0].asked;
        best = f64::min(best, used.as_secs_f64() / took.as_secs_f64());
        if best <= most {
            break;
        }
    }
    assert!(best <= most, "{} % of a core", 100.0 * best);
}
