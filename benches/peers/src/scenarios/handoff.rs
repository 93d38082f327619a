//! Waiting times and fairness with more callers than connections: 400 tasks share 20 connections.
//!
//! A round is one run on a runtime with two threads: each task acquires a connection 20 times and holds it for a sleep
//! of 1 ms. All tasks compete all the time, so with a fair pool each acquire waits for 19 holds. `hold` is the measured
//! length of a hold. `total` is the time of the run relative to its minimum, which is the mean hold of the run times
//! 400 / 20 times 20. `wakes` counts the wake-ups of waiting tasks, from any source; a grant is an acquire that had to
//! wait.
//!
//! Sources of error: tokio's timer has a resolution of 1 ms, so a hold lasts from 1 to 2 ms, and holds that begin
//! together end together.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::Runtime;

use crate::contestants::{Async, Bb8, Connring, Deadpool, FastPool, Mobc, Setup};
use crate::report::{Entrant, Metric, Options, Report, Target, max, median};

const METRICS: [Metric; 6] = [
    Metric { name: "p50", unit: "ms" },
    Metric { name: "p99", unit: "ms" },
    Metric { name: "max", unit: "ms" },
    Metric { name: "hold", unit: "ms" },
    Metric { name: "total", unit: "times the least" },
    Metric { name: "wakes", unit: "for each grant" },
];
const TASKS: usize = 400;
const CONNS: u32 = 20;
const ACQUIRES: usize = 20;
const HOLD: Duration = Duration::from_millis(1);
const CONNRING: &str = "connring, servers: 4";
const AGAINST: &str = "connring, servers: 1";

pub fn run(options: &Options) {
    let mut report = Report::new("handoff", options);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = &runtime.expect("a runtime");
    let connring = |servers| Connring::new(Setup { servers, conns: CONNS / servers, is_limited: false });
    let limited = Connring::new(Setup { servers: 4, conns: CONNS / 4, is_limited: true });
    let entrants = vec![
        entrant(AGAINST, connring(1), runtime),
        entrant(CONNRING, connring(4), runtime),
        entrant("connring, limit, servers: 4", limited, runtime),
        entrant("deadpool", Deadpool::new(CONNS), runtime),
        entrant("bb8", Bb8::new(CONNS), runtime),
        entrant("fast_pool", FastPool::new(CONNS), runtime),
        entrant("mobc", Mobc::new(CONNS), runtime),
    ];
    report.measure(&METRICS, entrants);
    add_targets(&mut report);
    report.print();
}

fn entrant<'a>(name: &str, pool: impl Async, runtime: &'a Runtime) -> Entrant<'a> {
    let pool = Arc::new(pool);
    Entrant {
        contestant: name.to_owned(),
        setting: Vec::new(),
        against: AGAINST,
        measure: Box::new(move || runtime.block_on(measure(&pool))),
    }
}

/// The measurements of a task.
struct Measured {
    waits: Histogram<u64>,
    waited_for: u64,
    wakes: u64,
    held: Duration,
}

async fn measure<P: Async>(pool: &Arc<P>) -> Vec<f64> {
    let begin = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(work(Arc::clone(pool)))).collect();
    let mut all = Measured { waits: histogram(), waited_for: 0, wakes: 0, held: Duration::ZERO };
    for task in tasks {
        let measured = task.await.expect("the task does not panic");
        all.waits.add(&measured.waits).expect("the histograms have the same range");
        all.waited_for += measured.waited_for;
        all.wakes += measured.wakes;
        all.held += measured.held;
    }
    let total = begin.elapsed();
    let least = all.held / CONNS;
    let ms = |nanos: u64| nanos as f64 / 1e6;
    vec![
        ms(all.waits.value_at_quantile(0.5)),
        ms(all.waits.value_at_quantile(0.99)),
        ms(all.waits.max()),
        all.held.as_secs_f64() * 1e3 / (TASKS * ACQUIRES) as f64,
        total.as_secs_f64() / least.as_secs_f64(),
        all.wakes as f64 / all.waited_for.max(1) as f64,
    ]
}

async fn work<P: Async>(pool: Arc<P>) -> Measured {
    let mut measured = Measured { waits: histogram(), waited_for: 0, wakes: 0, held: Duration::ZERO };
    for _ in 0..ACQUIRES {
        let asked = Instant::now();
        let (conn, wakes) = CountsWakes::new(pool.acquire()).await;
        let taken = Instant::now();
        tokio::time::sleep(HOLD).await;
        measured.held += taken.elapsed();
        pool.release(conn);
        measured.waits.record((taken - asked).as_nanos() as u64).expect("the histogram grows as needed");
        measured.waited_for += u64::from(wakes.is_some());
        measured.wakes += wakes.unwrap_or(0);
    }
    measured
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are in range")
}

/// A future that also returns how often its task was woken, or `None` if the first poll was ready.
struct CountsWakes<F> {
    future: Pin<Box<F>>,
    counter: Option<Arc<WakeCounter>>,
}

/// Counts the wake-ups of a task and forwards them.
struct WakeCounter {
    task: Waker,
    wakes: AtomicU64,
}

impl Wake for WakeCounter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

impl<F: Future> CountsWakes<F> {
    fn new(future: F) -> Self {
        Self { future: Box::pin(future), counter: None }
    }
}

impl<F: Future> Future for CountsWakes<F> {
    type Output = (F::Output, Option<u64>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // The waker of a spawned task never changes, so the waker of the first poll stays valid.
        let is_first = self.counter.is_none();
        let make = || Arc::new(WakeCounter { task: context.waker().clone(), wakes: AtomicU64::new(0) });
        let counter = Arc::clone(self.counter.get_or_insert_with(make));
        let waker = Waker::from(Arc::clone(&counter));
        let output = pin!(&mut self.future).poll(&mut Context::from_waker(&waker));
        let wakes = || (!is_first).then(|| counter.wakes.load(Ordering::Relaxed));
        output.map(|output| (output, wakes()))
    }
}

fn add_targets(report: &mut Report) {
    let values = |metric| &report.row(CONNRING, metric, &[]).expect("the row was measured").values;
    let spread: Vec<_> = values("p99").iter().zip(values("p50")).map(|(p99, p50)| p99 / p50).collect();
    let targets = [
        ("p99 / p50", median(&spread), 1.15),
        ("total, times the least", median(values("total")), 1.03),
        ("wakes for each grant, the worst round", max(values("wakes")), 1.1),
    ];
    for (figure, value, target) in targets {
        report.target(format!("{CONNRING}: {figure}"), value, Target::AtMost(target));
    }
}
