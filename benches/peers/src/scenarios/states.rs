//! 10 to 10 000 servers that fail, refuse, or are registered one by one: the cost of their changes, and the memory that
//! pools leave behind.
//!
//! - `change of state`: one `fail` of a connection takes its server down. The connection was checked out just before,
//!   as after a request. `fail` also closes the connection, so the time of a `discard` is beside it; no part of it is
//!   subtracted. The reason is a static text. The background task is asleep before each call, and `fail` wakes it. In
//!   `fail` and `discard` the task is on the thread that calls, where that takes no system call. In `fail, task on
//!   another thread` the wake of that thread is in the time.
//! - `failing one by one`: one connection of each server is out, and all of them fail in one loop. No server is in the
//!   nearest caches.
//! - `registering one by one`: into an empty pool.
//! - `refusal`: `try_acquire` while all servers are down. Its error is dropped within the time.
//! - `cpu`, `connects`, `start-up`: all servers refuse while one caller waits; see `states/refusing.rs`.
//! - `kept`: the growth of what was asked of the allocator over pools that were used and dropped, while the thread that
//!   used them lives. A pool that is dropped by another thread has no bar.
//!
//! Connections are numbers. Maintenance is off in `change of state`, where a tick would wake the task, and on in all
//! else. No `tracing` subscriber is set.
//!
//! What pollutes it: a read of the clock is in each `change of state`, 20 to 50 ns. Of 10 servers all are in the
//! nearest cache, of 10 000 none is: that is most of the difference between their times, as `discard` shows, which
//! looks at one server alone. Page faults; other programs in the caches; the background thread, which runs at the same
//! time and on a busy machine takes the core away.

mod refusing;

use std::thread;
use std::time::{Duration, Instant};

use connring::{Builder, Connector, Pool, PooledConn, ServerState, TryAcquireError};
use tokio::runtime::Runtime;

use crate::allocator::{growth_in_quiet, let_tasks_go};
use crate::contestants::{Numbers, background, current_thread};
use crate::report::{Bar, Entrant, Metric, Options, Report, max, median};

const CHANGE: Metric = Metric { name: "change of state", unit: "ns" };
const FAILING: Metric = Metric { name: "failing one by one", unit: "ms" };
const REGISTERING: Metric = Metric { name: "registering one by one", unit: "ms" };
const REFUSAL: Metric = Metric { name: "refusal", unit: "ns" };
const KEPT: Metric = Metric { name: "kept", unit: "MiB" };

const FEW: u32 = 10;
const MANY: u32 = 10_000;
const SIZES: [u32; 3] = [FEW, 1_000, MANY];
/// Changes of state that are measured in a round.
const CHANGES: u32 = 40;
/// Servers of a pool that stay up meanwhile.
const SPARE: u32 = 2;
const REASON: &str = "it cannot serve";
const HOUR: Duration = Duration::from_secs(3_600);
/// How long refusals are measured in a round, and how many are made between two looks at the clock.
const SPAN: Duration = Duration::from_millis(50);
const BATCH: u32 = 100;
const FAIL: &str = "fail";
const FAIL_AWAY: &str = "fail, task on another thread";
const DISCARD: &str = "discard";
const ALL: &str = "connring";
const DROPPED: &str = "dropped by the same thread";
const DROPPED_AWAY: &str = "dropped by another thread";

pub fn run(options: &Options) {
    let mut report = Report::new("states", options);
    let changes = SIZES.into_iter().flat_map(|servers| {
        [(FAIL, Task::Here, End::Fail), (FAIL_AWAY, Task::Away, End::Fail), (DISCARD, Task::Here, End::Discard)].map(
            |(name, task, end)| {
                let mut changing = Changing::new(servers, task, end);
                entrant(name, servers, move || changing.median_time())
            },
        )
    });
    report.measure(&[CHANGE], changes.collect());
    report.measure(&[FAILING], vec![entrant(ALL, MANY, || milliseconds(failing_one_by_one(MANY)))]);
    report.measure(&[REGISTERING], vec![entrant(ALL, MANY, || milliseconds(registering_one_by_one(MANY)))]);
    let down = [FEW, MANY].map(|servers| (servers, all_down(servers)));
    let refusals = down.iter().map(|(servers, pool)| entrant(ALL, *servers, || refusal(pool)));
    report.measure(&[REFUSAL], refusals.collect());
    drop(down);
    let kept = [entrant(DROPPED, 2_000, || kept(SHAPE, drop)), entrant(DROPPED_AWAY, 2_000, || kept(SHAPE, drop_away))];
    report.measure(&[KEPT], kept.into());
    refusing::measure(&mut report, MANY);
    add_bars(&mut report);
    report.print();
}

