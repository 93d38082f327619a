//! Runs short scripts on real threads that share a pool, and records the history.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use connring::test_util::{Connect, ScriptedConn, ScriptedConnector, ScriptedError, set_shard};
use connring::{Clock, ConnInfo, Connector, Ejection, Pool, PooledConn, Server, ServerState};
use tokio::runtime::Runtime;

use crate::history::{Action, Conn, Guarantees, History, Operation, Order};
use crate::rng::Rng;

/// The most connections to a server whose idle connections all fit into one shard. Beyond that a server has several
/// shards, and a connection whose shard is full goes into another one, so FIFO order is lost.
const MAX_FIFO: u64 = 3;
/// The order that the pool guarantees within a shard.
const IN_ONE_SHARD: Order = Order::FifoUpToOverlap;
/// The most connections of a history. A refusal takes one step for each, and the checker has room for 128 steps.
const MAX_OPENED: usize = 6;

/// A scripted connector that yields the thread in the middle of every third checkout.
#[derive(Clone)]
struct Yielding {
    scripted: ScriptedConnector,
    checks: Arc<AtomicU64>,
}

impl Connector for Yielding {
    type Conn = ScriptedConn;
    type Error = ScriptedError;

    async fn connect(&self, server: &Server) -> Result<ScriptedConn, ScriptedError> {
        self.scripted.connect(server).await
    }

    fn is_reusable(&self, conn: &mut ScriptedConn, info: &ConnInfo) -> bool {
        // Relaxed: a plain counter.
        if self.checks.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) {
            thread::yield_now();
        }
        self.scripted.is_reusable(conn, info)
    }
}

type Held = PooledConn<Yielding>;

/// A call of a thread. A thread that holds no connection checks one out instead.
#[derive(Debug, Clone, Copy)]
enum Call {
    Checkout,
    Release,
    Discard,
    Fail,
}

#[derive(Debug, Clone, Copy)]
struct ScriptStep {
    call: Call,
    /// Ends the use of the newest connection that the thread holds, instead of the oldest.
    ends_newest: bool,
    spins: u64,
    yields: bool,
}

/// What happens to the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// Nothing: failures are counted, but are too few.
    Up,
    /// One failure ejects a server, unless no other would be left.
    Ejects,
    /// All servers went down before the history began.
    AllDown,
}

/// The pool and the scripts of a seed. The operating system schedules the threads.
struct Script {
    servers: u64,
    max_conns: u64,
    health: Health,
    /// The threads use different shards.
    is_apart: bool,
    /// The threads have used the pool before the history begins, so their first checkout takes the hot path.
    is_warm: bool,
    /// The shard into which each connection is released before the history begins.
    released_at: Vec<usize>,
    /// The shard of the thread that checks out all connections at the end.
    drained_at: usize,
    steps: Vec<Vec<ScriptStep>>,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let rng = &mut rng;
        let is_apart = rng.chance(50);
        let servers = rng.within(1..=2);
        let health = rng.pick(&[Health::Up, Health::Up, Health::Ejects, Health::AllDown]);
        // Each server has room for the attempt that takes it down.
        let spare = u64::from(health == Health::AllDown);
        let max_conns = rng.within(1 + spare..=if is_apart { 4 } else { MAX_FIFO });
        let opened = rng.within(1..=servers * (max_conns - spare)).min(MAX_OPENED as u64);
        let mut shard = || if is_apart { rng.within(0..=2) as usize } else { 0 };
        let released_at = (0..opened).map(|_| shard()).collect();
        let drained_at = shard();
        let losses = rng.pick(&[0, 10, 30]);
        let threads = rng.within(2..=3);
        Self {
            servers,
            max_conns,
            health,
            is_apart,
            is_warm: rng.chance(60),
            released_at,
            drained_at,
            steps: (0..threads)
                .map(|_| (0..rng.within(3..=6)).map(|_| ScriptStep::new(rng, losses)).collect())
                .collect(),
        }
    }

    fn guarantees(&self) -> Guarantees {
        let order = if self.is_apart { Order::Any } else { IN_ONE_SHARD };
        Guarantees { order, fail_ejects: self.health == Health::Ejects }
    }
}

impl ScriptStep {
    fn new(rng: &mut Rng, losses: u64) -> Self {
        let ends = if rng.chance(losses) { rng.pick(&[Call::Discard, Call::Fail]) } else { Call::Release };
        Self {
            call: if rng.chance(40) { Call::Checkout } else { ends },
            ends_newest: rng.chance(50),
            spins: rng.pick(&[0, 0, 10, 100]),
            yields: rng.chance(15),
        }
    }
}

/// Builds the pool, opens its connections, all of them checked out, and takes the servers down if the script says so.
/// The clock is manual and never advances, so a server that is down or ejected stays it.
fn open(runtime: &Runtime, script: &Script) -> (Pool<Yielding>, Vec<Held>) {
    let clock = Clock::manual();
    let scripted = ScriptedConnector::new(clock.clone());
    let connector = Yielding { scripted: scripted.clone(), checks: Arc::default() };
    let names = (0..script.servers).map(|server| server.to_string());
    let builder = Pool::builder(connector).clock(clock).servers(names).max_conns_per_server(script.max_conns as u32);
    let failures = if script.health == Health::Ejects { 1 } else { 1_000 };
    let ejection = Ejection::new().consecutive_failures(failures).max_ejected_ratio(1.0);
    let builder = builder.ejection(ejection).maintenance(false);
    runtime.block_on(async {
        let pool = builder.build().expect("the settings are in range");
        let mut held = Vec::new();
        for _ in &script.released_at {
            held.push(pool.acquire().await.expect("the servers accept"));
        }
        if script.health == Health::AllDown {
            scripted.set_default(Connect::Refuse);
            // None of its connections has answered yet, so one refusal takes a server down.
            assert!(pool.acquire_now().await.is_err(), "all servers refuse");
            let is_down = |state| matches!(state, ServerState::Down { .. });
            assert!(pool.status().servers.iter().all(|server| is_down(server.state)), "{:?}", pool.status());
        }
        (pool, held)
    })
}

