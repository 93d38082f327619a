//! 100, 10 000 and 100 000 tasks that wait: what each takes of memory, and what a grant costs, against tokio's
//! `Semaphore`, which is the least that a fair line can be.
//!
//! One server with one connection, or one permit. It is out until all tasks wait; then it goes from task to task, each
//! giving it back as soon as it has it. `time` is that of this, and `cpu` the processor's, by the number of tasks, with
//! all that runs on one thread: the tasks, the pool's own, the timers. `memory` is what was asked of the allocator for
//! callers that wait, but for their futures, which lie in the tasks; how large these are is `future`.
//!
//! By default each wait for connring has a timeout, and so a timer. So there are two pairs: connring with its defaults
//! against a `Semaphore` within `tokio::time::timeout`, and connring without one against a bare `Semaphore`.
//!
//! What pollutes it: with more tasks than the caches hold, what others on the machine leave of these. That a task is
//! woken and polled, a good part of the time, is the same for all.

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
use crate::report::{Bar, Entrant, Metric, Options, Report, max, ratio};

const TASKS: [u32; 3] = [100, 10_000, 100_000];
/// Small crowds are let through several times, until there were that many grants.
const GRANTS: u32 = 100_000;
const MEMORY: Metric = Metric { name: "memory", unit: "bytes a waiter" };
const FUTURE: Metric = Metric { name: "future", unit: "bytes" };
const TIME: Metric = Metric { name: "time", unit: "ns a grant" };
const CPU: Metric = Metric { name: "cpu", unit: "ns a grant" };
/// What `Pool::acquire` waits at most by default.
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
    add_bars(&mut report);
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

/// What each of so many callers that wait takes beside its future, and its future.
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

/// What a grant takes when so many tasks wait, in time and of the processor's, in nanoseconds.
fn grants<P: Async>(make: impl Fn() -> P, tasks: u32) -> (f64, f64) {
    let runtime = current_thread();
    let _inside = runtime.enter();
    let pool = Arc::new(make());
    let (mut time, mut cpu) = (Duration::ZERO, Duration::ZERO);
    let times = (GRANTS / tasks).max(1);
    runtime.block_on(async {
        for _ in 0..times {
            let held = pool.acquire().await;
            let came = Arc::new(AtomicU32::new(0));
            let come = |_| tokio::spawn(take_turn(Arc::clone(&pool), Arc::clone(&came)));
            let crowd: Vec<_> = (0..tasks).map(come).collect();
            while came.load(Ordering::Relaxed) < tasks {
                tokio::task::yield_now().await;
            }
            let (began, used) = (Instant::now(), thread_time());
            pool.release(held);
            for task in crowd {
                task.await.expect("a task that ended well");
            }
            time += began.elapsed();
            cpu += thread_time() - used;
        }
    });
    let grants = f64::from(times * tasks);
    (time.as_nanos() as f64 / grants, cpu.as_nanos() as f64 / grants)
}

async fn take_turn<P: Async>(pool: Arc<P>, came: Arc<AtomicU32>) {
    // In the same poll it joins those who wait: on this thread nobody sees the one without the other.
    came.fetch_add(1, Ordering::Relaxed);
    let conn = pool.acquire().await;
    pool.release(conn);
}

/// The processor time that this thread has used.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// With its tasks on the current runtime, so that what they do counts.
fn pool(wait_timeout: Option<Duration>) -> Connring<Numbers> {
    let builder = Pool::builder(Numbers).server("server").max_conns_per_server(1);
    Connring(builder.max_waiters(usize::MAX).wait_timeout(wait_timeout).build().expect("in range"))
}

struct Bare(Semaphore);

impl Async for Bare {
    type Conn<'a> = SemaphorePermit<'a>;

    async fn acquire(&self) -> SemaphorePermit<'_> {
        self.0.acquire().await.expect("it is never closed")
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
        timeout(TIMEOUT, self.0.0.acquire()).await.expect("its turn comes sooner").expect("it is never closed")
    }

    fn value(permit: &SemaphorePermit<'_>) -> u64 {
        Bare::value(permit)
    }

    fn release(&self, permit: SemaphorePermit<'_>) {
        drop(permit);
    }
}

fn add_bars(report: &mut Report) {
    let tasks = TASKS[TASKS.len() - 1];
    let setting = [("tasks", tasks.into())];
    let row = |name, metric: Metric| report.row(name, metric.name, &setting).expect("it was measured");
    let mut bars = vec![("memory of a waiter, the worst round".to_owned(), max(&row(CONNRING, MEMORY).values), 512.0)];
    for metric in [TIME, CPU] {
        for (name, against) in [(CONNRING, TIMED), (CONNRING_BARE, BARE)] {
            let ratio = ratio(row(name, metric), row(against, metric)).expect("both were measured");
            bars.push((format!("{} of a grant, {name} to {against}", metric.name), ratio, 1.5));
        }
    }
    for (figure, value, bar) in bars {
        report.bar(format!("{tasks} waiting: {figure}"), value, Bar::AtMost(bar));
    }
}
