//! Four servers, of which one swallows connections: what callers notice of it.
//!
//! The servers are real sockets on this machine. The one that swallows is a listener that never accepts and whose queue
//! is full: a dial to it gets no answer, not even a refusal.
//!
//! - Warm: the three good servers have an idle connection for each of 64 tasks; then the fourth joins. Together the
//!   tasks acquire and release 20 000 times a second, for 3 s a round. Each acquire has a time at which it is due, and
//!   its latency counts from there, so that one that is slow does not hide those that it keeps waiting. `control` is
//!   the same with a fourth server that accepts.
//! - Cold: a new pool. One caller alone, or 64 at once, and how long the slowest waits for its first connection. The
//!   server that swallows is the first in the list, then the second, and so on.
//!
//! What pollutes it: tokio's timers have steps of 1 ms, so a thread of its own sleeps until each acquire is due and
//! sends it to its task. `late` is how late the task then calls, by the sleep, the wake and whoever has the processor:
//! that is in the latency, and `call` is the latency without it. Compare with `control`.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use connring::{Pool, PooledConn, TcpConnector};
use hdrhistogram::Histogram;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Barrier;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::contestants::background;
use crate::report::{Bar, Entrant, Metric, Options, Report, Row, cores, max, median};

const TASKS: u32 = 64;
const PER_SECOND: u32 = 20_000;
/// How long a warm round is: longer than the swallowed dials, so that it sees their end and the probe after that.
const SPAN: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pool's default.
const HEDGE_DELAY: Duration = Duration::from_millis(100);
const COLD_ROUNDS: usize = 20;

const WARM: &str = "warm, one swallows";
const CONTROL: &str = "warm, control";
const METRICS: [Metric; 8] = [
    Metric { name: "p50", unit: "ms" },
    Metric { name: "p99", unit: "ms" },
    Metric { name: "p99.9", unit: "ms" },
    Metric { name: "max", unit: "ms" },
    Metric { name: "late p50", unit: "ms" },
    Metric { name: "late p99.9", unit: "ms" },
    Metric { name: "call p99.9", unit: "ms" },
    Metric { name: "failed", unit: "acquires" },
];
const FIRST: Metric = Metric { name: "first", unit: "ms" };

pub fn run(options: &Options) {
    let mut report = Report::new("blackhole", options);
    let runtime = Builder::new_multi_thread().worker_threads(cores()).enable_all().build().expect("a runtime");
    let good: Vec<_> = (0..4).map(|_| background().block_on(serve())).collect();
    let hole = runtime.block_on(Hole::new());
    let entrant = |name: &str, fourth| {
        let (runtime, good) = (&runtime, &good[..3]);
        Entrant {
            contestant: name.to_owned(),
            setting: Vec::new(),
            against: CONTROL,
            measure: Box::new(move || runtime.block_on(warm(good, fourth))),
        }
    };
    report.measure(&METRICS, vec![entrant(WARM, hole.address), entrant(CONTROL, good[3])]);
    cold(&mut report, &runtime, &good[..3], hole.address);
    runtime.block_on(hole.swallows());
    add_bars(&mut report);
    report.print();
}

/// A server that accepts, for as long as the process lives.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (mut conn, _) = listener.accept().await.expect("descriptors are left");
            // Until the client closes it.
            tokio::spawn(async move { tokio::io::copy(&mut conn, &mut tokio::io::sink()).await });
        }
    });
    address
}

/// A listener that never accepts, with what fills its queue.
struct Hole {
    address: SocketAddr,
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Hole {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let mut queue = Vec::new();
        while let Ok(conn) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            queue.push(conn.expect("it was accepted by the system or not at all"));
            assert!(queue.len() < 100, "this system has no end of room in the queue of a listener");
        }
        Self { address, _listener: listener, _queue: queue }
    }

    /// That it did what was measured.
    async fn swallows(&self) {
        assert!(timeout(Duration::from_millis(300), TcpStream::connect(self.address)).await.is_err(), "it swallows");
    }
}

fn pool(servers: &[SocketAddr]) -> Pool<TcpConnector> {
    let builder = Pool::builder(TcpConnector::new()).servers(servers.iter().copied()).max_conns_per_server(TASKS);
    builder.connect_timeout(CONNECT_TIMEOUT).hedge_delay(HEDGE_DELAY).build().expect("in range")
}

/// What the tasks of a round saw, in nanoseconds.
struct Seen {
    latency: Histogram<u64>,
    late: Histogram<u64>,
    call: Histogram<u64>,
    failed: u64,
}

impl Seen {
    fn new() -> Self {
        let [latency, late, call] = [(); 3].map(|()| Histogram::new(3).expect("three digits are possible"));
        Self { latency, late, call, failed: 0 }
    }

    fn add(&mut self, other: &Self) {
        for (all, one) in
            [(&mut self.latency, &other.latency), (&mut self.late, &other.late), (&mut self.call, &other.call)]
        {
            all.add(one).expect("one range for all");
        }
        self.failed += other.failed;
    }
}

