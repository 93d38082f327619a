//! GETs of 100 bytes from a local redis-server: requests a second, and the latency of a request including the wait for
//! a connection, with 1, 16 and 256 tasks on 16 connections.
//!
//! All contestants use the same type of connection, `MultiplexedConnection` of the crate redis, for one task at a time.
//! `bare` has no pool: each task has its own connection. bb8-redis is configured without a check at checkout, like
//! connring here. deadpool-redis sends UNWATCH and PING at each checkout, which cannot be turned off, so there is also
//! deadpool with a connector that sends neither.
//!
//! Sources of error: client and server share the machine's cores, and a pool's part of a request is small. Each
//! connection has a task through which every request and response passes.

use std::net::TcpListener;
use std::ops::DerefMut;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bb8_redis::RedisConnectionManager;
use connring::{Connector, Pool, PooledConn};
use deadpool::managed::{Manager, Metrics, Object, RecycleResult};
use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, RedisError, cmd};
use hdrhistogram::Histogram;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, MutexGuard};

use crate::report::{Entrant, Metric, Options, Report, Target, ratio};

const METRICS: [Metric; 4] = [
    Metric { name: "throughput", unit: "requests/s" },
    Metric { name: "p50", unit: "ms" },
    Metric { name: "p99", unit: "ms" },
    Metric { name: "p99.9", unit: "ms" },
];
/// How long a contestant runs in each round.
const SPAN: Duration = Duration::from_millis(300);
const TASKS: [usize; 3] = [1, 16, 256];
const CONNS: u32 = 16;
const VALUE: [u8; 100] = [b'x'; 100];
const CONNRING: &str = "connring";
const PEERS: [&str; 3] = ["deadpool-redis", "deadpool", "bb8-redis"];

/// A source of connections: a pool, or one connection for each task.
trait Source: Send + Sync + 'static {
    type Conn<'a>: DerefMut<Target = MultiplexedConnection> + Send;
    fn acquire(&self, task: usize) -> impl Future<Output = Self::Conn<'_>> + Send;
    fn release(conn: Self::Conn<'_>);
}

pub fn run(options: &Options) {
    let server = Server::start();
    let mut report = Report::new("redis", options);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let _inside = runtime.enter();
    runtime.block_on(server.fill());

    let builder = Pool::builder(Redis).server(server.url.clone()).max_conns_per_server(CONNS);
    let connring = Arc::new(builder.build().expect("a pool"));
    let pool = deadpool_redis::Pool::builder(deadpool_redis::Manager::new(server.url.clone()).expect("an address"));
    let deadpool_redis = Arc::new(pool.max_size(CONNS as usize).build().expect("a pool"));
    let pool = deadpool::managed::Pool::builder(Unchecked(server.client.clone()));
    let deadpool = Arc::new(pool.max_size(CONNS as usize).build().expect("a pool"));
    let pool = bb8_redis::bb8::Pool::builder().max_size(CONNS).test_on_check_out(false);
    let bb8_redis =
        Arc::new(pool.build_unchecked(RedisConnectionManager::new(server.url.clone()).expect("an address")));
    let bare = Arc::new(runtime.block_on(Bare::open(&server.client, TASKS[TASKS.len() - 1])));

    let mut entrants = Vec::new();
    for tasks in TASKS {
        entrants.extend([
            entrant(CONNRING, &connring, tasks, &runtime),
            entrant("deadpool-redis", &deadpool_redis, tasks, &runtime),
            entrant("deadpool", &deadpool, tasks, &runtime),
            entrant("bb8-redis", &bb8_redis, tasks, &runtime),
            entrant("bare", &bare, tasks, &runtime),
        ]);
    }
    report.measure(&METRICS, entrants);
    add_targets(&mut report);
    report.print();
}

fn entrant<'a>(name: &str, source: &Arc<impl Source>, tasks: usize, runtime: &'a Runtime) -> Entrant<'a> {
    let source = Arc::clone(source);
    Entrant {
        contestant: name.to_owned(),
        setting: vec![("tasks", tasks as u64)],
        against: CONNRING,
        measure: Box::new(move || runtime.block_on(measure(&source, tasks))),
    }
}

async fn measure<S: Source>(source: &Arc<S>, tasks: usize) -> Vec<f64> {
    let is_over = Arc::new(AtomicBool::new(false));
    let begin = Instant::now();
    let work = |task| tokio::spawn(work(Arc::clone(source), task, Arc::clone(&is_over)));
    let handles: Vec<_> = (0..tasks).map(work).collect();
    tokio::time::sleep(SPAN).await;
    is_over.store(true, Ordering::Relaxed);
    let mut all = Histogram::<u64>::new(3).expect("three digits are in range");
    for handle in handles {
        all.add(handle.await.expect("the task does not panic")).expect("the histograms have the same range");
    }
    let per_second = all.len() as f64 / begin.elapsed().as_secs_f64();
    let ms = |quantile| all.value_at_quantile(quantile) as f64 / 1e6;
    vec![per_second, ms(0.5), ms(0.99), ms(0.999)]
}

