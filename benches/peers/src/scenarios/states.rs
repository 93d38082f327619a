//! Cost of state changes, refusals and registrations with 10 to 10 000 servers, and memory retained by dropped pools.
//!
//! - `change of state`: one `fail` of a connection ejects its server; the pool is set to eject after one failure. The
//!   connection was checked out just before, as after a request. `fail` also closes the connection, so `discard` is
//!   measured for comparison; nothing is subtracted. The reason is a static text. The background task is asleep before
//!   each call, and `fail` wakes it. In `fail` and `discard` the task runs on the calling thread, so waking it takes no
//!   system call. In `fail, task on another thread` the time includes waking that thread.
//! - `failing one by one`: one connection to each server is checked out, and a loop calls `fail` on all of them but
//!   one: the last server is never ejected. No server is in the first- or second-level cache.
//! - `registering one by one`: a loop registers servers in an empty pool.
//! - `refusal`: `try_acquire` while all servers are down, after each refused a connect. The time includes dropping the
//!   error.
//! - `cpu`, `connects`, `start-up`: all servers refuse while one caller waits; see `states/refusing.rs`.
//! - `kept`: growth of the allocated bytes over several pools that one thread used and dropped, while that thread
//!   lives. The variant in which another thread drops the pools has no target.
//!
//! Connections are numbers. Maintenance is off in `change of state`, where a tick would wake the background task, and
//! on everywhere else. No `tracing` subscriber is set.
//!
//! Sources of error: each `change of state` includes a read of the clock, 20 to 50 ns. 10 servers fit into the
//! first-level cache, 10 000 do not; that explains most of the difference between their times, as `discard` shows,
//! which touches one server only. Page faults and other programs in the caches add noise. So does the background
//! thread, which runs at the same time and on a busy machine may preempt the measured one.

pub mod refusing;

use std::thread;
use std::time::{Duration, Instant};

use connring::{Builder, Connector, Ejection, Pool, PooledConn, ServerState, TryAcquireError};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use self::refusing::Refuses;
use crate::allocator::{growth_in_quiet, wait_for_freed_tasks};
use crate::contestants::{Numbers, background, current_thread};
use crate::report::{Entrant, Metric, Options, Report, Target, max, median};

const CHANGE: Metric = Metric { name: "change of state", unit: "ns" };
const FAILING: Metric = Metric { name: "failing one by one", unit: "ms" };
const REGISTERING: Metric = Metric { name: "registering one by one", unit: "ms" };
const REFUSAL: Metric = Metric { name: "refusal", unit: "ns" };
const KEPT: Metric = Metric { name: "kept", unit: "MiB" };

const FEW: u32 = 10;
const MANY: u32 = 10_000;
const SIZES: [u32; 3] = [FEW, 1_000, MANY];
/// Changes of state measured in each round.
const CHANGES: u32 = 40;
/// Servers of a pool that stay up throughout.
const SPARE: u32 = 2;
const REASON: &str = "out of service";
const HOUR: Duration = Duration::from_secs(3_600);
/// How long refusals are measured in each round, and how many run between two reads of the clock.
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
    report.measure(&[FAILING], vec![entrant(ALL, MANY, || milliseconds(failing_one_by_one(MANY).wall))]);
    report.measure(&[REGISTERING], vec![entrant(ALL, MANY, || milliseconds(registering_one_by_one(MANY)))]);
    let down = [FEW, MANY].map(|servers| (servers, all_down(servers)));
    let refusals = down.iter().map(|(servers, pool)| entrant(ALL, *servers, || refusal(pool)));
    report.measure(&[REFUSAL], refusals.collect());
    drop(down);
    let kept = [entrant(DROPPED, 2_000, || kept(SHAPE, drop)), entrant(DROPPED_AWAY, 2_000, || kept(SHAPE, drop_away))];
    report.measure(&[KEPT], kept.into());
    refusing::measure(&mut report, MANY);
    add_targets(&mut report);
    report.print();
}

/// Returns an entrant with one metric. The ratio refers to `discard` where that was measured.
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