async fn warm(good: &[SocketAddr], fourth: SocketAddr) -> Vec<f64> {
    let pool = pool(good);
    let mut held = Vec::new();
    for _ in 0..TASKS as usize * good.len() {
        held.push(pool.acquire().await.expect("all accept"));
    }
    held.into_iter().for_each(PooledConn::release);
    pool.register(fourth).expect("it is new");

    let (senders, receivers): (Vec<_>, Vec<_>) = (0..TASKS).map(|_| unbounded_channel()).unzip();
    let tasks: Vec<_> = receivers.into_iter().map(|due| tokio::spawn(serve_due(pool.clone(), due))).collect();
    thread::spawn(move || pace(&senders));
    let mut all = Seen::new();
    for task in tasks {
        all.add(&task.await.expect("a task that ended well"));
    }
    let ms = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e6;
    let Seen { latency, late, call, failed } = &all;
    let latency = [0.5, 0.99, 0.999, 1.0].map(|at| ms(latency, at));
    [&latency[..], &[ms(late, 0.5), ms(late, 0.999), ms(call, 0.999), *failed as f64]].concat()
}

/// Tells the tasks in turn when an acquire is due, each time at that time or soon after.
fn pace(tasks: &[UnboundedSender<Instant>]) {
    let begin = Instant::now() + Duration::from_millis(10);
    let all = (SPAN.as_secs_f64() * f64::from(PER_SECOND)) as u32;
    for (number, task) in (0..all).zip(tasks.iter().cycle()) {
        let due = begin + Duration::from_secs(1) * number / PER_SECOND;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        task.send(due).expect("the task waits for it");
    }
}

async fn serve_due(pool: Pool<TcpConnector>, mut all_due: UnboundedReceiver<Instant>) -> Seen {
    let mut seen = Seen::new();
    let record = |histogram: &mut Histogram<u64>, time: Duration| {
        histogram.record(time.as_nanos() as u64).expect("the range has no end");
    };
    while let Some(due) = all_due.recv().await {
        let called = Instant::now();
        let acquired = pool.acquire().await;
        let ended = Instant::now();
        record(&mut seen.late, called - due);
        record(&mut seen.call, ended - called);
        record(&mut seen.latency, ended - due);
        match acquired {
            Ok(conn) => conn.release(),
            Err(_) => seen.failed += 1,
        }
    }
    seen
}

fn cold(report: &mut Report, runtime: &Runtime, good: &[SocketAddr], hole: SocketAddr) {
    let mut values = [const { Vec::new() }; 3];
    for round in 0..COLD_ROUNDS {
        let mut servers = good.to_vec();
        servers.insert(round % (good.len() + 1), hole);
        runtime.block_on(async {
            values[0].push(milliseconds(async { drop(TcpStream::connect(good[0]).await.expect("it accepts")) }).await);
            values[1].push(first(pool(&servers), 1).await);
            values[2].push(first(pool(&servers), TASKS as usize).await);
        });
    }
    for (name, values) in [DIAL, ALONE, AT_ONCE].into_iter().zip(values) {
        let contestant = name.to_owned();
        report.push(Row { contestant, setting: Vec::new(), metric: FIRST, against: "", values });
    }
}

const DIAL: &str = "one dial";
const ALONE: &str = "cold, one caller";
const AT_ONCE: &str = "cold, 64 callers";

/// How long the slowest of some callers waits for its first connection.
async fn first(pool: Pool<TcpConnector>, callers: usize) -> f64 {
    let start = Arc::new(Barrier::new(callers));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (pool, start) = (pool.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            milliseconds(async { pool.acquire().await.expect("three accept").release() }).await
        });
    }
    tasks.join_all().await.into_iter().fold(0.0, f64::max)
}

async fn milliseconds(future: impl Future<Output = ()>) -> f64 {
    let begin = Instant::now();
    future.await;
    begin.elapsed().as_secs_f64() * 1e3
}

fn add_bars(report: &mut Report) {
    let values =
        |contestant, metric: Metric| report.row(contestant, metric.name, &[]).expect("it was measured").values.clone();
    let most = HEDGE_DELAY.as_secs_f64() * 1e3 + median(&values(DIAL, FIRST)) + 2.0;
    let bars = [
        ("warm: p99.9 of the median round, ms", median(&values(WARM, METRICS[2])), 1.0),
        ("warm: p99.9 of the calls alone, the worst round, ms", max(&values(WARM, METRICS[6])), 1.0),
        ("warm: failed in the worst round", max(&values(WARM, METRICS[7])), 0.0),
        ("cold: one caller, worst of 20, ms", max(&values(ALONE, FIRST)), most),
        ("cold: 64 callers, worst of 20, ms", max(&values(AT_ONCE, FIRST)), most),
    ];
    for (figure, value, bar) in bars {
        report.bar(figure, value, Bar::AtMost(bar));
    }
}
