//! The one test that takes real time: what callers in the line get of a rate, and what that costs.
//!
//! A binary of its own, and one test at a time, so that no other test takes the processor meanwhile.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{Clock, Pool};
use tokio::task::JoinSet;

/// Held by the test that runs.
static ALONE: Mutex<()> = Mutex::new(());

/// A hand-out on the real clock: its token was taken between these two times.
#[derive(Debug, Clone, Copy)]
struct HandOut {
    asked: Duration,
    got: Duration,
}

/// Callers that acquire and release in loops, until there were so many hand-outs. On the real clock.
async fn hand_outs(clock: &Clock, rps: f64, callers: u32, count: usize) -> Vec<HandOut> {
    let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock.clone());
    let pool = builder.server("a").max_rps(rps).max_conns_per_server(callers).build().expect("in range");
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
                let mut done = done.lock().expect("no panic");
                if done.len() == count {
                    return;
                }
                done.push(HandOut { asked, got });
            }
        });
    }
    tasks.join_next().await;
    tasks.shutdown().await;
    std::mem::take(&mut *done.lock().expect("no panic"))
}

/// No more than the bound from any of some moments on: of what was asked for since then, all that was got.
fn assert_bound(hand_outs: &[HandOut], rps: f64, burst: usize) {
    let (first, last) = (hand_outs[0].asked, hand_outs[hand_outs.len() - 1].got);
    for part in 0..8 {
        let from = first + (last - first) * part / 8;
        let since = hand_outs.iter().filter(|hand_out| hand_out.asked >= from);
        for (before, hand_out) in since.enumerate() {
            let allowed = burst as f64 + rps * (hand_out.got - from).as_secs_f64();
            assert!((before + 1) as f64 <= allowed, "{} of {allowed} since {from:?} at {rps} rps", before + 1);
        }
    }
}

/// Does this on a runtime of this thread alone.
fn on_this_thread<T>(task: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(task)
}

#[test]
fn callers_in_the_line_get_all_of_the_rate_on_the_real_clock() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let clock = Clock::system();
    let cases = [(1.0_f64, 4, 3), (50.0, 20, 25), (100.0, 20, 50), (10_000.0, 100, 5_000), (200_000.0, 200, 80_000)];
    for (rps, callers, count) in cases {
        let burst = 1 + (rps / 100.0).ceil() as usize;
        // While the burst is handed out more comes, and is handed out at once: those do not count either.
        let skipped = burst + 4 * (rps / 100.0) as usize;
        // What a stall of the machine longer than the burst takes is gone for good: the best of a few tries counts.
        let mut best = 0.0;
        for _ in 0..10 {
            let hand_outs = on_this_thread(hand_outs(&clock, rps, callers, skipped + count));
            assert_bound(&hand_outs, rps, burst);
            let took = hand_outs[skipped + count - 1].got - hand_outs[skipped].got;
            best = f64::max(best, (count - 1) as f64 / took.as_secs_f64() / rps);
            if best >= 0.99 {
                break;
            }
        }
        assert!(best >= 0.99, "{} % of {rps} rps", 100.0 * best);
    }
}

/// The processor time that this thread has used.
#[cfg(target_os = "linux")]
fn thread_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts it");
    let used = stat.split_whitespace().next().and_then(|used| used.parse().ok()).expect("nanoseconds come first");
    Duration::from_nanos(used)
}

#[cfg(target_os = "linux")]
#[test]
fn a_hundred_callers_that_wait_use_little_of_a_core() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Without optimization each step costs several times as much; a task that spins would still stand out.
    let most = if cfg!(debug_assertions) { 0.2 } else { 0.05 };
    let clock = Clock::system();
    let mut best = 1.0;
    // What others do on the machine makes it dearer, never cheaper: the best of a few tries counts.
    for _ in 0..10 {
        let before = thread_time();
        let hand_outs = on_this_thread(hand_outs(&clock, 1_000.0, 100, 311));
        let used = thread_time() - before;
        let took = hand_outs[hand_outs.len() - 1].got - hand_outs[0].asked;
        best = f64::min(best, used.as_secs_f64() / took.as_secs_f64());
        if best <= most {
            break;
        }
    }
    assert!(best <= most, "{} % of a core", 100.0 * best);
}