/// Returns a builder of a pool with one connection to each server and its tasks on the background thread. One failure
/// takes a server down, unless it is the last one, and it stays down.
fn lasting<C: Connector>(connector: C, servers: u32) -> Builder<C> {
    let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0).base(HOUR).max(HOUR);
    let builder = builder(connector, servers).max_conns_per_server(1);
    builder.backoff(HOUR, HOUR).ejection(ejection).runtime(background())
}

/// Opens one connection to each of `servers` servers. Returns all of them, checked out.
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
    let is_down = |state| matches!(state, ServerState::Down { .. } | ServerState::Ejected { .. });
    pool.status().servers.iter().filter(|server| is_down(server.state)).count()
}

/// Where the background task runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Here,
    Away,
}

/// The call that ends the use of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Fail,
    Discard,
}

/// A pool with one idle connection to each server. Each round ends the use of some of them.
struct Changing {
    servers: u32,
    task: Task,
    end: End,
    /// Rebuilt when too few idle connections are left.
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
        let pool = lasting(Numbers, servers).maintenance(false).runtime(tasks).build().expect("a pool");
        runtime.block_on(open(&pool, servers)).into_iter().for_each(PooledConn::release);
        pool
    }

    /// Returns the median time of the ending call, in nanoseconds.
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

/// Gives the background task time to run and fall asleep again, without letting this core go idle.
async fn let_task_sleep(task: Task) {
    let began = Instant::now();
    while task == Task::Away && began.elapsed() < Duration::from_micros(100) {}
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

/// The wall time, and the processor time of the calling thread.
pub struct Took {
    pub wall: Duration,
    pub cpu: Duration,
}

/// Returns the time that `servers` servers take to fail one after the other, of one more that a pool has.
pub fn failing_one_by_one(servers: u32) -> Took {
    let pool = lasting(Numbers, servers + 1).build().expect("a pool");
    let mut conns = current_thread().block_on(open(&pool, servers + 1));
    let last = conns.pop();
    let (began, used) = (Instant::now(), thread_time());
    conns.into_iter().for_each(fail);
    let took = Took { wall: began.elapsed(), cpu: thread_time() - used };
    assert_eq!(down(&pool), servers as usize, "each failure took its server down");
    drop(last);
    took
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn registering_one_by_one(servers: u32) -> Duration {
    let pool = lasting(Numbers, 0).build().expect("a pool");
    let names: Vec<_> = (0..servers).map(address).collect();
    let began = Instant::now();
    for name in names {
        pool.register(name).expect("a new name");
    }
    let elapsed = began.elapsed();
    assert_eq!(pool.status().servers.len(), servers as usize, "all servers are registered");
    elapsed
}

pub fn milliseconds(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

fn all_down(servers: u32) -> Pool<Refuses> {
    let pool = lasting(Refuses::new(servers), servers).build().expect("a pool");
    let runtime = current_thread();
    while down(&pool) < servers as usize {
        assert!(runtime.block_on(pool.acquire_now()).is_err(), "all servers refuse");
    }
    pool
}

/// Returns the mean time of `try_acquire` on a pool whose servers are all down, in nanoseconds.
fn refusal<C: Connector>(pool: &Pool<C>) -> f64 {
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < SPAN {
        for _ in 0..BATCH {
            assert!(matches!(pool.try_acquire(), Err(TryAcquireError::Unavailable(_))), "all servers are down");
        }
        calls += BATCH;
    }
    began.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// The number of pools used one after the other, the servers of each pool, and the maximum of connections to a server.
#[derive(Clone, Copy)]
struct Shape {
    pools: u32,
    servers: u32,
    conns: u32,
}

/// More pools than a thread caches state of.
const SHAPE: Shape = Shape { pools: 9, servers: 2_000, conns: 1_000 };

/// Returns the memory that a live thread retains of pools that it used and that were dropped, in MiB.
fn kept(shape: Shape, end: fn(Pool<Numbers>)) -> f64 {
    let use_all = move || {
        for _ in 0..shape.pools {
            let pool = builder(Numbers, shape.servers).max_conns_per_server(shape.conns).runtime(background());
            let pool = pool.build().expect("a pool");
            current_thread().block_on(pool.acquire()).expect("a connection").release();
            // Uses the hot path, on which the thread caches the server list.
            for _ in 0..10 {
                if let Ok(conn) = pool.try_acquire() {
                    conn.release();
                }
            }
            end(pool);
        }
        wait_for_freed_tasks();
    };
    let ((), bytes) = thread::spawn(move || growth_in_quiet(use_all)).join().expect("the thread does not panic");
    bytes as f64 / f64::from(1 << 20)
}

fn drop_away(pool: Pool<Numbers>) {
    thread::spawn(move || drop(pool)).join().expect("the thread does not panic");
}

fn add_targets(report: &mut Report) {
    let row = |name, metric: Metric, servers: u32| {
        report.row(name, metric.name, &[("servers", servers.into())]).expect("the row was measured")
    };
    let middle = |name, metric, servers| median(&row(name, metric, servers).values);
    let changes = SIZES.map(|servers| middle(FAIL, CHANGE, servers));
    let mut targets =
        vec![("a server goes down: the slowest size relative to the fastest".to_owned(), spread(&changes), 2.0)];
    for (servers, time) in SIZES.into_iter().zip(changes) {
        targets.push((format!("a server of {servers} goes down, ns"), time, 1_000.0));
    }
    targets.push((format!("{MANY} servers fail one by one, ms"), middle(ALL, FAILING, MANY), 50.0));
    for (name, _) in refusing::STARTS {
        targets.push((format!("{MANY} servers refuse, {name}, % of a core"), middle(name, refusing::CPU, MANY), 5.0));
    }
    targets.push((format!("{MANY} servers are registered one by one, ms"), middle(ALL, REGISTERING, MANY), 500.0));
    for servers in [FEW, MANY] {
        targets.push((format!("refusal, {servers} servers down, ns"), middle(ALL, REFUSAL, servers), 2_000.0));
    }
    let kept = max(&row(DROPPED, KEPT, SHAPE.servers).values);
    targets.push((format!("kept of {} dropped pools, the worst round, MiB", SHAPE.pools), kept, 8.0));
    for (figure, value, most) in targets {
        report.target(figure, value, Target::AtMost(most));
    }
}

/// Returns the ratio of the largest value to the smallest.
fn spread(values: &[f64]) -> f64 {
    let smallest = values.iter().copied().fold(f64::INFINITY, f64::min);
    max(values) / smallest
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem;

    use connring::{PooledConn, TryAcquireError};

    use super::{Numbers, Shape, all_down, current_thread, kept, lasting, open, spread};

    #[test]
    fn spread_is_largest_to_smallest() {
        assert_eq!(spread(&[300.0, 200.0, 500.0]), 2.5);
        assert_eq!(spread(&[7.0]), 1.0);
    }

    #[test]
    fn opens_one_connection_to_each_server() {
        let pool = lasting(Numbers, 20).build().expect("a pool");
        let conns = current_thread().block_on(open(&pool, 20));
        let servers: HashSet<_> =
            conns.iter().map(|conn| PooledConn::info(conn).server().address().to_owned()).collect();
        assert_eq!(servers.len(), 20);
    }

    #[test]
    fn refuses_while_all_are_down() {
        let Err(TryAcquireError::Unavailable(counts)) = all_down(20).try_acquire() else {
            panic!("all servers are down")
        };
        assert_eq!(counts.down, 20);
    }

    #[test]
    fn kept_measures_memory_of_leaked_pools() {
        let shape = Shape { pools: 2, servers: 16, conns: 1_000 };
        // Room for 32 000 idle connections, of 16 bytes each.
        let bytes = 2.0 * 16.0 * 1_000.0 * 16.0 / f64::from(1 << 20);
        let (stayed, gone) = (kept(shape, mem::forget), kept(shape, drop));
        assert!(stayed >= bytes && gone < bytes / 2.0, "{stayed} and {gone} MiB, of {bytes}");
    }
}
