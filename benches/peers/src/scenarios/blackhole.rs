//! Latency of acquires over four servers, one of which is a black hole: it answers no connect attempt.
//!
//! The servers are real sockets on this machine. The black hole is a listener that never accepts and whose backlog is
//! full, so a connect attempt gets no answer, not even a refusal.
//!
//! - Warm: the three good servers have an idle connection for each of 64 tasks; then the fourth server is registered.
//!   Together the tasks acquire and release 20 000 times a second, for 3 s a round. The latency of an acquire counts
//!   from the time at which it is due, so that a slow acquire does not hide the delay of later ones (coordinated
//!   omission). `control` is the same with a fourth server that accepts.
//! - Cold: a new pool and one caller, or 64 callers at once. The figure is the time until the slowest caller has its
//!   first connection. The black hole is first in the list in one run, second in the next, and so on.
//!
//! Sources of error: tokio's timers have a resolution of 1 ms, so a separate thread sleeps until each acquire is due
//! and signals the task. `late` is the delay until the task calls `acquire`, caused by the sleep, the wake-up and the
//! scheduler. It is part of the latency; `call` is the latency without it. Compare with `control`.

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
use crate::report::{Entrant, Metric, Options, Report, Row, Target, cores, max, median};

const TASKS: u32 = 64;
const PER_SECOND: u32 = 20_000;
/// Length of a warm round. It exceeds the connect timeout, so that a round includes the timeout and the probe after it.
const SPAN: Duration = Duration::from_secs(3);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The pool's default.
const HEDGE_DELAY: Duration = Duration::from_millis(100);
const COLD_ROUNDS: usize = 20;

const WARM: &str = "warm, black hole";
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
    let hole = runtime.block_on(BlackHole::new());
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
    runtime.block_on(hole.assert_unanswered());
    add_targets(&mut report);
    report.print();
}

/// Starts a server that accepts connections until the process ends.
async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        loop {
            let (mut conn, _) = listener.accept().await.expect("a connection");
            // Reads until the client closes the connection.
            tokio::spawn(async move { tokio::io::copy(&mut conn, &mut tokio::io::sink()).await });
        }
    });
    address
}

/// A listener that never accepts, and the connections that fill its backlog.
struct BlackHole {
    address: SocketAddr,
    _listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl BlackHole {
    async fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let mut backlog = Vec::new();
        while let Ok(conn) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            backlog.push(conn.expect("the system completes the handshake or does not answer"));
            assert!(backlog.len() < 100, "this system does not bound the backlog of a listener");
        }
        Self { address, _listener: listener, _backlog: backlog }
    }

    /// Asserts that connect attempts still get no answer.
    async fn assert_unanswered(&self) {
        let attempt = timeout(Duration::from_millis(300), TcpStream::connect(self.address)).await;
        assert!(attempt.is_err(), "the black hole answered a connect attempt");
    }
}

fn pool(servers: &[SocketAddr]) -> Pool<TcpConnector> {
    let builder = Pool::builder(TcpConnector::new()).servers(servers.iter().copied()).max_conns_per_server(TASKS);
    builder.connect_timeout(CONNECT_TIMEOUT).hedge_delay(HEDGE_DELAY).build().expect("in range")
}

/// The measurements of a round, in nanoseconds.
struct Measured {
    latency: Histogram<u64>,
    late: Histogram<u64>,
    call: Histogram<u64>,
    failed: u64,
}

impl Measured {
    fn new() -> Self {
        let [latency, late, call] = [(); 3].map(|()| Histogram::new(3).expect("three digits are in range"));
        Self { latency, late, call, failed: 0 }
    }

    fn add(&mut self, other: &Self) {
        for (all, one) in
            [(&mut self.latency, &other.latency), (&mut self.late, &other.late), (&mut self.call, &other.call)]
        {
            all.add(one).expect("the histograms have the same range");
        }
        self.failed += other.failed;
    }
}

async fn warm(good: &[SocketAddr], fourth: SocketAddr) -> Vec<f64> {
    let pool = pool(good);
    let mut held = Vec::new();
    for _ in 0..TASKS as usize * good.len() {
        held.push(pool.acquire().await.expect("the servers accept"));
    }
    held.into_iter().for_each(PooledConn::release);
    pool.register(fourth).expect("the address is new");

    let (senders, receivers): (Vec<_>, Vec<_>) = (0..TASKS).map(|_| unbounded_channel()).unzip();
    let tasks: Vec<_> = receivers.into_iter().map(|due| tokio::spawn(serve_due(pool.clone(), due))).collect();
    thread::spawn(move || pace(&senders));
    let mut all = Measured::new();
    for task in tasks {
        all.add(&task.await.expect("the task does not panic"));
    }
    let ms = |of: &Histogram<u64>, quantile| of.value_at_quantile(quantile) as f64 / 1e6;
    let Measured { latency, late, call, failed } = &all;
    let latency = [0.5, 0.99, 0.999, 1.0].map(|at| ms(latency, at));
    [&latency[..], &[ms(late, 0.5), ms(late, 0.999), ms(call, 0.999), *failed as f64]].concat()
}