async fn work<S: Source>(source: Arc<S>, task: usize, is_over: Arc<AtomicBool>) -> Histogram<u64> {
    let mut times = Histogram::new(3).expect("three digits are in range");
    while !is_over.load(Ordering::Relaxed) {
        let begin = Instant::now();
        let mut conn = source.acquire(task).await;
        let value: Vec<u8> = cmd("GET").arg("key").query_async(&mut *conn).await.expect("a response");
        S::release(conn);
        times.record(begin.elapsed().as_nanos() as u64).expect("the histogram grows as needed");
        assert_eq!(value, VALUE, "the value in the response");
    }
    times
}

fn add_targets(report: &mut Report) {
    let of = |name, metric| {
        let row = |name| report.row(name, metric, &[("tasks", 256)]).expect("the row was measured");
        ratio(row(CONNRING), row(name)).expect("both were measured")
    };
    let throughput = PEERS.map(|peer| of(peer, "throughput")).into_iter().fold(f64::INFINITY, f64::min);
    let p99 = PEERS.map(|peer| of(peer, "p99")).into_iter().fold(0.0, f64::max);
    report.target("256 tasks: throughput to the best peer's", throughput, Target::AtLeast(1.0));
    report.target("256 tasks: p99 to the best peer's", p99, Target::AtMost(1.0));
}

/// A redis-server on a free local port, without persistence. Dropping it ends the process.
struct Server {
    process: Child,
    url: String,
    client: Client,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("the socket is bound").port().to_string();
        drop(listener);
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server can be started (the package redis-server is installed)");
        let url = format!("redis://127.0.0.1:{port}/");
        let client = Client::open(url.clone()).expect("an address");
        Self { process, url, client }
    }

    /// Waits until the server responds, and sets the value.
    async fn fill(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut conn = loop {
            match self.client.get_multiplexed_async_connection().await {
                Ok(conn) => break conn,
                Err(error) => assert!(Instant::now() < deadline, "redis-server does not respond: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let () = cmd("SET").arg("key").arg(&VALUE).query_async(&mut conn).await.expect("a response");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let ended = self.process.kill().and_then(|()| self.process.wait());
        ended.expect("the child process can be killed");
    }
}

struct Redis;

impl Connector for Redis {
    type Conn = MultiplexedConnection;
    type Error = RedisError;

    async fn connect(&self, server: &connring::Server) -> Result<MultiplexedConnection, RedisError> {
        Client::open(server.address())?.get_multiplexed_async_connection().await
    }
}

impl Source for Pool<Redis> {
    type Conn<'a> = PooledConn<Redis>;

    async fn acquire(&self, _task: usize) -> Self::Conn<'_> {
        self.acquire().await.expect("a connection")
    }

    fn release(conn: Self::Conn<'_>) {
        conn.release();
    }
}

impl Source for deadpool_redis::Pool {
    type Conn<'a> = deadpool_redis::Connection;

    async fn acquire(&self, _task: usize) -> Self::Conn<'_> {
        self.get().await.expect("a connection")
    }

    fn release(conn: Self::Conn<'_>) {
        drop(conn);
    }
}

/// Connects like deadpool-redis, and sends nothing at checkout.
struct Unchecked(Client);

impl Manager for Unchecked {
    type Type = MultiplexedConnection;
    type Error = RedisError;

    async fn create(&self) -> Result<MultiplexedConnection, RedisError> {
        self.0.get_multiplexed_async_connection().await
    }

    async fn recycle(&self, _conn: &mut MultiplexedConnection, _metrics: &Metrics) -> RecycleResult<RedisError> {
        Ok(())
    }
}

impl Source for deadpool::managed::Pool<Unchecked> {
    type Conn<'a> = Object<Unchecked>;

    async fn acquire(&self, _task: usize) -> Self::Conn<'_> {
        self.get().await.expect("a connection")
    }

    fn release(conn: Self::Conn<'_>) {
        drop(conn);
    }
}

impl Source for bb8_redis::bb8::Pool<RedisConnectionManager> {
    type Conn<'a> = bb8_redis::bb8::PooledConnection<'a, RedisConnectionManager>;

    async fn acquire(&self, _task: usize) -> Self::Conn<'_> {
        self.get().await.expect("a connection")
    }

    fn release(conn: Self::Conn<'_>) {
        drop(conn);
    }
}

/// One connection for each task, without a pool. The locks are never contended.
struct Bare(Vec<Mutex<MultiplexedConnection>>);

impl Bare {
    async fn open(client: &Client, tasks: usize) -> Self {
        let mut conns = Vec::new();
        for _ in 0..tasks {
            conns.push(Mutex::new(client.get_multiplexed_async_connection().await.expect("a connection")));
        }
        Self(conns)
    }
}

impl Source for Bare {
    type Conn<'a> = MutexGuard<'a, MultiplexedConnection>;

    async fn acquire(&self, task: usize) -> Self::Conn<'_> {
        self.0[task].try_lock().expect("only this task uses the connection")
    }

    fn release(conn: Self::Conn<'_>) {
        drop(conn);
    }
}
