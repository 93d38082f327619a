//! Memory of a waiter and cost of a grant with 100, 10 000 and 100 000 waiting tasks, compared with tokio's
//! `Semaphore`, a minimal fair wait queue.
//!
//! There is one server with one connection, or one semaphore permit. It is checked out until all tasks wait; then it
//! passes from task to task, and each task returns it at once. `time` is the wall time of that for each task, and `cpu`
//! the processor time. Both include everything that runs on the one thread: the tasks, the pool's background task, the
//! timers. `memory` is the allocated bytes for each waiter without its future, which is part of the task; `future` is
//! the size of the future.
//!
//! By default each wait for connring has a timeout, and so a timer. There are two pairs: connring with its defaults and
//! a `Semaphore` within `tokio::time::timeout`, and connring without a timeout and a bare `Semaphore`.
//!
//! Sources of error: with more tasks than fit into the caches, the share of the caches that other programs leave.
//! Waking and polling a task, a large part of the time, costs the same for all contestants.

use std::mem::size_of_val;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use connring::Pool;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::allocator::growth;
use crate::contestants::{Async, Connring, Numbers, current_thread};
use crate::report::{Entrant, Metric, Options, Report, Target, max, ratio};

const TASKS: [u32; 3] = [100, 10_000, 100_000];
/// The least number of grants to measure. A small number of tasks repeats until it is reached.
const GRANTS: u32 = 100_000;
const MEMORY: Metric = Metric { name: "memory", unit: "bytes a waiter" };
const FUTURE: Metric = Metric { name: "future", unit: "bytes" };
const TIME: Metric = Metric { name: "time", unit: "ns a grant" };
const CPU: Metric = Metric { name: "cpu", unit: "ns a grant" };
/// The default `wait_timeout` of a pool.
const TIMEOUT: Duration = Duration::from_secs(30);

const BARE: &str = "Semaphore";
const TIMED: &str = "Semaphore, timeout";
const CONNRING_BARE: &str = "connring, no timeout";
const CONNRING: &str = "connring";

pub fn run(options: &Options) {
    let mut report = Report::new("crowd", options);
    let bare = || Bare(Semaphore::new(1));
    let entrants = TASKS.into_iter().flat_map(|tasks| {
        [
            entrant(CONNRING, TIMED, tasks, || pool(Some(TIMEOUT))),
            entrant(TIMED, TIMED, tasks, move || Timed(bare())),
            entrant(CONNRING_BARE, BARE, tasks, || pool(None)),
            entrant(BARE, BARE, tasks, bare),
        ]
    });
    report.measure(&[MEMORY, FUTURE, TIME, CPU], entrants.collect());
    add_targets(&mut report);
    report.print();
}

fn entrant<'a, P: Async>(name: &str, against: &'static str, tasks: u32, make: impl Fn() -> P + 'a) -> Entrant<'a> {
    Entrant {
        contestant: name.to_owned(),
        setting: vec![("tasks", tasks.into())],
        against,
        measure: Box::new(move || {
            let (memory, future) = memory(&make, tasks);
            let (time, cpu) = grants(&make, tasks);
            vec![memory, future, time, cpu]
        }),
    }
}

/// Returns the bytes of each of `tasks` waiters without its future, and the bytes of the future.
fn memory<P: Async>(make: impl Fn() -> P, tasks: u32) -> (f64, f64) {
    let runtime = current_thread();
    let _inside = runtime.enter();
    let pool = make();
    let held = runtime.block_on(pool.acquire());
    let join = || {
        let mut callers: Vec<_> = (0..tasks).map(|_| Box::pin(pool.acquire())).collect();
        for caller in &mut callers {
            assert!(caller.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it waits");
        }
        callers
    };
    let (callers, bytes) = growth(join);
    let future = size_of_val(&*callers[0]);
    let futures = callers.capacity() * size_of_val(&callers[0]) + callers.len() * future;
    drop(callers);
    pool.release(held);
    ((bytes as f64 - futures as f64) / f64::from(tasks), future as f64)
}

/// Returns the wall time and the processor time of a grant with `tasks` waiters, in nanoseconds.
fn grants<P: Async>(make: impl Fn() -> P, tasks: u32) -> (f64, f64) {
    let runtime = current_thread();
    let _inside = runtime.enter();
    let pool = Arc::new(make());
    let (mut time, mut cpu) = (Duration::ZERO, Duration::ZERO);
    let times = (GRANTS / tasks).max(1);
    runtime.block_on(async {
        for _ in 0..times {
            let held = pool.acquire().await;
            let started = Arc::new(AtomicU32::new(0));
            let start = |_| tokio::spawn(acquire_once(Arc::clone(&pool), Arc::clone(&started)));
            let crowd: Vec<_> = (0..tasks).map(start).collect();
            while started.load(Ordering::Relaxed) < tasks {
                tokio::task::yield_now().await;
            }
            let (began, used) = (Instant::now(), thread_time());
            pool.release(held);
            for task in crowd {
                task.await.expect("the task does not panic");
            }
            time += began.elapsed();
            cpu += thread_time() - used;
        }
    });
    let grants = f64::from(times * tasks);
    (time.as_nanos() as f64 / grants, cpu.as_nanos() as f64 / grants)
}

async fn acquire_once<P: Async>(pool: Arc<P>, started: Arc<AtomicU32>) {
    // The task joins the wait queue in the same poll, so on this thread the count never exceeds the number of waiters.
    started.fetch_add(1, Ordering::Relaxed);
    let conn = pool.acquire().await;
    pool.release(conn);
}

/// Returns the processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Builds a pool whose tasks run on the current runtime, so that their time counts.
fn pool(wait_timeout: Option<Duration>) -> Connring<Numbers> {
    let builder = Pool::builder(Numbers).server("server").max_conns_per_server(1);
    Connring(builder.max_waiters(usize::MAX).wait_timeout(wait_timeout).build().expect("in range"))
}

struct Bare(Semaphore);

impl Async for Bare {
    type Conn<'a> = SemaphorePermit<'a>;

    async fn acquire(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("the semaphore is never closed")
    }

    fn value(permit: &SemaphorePermit<'_>) -> u64 {
        permit.num_permits() as u64
    }

    fn release(&self, permit: SemaphorePermit<'_>) {
        drop(permit);
    }
}

struct Timed(Bare);

impl Async for Timed {
    type Conn<'a> = SemaphorePermit<'a>;

    async fn acquire(&self) -> SemaphorePermit<'_> {
        timeout(TIMEOUT, self.0.0.acquire()).await.expect("no timeout").expect("the semaphore is never closed")
    }

    fn value(permit: &SemaphorePermit<'_>) -> u64 {
        Bare::value(permit)
    }

    fn release(&self, permit: SemaphorePermit<'_>) {
        drop(permit);
    }
}

fn add_targets(report: &mut Report) {
    let tasks = TASKS[TASKS.len() - 1];
    let setting = [("tasks", tasks.into())];
    let row = |name, metric: Metric| report.row(name, metric.name, &setting).expect("the row was measured");
    let mut targets =
        vec![("memory of a waiter, the worst round".to_owned(), max(&row(CONNRING, MEMORY).values), 512.0)];
    for metric in [TIME, CPU] {
        for (name, against) in [(CONNRING, TIMED), (CONNRING_BARE, BARE)] {
            let ratio = ratio(row(name, metric), row(against, metric)).expect("both were measured");
            targets.push((format!("{} of a grant, {name} to {against}", metric.name), ratio, 1.5));
        }
    }
    for (figure, value, target) in targets {
        report.target(format!("{tasks} waiting: {figure}"), value, Target::AtMost(target));
    }
}