/// The state that the threads of one history share.
struct Recorder<'a> {
    pool: &'a Pool<Yielding>,
    /// The identity of each connection, as the connector numbered it.
    ids: &'a [u64],
    stamps: AtomicU64,
    arrived: AtomicUsize,
}

impl Recorder<'_> {
    fn stamp(&self) -> u64 {
        // SeqCst: no operation is reordered with its stamps.
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits for `threads` threads at a barrier, for the `times`-th time. Spins, so that all threads leave it together.
    fn meet(&self, threads: usize, times: usize) {
        // SeqCst: everything before the barrier happens before everything after it.
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::SeqCst) < threads * times {
            spins += 1;
            if spins.is_multiple_of(256) { thread::yield_now() } else { spin_loop() }
        }
    }

    fn index(&self, conn: &Held) -> Conn {
        self.ids.iter().position(|&id| id == conn.id()).expect("all connections were opened before the history began")
    }

    /// Runs one operation and takes a stamp before and after it.
    fn record(&self, thread: usize, act: impl FnOnce() -> Action) -> Operation {
        let invoked = self.stamp();
        let action = act();
        Operation { thread, invoked, returned: self.stamp(), action }
    }

    fn checkout(&self, thread: usize, held: &mut Vec<Held>) -> Operation {
        let mut got = None;
        let operation = self.record(thread, || {
            got = self.pool.try_acquire().ok();
            got.as_ref().map_or(Action::Refused, |conn| Action::Checkout(self.index(conn)))
        });
        held.extend(got);
        operation
    }

    fn run_step(&self, thread: usize, step: ScriptStep, held: &mut Vec<Held>) -> Operation {
        (0..step.spins).for_each(|_| spin_loop());
        if step.yields {
            thread::yield_now();
        }
        if held.is_empty() || matches!(step.call, Call::Checkout) {
            return self.checkout(thread, held);
        }
        let conn = held.remove(if step.ends_newest { held.len() - 1 } else { 0 });
        let index = self.index(&conn);
        self.record(thread, || match step.call {
            Call::Discard => {
                conn.discard();
                Action::Discard(index)
            }
            Call::Fail => {
                conn.fail("scripted failure");
                Action::Fail(index)
            }
            Call::Checkout | Call::Release => {
                conn.release();
                Action::Release(index)
            }
        })
    }
}

/// Runs the scripts of a seed and returns the history. At the end the calling thread checks out all idle connections,
/// which reveals a lost one.
pub(crate) fn record(runtime: &Runtime, seed: u64) -> History {
    let script = Script::new(seed);
    set_shard(0);
    let (pool, opened) = open(runtime, &script);
    let ids: Vec<_> = opened.iter().map(|conn| conn.id()).collect();
    let server_of = opened.iter().map(|conn| conn.address().parse().expect("named by its number")).collect();
    let recorder = Recorder { pool: &pool, ids: &ids, stamps: AtomicU64::new(0), arrived: AtomicUsize::new(0) };
    let (threads, all) = (script.steps.len(), script.steps.len() + 1);
    let mut operations = Vec::new();
    // Connections that a script leaves checked out stay out of the pool until the history ends.
    let mut unreleased = Vec::new();
    thread::scope(|scope| {
        let run = |(thread, steps): (usize, &Vec<ScriptStep>)| {
            let (recorder, steps, script) = (&recorder, steps.clone(), &script);
            scope.spawn(move || {
                set_shard(if script.is_apart { thread } else { 0 });
                if script.is_warm {
                    assert!(recorder.pool.try_acquire().is_err(), "all connections are checked out");
                }
                recorder.meet(all, 1);
                // Between these two barriers the calling thread releases all connections.
                recorder.meet(all, 2);
                let mut held = Vec::new();
                let operations: Vec<_> = steps.iter().map(|&step| recorder.run_step(thread, step, &mut held)).collect();
                (operations, held)
            })
        };
        let running: Vec<_> = script.steps.iter().enumerate().map(run).collect();
        recorder.meet(all, 1);
        for (conn, &shard) in opened.into_iter().zip(&script.released_at) {
            set_shard(shard);
            conn.release();
        }
        recorder.meet(all, 2);
        for thread in running {
            let (recorded, held) = thread.join().expect("no thread panics");
            operations.extend(recorded);
            unreleased.extend(held);
        }
    });
    set_shard(script.drained_at);
    loop {
        let last = recorder.checkout(threads, &mut unreleased);
        operations.push(last);
        if last.action == Action::Refused {
            break;
        }
    }
    let (guarantees, servers, idle) = (script.guarantees(), script.servers as usize, (0..ids.len()).collect());
    let all_down = script.health == Health::AllDown;
    History { guarantees, servers, all_down, server_of, idle, operations }
}