/// Sends each task in turn the due time of an acquire, at that time or shortly after it.
fn pace(tasks: &[UnboundedSender<Instant>]) {
    let begin = Instant::now() + Duration::from_millis(10);
    let all = (SPAN.as_secs_f64() * f64::from(PER_SECOND)) as u32;
    for (number, task) in (0..all).zip(tasks.iter().cycle()) {
        let due = begin + Duration::from_secs(1) * number / PER_SECOND;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        task.send(due).expect("the task receives until the channel closes");
    }
}

async fn serve_due(pool: Pool<TcpConnector>, mut all_due: UnboundedReceiver<Instant>) -> Measured {
    let mut measured = Measured::new();
    let record = |histogram: &mut Histogram<u64>, time: Duration| {
        histogram.record(time.as_nanos() as u64).expect("the histogram grows as needed");
    };
    while let Some(due) = all_due.recv().await {
        let called = Instant::now();
        let acquired = pool.acquire().await;
        let ended = Instant::now();
        record(&mut measured.late, called - due);
        record(&mut measured.call, ended - called);
        record(&mut measured.latency, ended - due);
        match acquired {
            Ok(conn) => conn.release(),
            Err(_) => measured.failed += 1,
        }
    }
    measured
}

fn cold(report: &mut Report, runtime: &Runtime, good: &[SocketAddr], hole: SocketAddr) {
    let mut values = [const { Vec::new() }; 3];
    for round in 0..COLD_ROUNDS {
        let mut servers = good.to_vec();
        servers.insert(round % (good.len() + 1), hole);
        runtime.block_on(async {
            values[0]
                .push(milliseconds(async { drop(TcpStream::connect(good[0]).await.expect("a connection")) }).await);
            values[1].push(first(pool(&servers), 1).await);
            values[2].push(first(pool(&servers), TASKS as usize).await);
        });
    }
    for (name, values) in [CONNECT, ALONE, AT_ONCE].into_iter().zip(values) {
        let contestant = name.to_owned();
        report.push(Row { contestant, setting: Vec::new(), metric: FIRST, against: "", values });
    }
}

const CONNECT: &str = "one connect";
const ALONE: &str = "cold, one caller";
const AT_ONCE: &str = "cold, 64 callers";

/// Returns the time until the slowest of `callers` concurrent callers has a connection, in milliseconds.
async fn first(pool: Pool<TcpConnector>, callers: usize) -> f64 {
    let start = Arc::new(Barrier::new(callers));
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (pool, start) = (pool.clone(), Arc::clone(&start));
        tasks.spawn(async move {
            start.wait().await;
            milliseconds(async { pool.acquire().await.expect("three servers accept").release() }).await
        });
    }
    tasks.join_all().await.into_iter().fold(0.0, f64::max)
}

async fn milliseconds(future: impl Future<Output = ()>) -> f64 {
    let begin = Instant::now();
    future.await;
    begin.elapsed().as_secs_f64() * 1e3
}

fn add_targets(report: &mut Report) {
    let values = |contestant, metric: Metric| {
        report.row(contestant, metric.name, &[]).expect("the row was measured").values.clone()
    };
    let most = HEDGE_DELAY.as_secs_f64() * 1e3 + median(&values(CONNECT, FIRST)) + 2.0;
    let targets = [
        ("warm: p99.9 of the median round, ms", median(&values(WARM, METRICS[2])), 1.0),
        ("warm: p99.9 of the calls without lateness, the worst round, ms", max(&values(WARM, METRICS[6])), 1.0),
        ("warm: failed acquires in the worst round", max(&values(WARM, METRICS[7])), 0.0),
        ("cold: one caller, worst of 20, ms", max(&values(ALONE, FIRST)), most),
        ("cold: 64 callers, worst of 20, ms", max(&values(AT_ONCE, FIRST)), most),
    ];
    for (figure, value, target) in targets {
        report.target(figure, value, Target::AtMost(target));
    }
}
