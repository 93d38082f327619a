//! 400 tasks on 20 connections: how long a caller waits where there are more callers than connections.
//!
//! A round is one run: each task takes a connection 20 times and holds it for a sleep of 1 ms, on a runtime with two
//! threads. Since all tasks are there all the time, a pool that serves in order makes each wait for the 19 holds before
//! its own. `hold` is what the sleeps really took; `total` is the time of the run to what it takes at least, which is
//! the mean hold of that run times 400 / 20 times 20. `wakes` counts those of a task that waits for a connection, by
//! whomever; a grant, here, is one that was waited for.
//!
//! What pollutes it: tokio's timer has steps of 1 ms, so that a hold lasts from 1 to 2 ms and those that begin together
//! end together.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::runtime::Runtime;

use crate::contestants::{Async, Bb8, Connring, Deadpool, FastPool, Mobc, Setup};
use crate::report::{Bar, Entrant, Metric, Options, Report, max, median};

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
const TURNS: usize = 20;
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
    add_bars(&mut report);
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

/// What a task saw.
struct Seen {
    waits: Histogram<u64>,
    waited_for: u64,
    wakes: u64,
    held: Duration,
}

async fn measure<P: Async>(pool: &Arc<P>) -> Vec<f64> {
    let begin = Instant::now();
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(work(Arc::clone(pool)))).collect();
    let mut all = Seen { waits: histogram(), waited_for: 0, wakes: 0, held: Duration::ZERO };
    for task in tasks {
        let seen = task.await.expect("a task that ended well");
        all.waits.add(&seen.waits).expect("one range for all");
        all.waited_for += seen.waited_for;
        all.wakes += seen.wakes;
        all.held += seen.held;
    }
    let total = begin.elapsed();
    let least = all.held / CONNS;
    let ms = |nanos: u64| nanos as f64 / 1e6;
    vec![
        ms(all.waits.value_at_quantile(0.5)),
        ms(all.waits.value_at_quantile(0.99)),
        ms(all.waits.max()),
        all.held.as_secs_f64() * 1e3 / (TASKS * TURNS) as f64,
        total.as_secs_f64() / least.as_secs_f64(),
        all.wakes as f64 / all.waited_for.max(1) as f64,
    ]
}

async fn work<P: Async>(pool: Arc<P>) -> Seen {
    let mut seen = Seen { waits: histogram(), waited_for: 0, wakes: 0, held: Duration::ZERO };
    for _ in 0..TURNS {
        let asked = Instant::now();
        let (conn, wakes) = Watched::new(pool.acquire()).await;
        let taken = Instant::now();
        tokio::time::sleep(HOLD).await;
        seen.held += taken.elapsed();
        pool.release(conn);
        seen.waits.record((taken - asked).as_nanos() as u64).expect("the range has no end");
        seen.waited_for += u64::from(wakes.is_some());
        seen.wakes += wakes.unwrap_or(0);
    }
    seen
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

/// Counts how often the task is woken until the future is ready, if it was not at once.
struct Watched<F> {
    future: Pin<Box<F>>,
    bell: Option<Arc<Bell>>,
}

/// A waker that counts and passes on.
struct Bell {
    task: Waker,
    rings: AtomicU64,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        self.task.wake_by_ref();
    }
}

impl<F: Future> Watched<F> {
    fn new(future: F) -> Self {
        Self { future: Box::pin(future), bell: None }
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = (F::Output, Option<u64>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A task keeps its waker, so that the one of the first poll is good for all.
        let is_first = self.bell.is_none();
        let task = || Arc::new(Bell { task: context.waker().clone(), rings: AtomicU64::new(0) });
        let bell = Arc::clone(self.bell.get_or_insert_with(task));
        let waker = Waker::from(Arc::clone(&bell));
        let output = pin!(&mut self.future).poll(&mut Context::from_waker(&waker));
        let rings = || (!is_first).then(|| bell.rings.load(Ordering::Relaxed));
        output.map(|output| (output, rings()))
    }
}

fn add_bars(report: &mut Report) {
    let values = |metric| &report.row(CONNRING, metric, &[]).expect("it was measured").values;
    let spread: Vec<_> = values("p99").iter().zip(values("p50")).map(|(p99, p50)| p99 / p50).collect();
    let bars = [
        ("p99 / p50", median(&spread), 1.15),
        ("total, times the least", median(values("total")), 1.03),
        ("wakes for each grant, the worst round", max(values("wakes")), 1.1),
    ];
    for (figure, value, bar) in bars {
        report.bar(format!("{CONNRING}: {figure}"), value, Bar::AtMost(bar));
    }
}