/// Measures one number, which for `fail` refers to that of `discard`.
fn entrant<'a>(name: &str, servers: u32, mut measure: impl FnMut() -> f64 + 'a) -> Entrant<'a> {
    Entrant {
        contestant: name.to_owned(),
        setting: vec![("servers", servers.into())],
        against: DISCARD,
        measure: Box::new(move || vec![measure()]),
    }
}

fn builder<C: Connector>(connector: C, servers: u32) -> Builder<C> {
    Pool::builder(connector).servers((0..servers).map(address))
}

fn address(server: u32) -> String {
    format!("server-{server}")
}

/// With one connection to each server, on the background thread. What fails stays down.
fn lasting(servers: u32) -> Builder<Numbers> {
    builder(Numbers, servers).max_conns_per_server(1).backoff(HOUR, HOUR).runtime(background())
}

/// Opens connections to so many servers of a pool, one to each, and checks all of them out.
async fn open(pool: &Pool<Numbers>, servers: u32) -> Vec<PooledConn<Numbers>> {
    let mut conns = Vec::with_capacity(servers as usize);
    for _ in 0..servers {
        conns.push(pool.acquire().await.expect("a connection"));
    }
    conns
}

fn fail(conn: PooledConn<Numbers>) {
    conn.fail(REASON);
}

fn down<C: Connector>(pool: &Pool<C>) -> usize {
    pool.status().servers.iter().filter(|server| matches!(server.state, ServerState::Down { .. })).count()
}

/// Where the background task runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Here,
    Away,
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Fail,
    Discard,
}

/// A pool with one idle connection to each server, of which some end in each round.
struct Changing {
    servers: u32,
    task: Task,
    end: End,
    /// Built anew when too few connections are left.
    pool: Pool<Numbers>,
    ended: u32,
    runtime: Runtime,
}

impl Changing {
    fn new(servers: u32, task: Task, end: End) -> Self {
        let runtime = current_thread();
        let pool = Self::pool(servers, task, &runtime);
        Self { servers, task, end, pool, ended: 0, runtime }
    }

    fn pool(servers: u32, task: Task, runtime: &Runtime) -> Pool<Numbers> {
        let tasks = if task == Task::Here { runtime.handle().clone() } else { background() };
        let pool = lasting(servers).maintenance(false).runtime(tasks).build().expect("a pool");
        runtime.block_on(open(&pool, servers)).into_iter().for_each(PooledConn::release);
        pool
    }

    /// The median time of the end of a connection, in nanoseconds.
    fn median_time(&mut self) -> f64 {
        let mut times = Vec::new();
        for _ in 0..CHANGES {
            if self.ended + SPARE == self.servers {
                self.pool = Self::pool(self.servers, self.task, &self.runtime);
                self.ended = 0;
            }
            times.push(self.runtime.block_on(self.end_one()).as_nanos() as f64);
            self.ended += 1;
        }
        let expected = if self.end == End::Fail { self.ended } else { 0 };
        assert_eq!(down(&self.pool), expected as usize, "each failure took its server down");
        median(&times)
    }

    async fn end_one(&self) -> Duration {
        let_task_sleep(self.task).await;
        let conn = self.pool.try_acquire().expect("an idle connection");
        let began = Instant::now();
        match self.end {
            End::Fail => fail(conn),
            End::Discard => conn.discard(),
        }
        began.elapsed()
    }
}

/// Lets the background task do what it was woken for, without letting this core go idle.
async fn let_task_sleep(task: Task) {
    let began = Instant::now();
    while task == Task::Away && began.elapsed() < Duration::from_micros(100) {}
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

fn failing_one_by_one(servers: u32) -> Duration {
    let pool = lasting(servers).build().expect("a pool");
    let conns = current_thread().block_on(open(&pool, servers));
    let began = Instant::now();
    conns.into_iter().for_each(fail);
    let elapsed = began.elapsed();
    assert_eq!(down(&pool), servers as usize, "all are down");
    elapsed
}

fn registering_one_by_one(servers: u32) -> Duration {
    let pool = lasting(0).build().expect("a pool");
    let names: Vec<_> = (0..servers).map(address).collect();
    let began = Instant::now();
    for name in names {
        pool.register(name).expect("a new name");
    }
    let elapsed = began.elapsed();
    assert_eq!(pool.status().servers.len(), servers as usize, "all are registered");
    elapsed
}

fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

fn all_down(servers: u32) -> Pool<Numbers> {
    let pool = lasting(servers).build().expect("a pool");
    current_thread().block_on(open(&pool, servers)).into_iter().for_each(fail);
    pool
}

/// The mean time of a `try_acquire` of a pool whose servers are all down, in nanoseconds.
fn refusal<C: Connector>(pool: &Pool<C>) -> f64 {
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        for _ in 0..BATCH {
            assert!(matches!(pool.try_acquire(), Err(TryAcquireError::Unavailable(_))), "all are down");
        }
        calls += BATCH;
    }
    began.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// How many pools are used one after the other, and the servers of each and the maximum of connections of each server.
#[derive(Clone, Copy)]
struct Shape {
    pools: u32,
    servers: u32,
    conns: u32,
}

/// More pools than there are places where a thread may keep something of one.
const SHAPE: Shape = Shape { pools: 9, servers: 2_000, conns: 1_000 };

/// By how much a thread's use of pools that are gone has made the process grow, in MiB, while the thread lives.
fn kept(shape: Shape, end: fn(Pool<Numbers>)) -> f64 {
    let use_all = move || {
        for _ in 0..shape.pools {
            let pool = builder(Numbers, shape.servers).max_conns_per_server(shape.conns).runtime(background());
            let pool = pool.build().expect("a pool");
            current_thread().block_on(pool.acquire()).expect("a connection").release();
            // On the hot path.
            for _ in 0..10 {
                if let Ok(conn) = pool.try_acquire() {
                    conn.release();
                }
            }
            end(pool);
        }
        let_tasks_go();
    };
    let ((), bytes) = thread::spawn(move || growth_in_quiet(use_all)).join().expect("a thread that ended well");
    bytes as f64 / f64::from(1 << 20)
}

fn drop_away(pool: Pool<Numbers>) {
    thread::spawn(move || drop(pool)).join().expect("a thread that ended well");
}

fn add_bars(report: &mut Report) {
    let row = |name, metric: Metric, servers: u32| {
        report.row(name, metric.name, &[("servers", servers.into())]).expect("it was measured")
    };
    let middle = |name, metric, servers| median(&row(name, metric, servers).values);
    let changes = SIZES.map(|servers| middle(FAIL, CHANGE, servers));
    let mut bars = vec![("a server goes down: the slowest size to the fastest".to_owned(), spread(&changes), 2.0)];
    for (servers, time) in SIZES.into_iter().zip(changes) {
        bars.push((format!("a server of {servers} goes down, ns"), time, 1_000.0));
    }
    bars.push((format!("{MANY} servers fail one by one, ms"), middle(ALL, FAILING, MANY), 50.0));
    for (name, _) in refusing::STARTS {
        bars.push((format!("{MANY} servers refuse, {name}, % of a core"), middle(name, refusing::CPU, MANY), 5.0));
    }
    bars.push((format!("{MANY} servers are registered one by one, ms"), middle(ALL, REGISTERING, MANY), 500.0));
    for servers in [FEW, MANY] {
        bars.push((format!("refusal, {servers} servers down, ns"), middle(ALL, REFUSAL, servers), 2_000.0));
    }
    let kept = max(&row(DROPPED, KEPT, SHAPE.servers).values);
    bars.push((format!("kept of {} dropped pools, the worst round, MiB", SHAPE.pools), kept, 8.0));
    for (figure, value, most) in bars {
        report.bar(figure, value, Bar::AtMost(most));
    }
}

/// The largest to the smallest.
fn spread(values: &[f64]) -> f64 {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    max(values) / smallest
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem;

    use connring::{PooledConn, TryAcquireError};

    use super::{Shape, all_down, current_thread, kept, lasting, open, spread};

    #[test]
    fn spread_is_largest_to_smallest() {
        assert_eq!(spread(&[300.0, 200.0, 500.0]), 2.5);
        assert_eq!(spread(&[7.0]), 1.0);
    }

    #[test]
    fn opens_one_connection_to_each_server() {
        let pool = lasting(20).build().expect("a pool");
        let conns = current_thread().block_on(open(&pool, 20));
        let servers: HashSet<_> =
            conns.iter().map(|conn| PooledConn::info(conn).server().address().to_owned()).collect();
        assert_eq!(servers.len(), 20);
    }

    #[test]
    fn refuses_while_all_are_down() {
        let Err(TryAcquireError::Unavailable(counts)) = all_down(20).try_acquire() else { panic!("all are down") };
        assert_eq!(counts.down, 20);
    }

    #[test]
    fn memory_of_pools_that_stay_is_seen() {
        let shape = Shape { pools: 2, servers: 16, conns: 1_000 };
        // Room for 32 000 idle connections, of 16 bytes each.
        let bytes = 2.0 * 16.0 * 1_000.0 * 16.0 / f64::from(1 << 20);
        let (stayed, gone) = (kept(shape, mem::forget), kept(shape, drop));
        assert!(stayed >= bytes && gone < bytes / 2.0, "{stayed} and {gone} MiB, of {bytes}");
    }
}
