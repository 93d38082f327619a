//! Runs short scripts on the threads of a real pool and records their history.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use connring::test_util::{ScriptedConn, ScriptedConnector, ScriptedError, set_shard};
use connring::{Clock, ConnInfo, Connector, Pool, PooledConn, Server};
use tokio::runtime::Runtime;

use crate::history::{Action, Conn, History, Operation, Order, Promises};
use crate::rng::Rng;

/// From so many connections to a server on, its idle connections may be spread over several shards, smaller than that:
/// a connection that finds its shard full goes into another one.
const MAX_FIFO: u64 = 3;
/// The order within a shard.
const IN_ONE_SHARD: Order = Order::FifoUpToOverlap;
/// A refusal takes a step for each connection, and a set of steps has 128 bits.
const MAX_OPENED: usize = 6;

/// The scripted connector, which now and then lets other threads run in the middle of a checkout.
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

/// What a thread does next. Without a connection in hand it checks one out instead.
#[derive(Debug, Clone, Copy)]
enum Task {
    Checkout,
    Release,
    Discard,
    Fail,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    task: Task,
    /// Ends the connection that was checked out last, instead of first.
    last: bool,
    spins: u64,
    yields: bool,
}

/// The pool and the scripts of a seed. The schedule of the threads is the machine's.
struct Script {
    servers: u64,
    max_conns: u64,
    fail_threshold: u32,
    /// Threads on different shards.
    is_apart: bool,
    /// Threads know the pool before the history begins: their first checkout takes the short way.
    is_warm: bool,
    /// The shards at which connections are released in the beginning, one for each.
    released_at: Vec<usize>,
    drained_at: usize,
    turns: Vec<Vec<Turn>>,
}

impl Script {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed, 0);
        let rng = &mut rng;
        let is_apart = rng.chance(50);
        let servers = rng.within(1..=2);
        let max_conns = if is_apart { rng.within(1..=4) } else { rng.within(1..=MAX_FIFO) };
        let opened = rng.within(1..=servers * max_conns).min(MAX_OPENED as u64);
        let mut shard = || if is_apart { rng.within(0..=2) as usize } else { 0 };
        let released_at = (0..opened).map(|_| shard()).collect();
        let drained_at = shard();
        let losses = rng.pick(&[0, 10, 30]);
        let threads = rng.within(2..=3);
        Self {
            servers,
            max_conns,
            fail_threshold: rng.pick(&[255, 255, 255, 1]),
            is_apart,
            is_warm: rng.chance(60),
            released_at,
            drained_at,
            turns: (0..threads).map(|_| (0..rng.within(3..=6)).map(|_| Turn::new(rng, losses)).collect()).collect(),
        }
    }

    fn promises(&self) -> Promises {
        let order = if self.is_apart { Order::Any } else { IN_ONE_SHARD };
        Promises { order, fail_takes_down: self.fail_threshold == 1 }
    }
}

impl Turn {
    fn new(rng: &mut Rng, losses: u64) -> Self {
        let ends = if rng.chance(losses) { rng.pick(&[Task::Discard, Task::Fail]) } else { Task::Release };
        Self {
            task: if rng.chance(40) { Task::Checkout } else { ends },
            last: rng.chance(50),
            spins: rng.pick(&[0, 0, 10, 100]),
            yields: rng.chance(15),
        }
    }
}

/// Opens connections and holds them all. No time passes: the clock is manual.
fn open(runtime: &Runtime, script: &Script) -> (Pool<Yielding>, Vec<Held>) {
    let clock = Clock::manual();
    let connector = Yielding { scripted: ScriptedConnector::new(clock.clone()), checks: Arc::default() };
    let names = (0..script.servers).map(|server| server.to_string());
    let builder = Pool::builder(connector).clock(clock).servers(names).max_conns_per_server(script.max_conns as u32);
    let builder = builder.fail_threshold(script.fail_threshold).maintenance(false);
    runtime.block_on(async {
        let pool = builder.build().expect("the settings are in range");
        let mut held = Vec::new();
        for _ in &script.released_at {
            held.push(pool.acquire().await.expect("the servers accept"));
        }
        (pool, held)
    })
}

/// The threads of one history, from their start on.
struct Recorder<'a> {
    pool: &'a Pool<Yielding>,
    /// The connector's numbers of the connections.
    ids: &'a [u64],
    stamps: AtomicU64,
    arrived: AtomicUsize,
}

impl Recorder<'_> {
    fn stamp(&self) -> u64 {
        // SeqCst: no operation moves over its stamps.
        self.stamps.fetch_add(1, Ordering::SeqCst)
    }

    /// Waits until all of `threads` have come so far, `times` times together. Spins, so that all go on at once.
    fn meet(&self, threads: usize, times: usize) {
        // SeqCst: before the wait comes before after the wait.
        self.arrived.fetch_add(1, Ordering::SeqCst);
        let mut spins = 0_u32;
        while self.arrived.load(Ordering::SeqCst) < threads * times {
            spins += 1;
            if spins.is_multiple_of(256) { thread::yield_now() } else { spin_loop() }
        }
    }

    fn number(&self, conn: &Held) -> Conn {
        self.ids.iter().position(|&id| id == conn.id()).expect("no connection is opened after the beginning")
    }

    /// Runs one operation between two stamps.
    fn record(&self, thread: usize, act: impl FnOnce() -> Action) -> Operation {
        let invoked = self.stamp();
        let action = act();
        Operation { thread, invoked, returned: self.stamp(), action }
    }

    fn checkout(&self, thread: usize, held: &mut Vec<Held>) -> Operation {
        let mut got = None;
        let operation = self.record(thread, || {
            got = self.pool.try_acquire().ok();
            got.as_ref().map_or(Action::Refused, |conn| Action::Checkout(self.number(conn)))
        });
        held.extend(got);
        operation
    }

    fn turn(&self, thread: usize, turn: Turn, held: &mut Vec<Held>) -> Operation {
        (0..turn.spins).for_each(|_| spin_loop());
        if turn.yields {
            thread::yield_now();
        }
        if held.is_empty() || matches!(turn.task, Task::Checkout) {
            return self.checkout(thread, held);
        }
        let conn = held.remove(if turn.last { held.len() - 1 } else { 0 });
        let number = self.number(&conn);
        self.record(thread, || match turn.task {
            Task::Discard => {
                conn.discard();
                Action::Discard(number)
            }
            Task::Fail => {
                conn.fail("the script says so");
                Action::Fail(number)
            }
            Task::Checkout | Task::Release => {
                conn.release();
                Action::Release(number)
            }
        })
    }
}

/// Runs the scripts of a seed. The last operations are those of the calling thread, which checks out all that is left:
/// a lost connection shows there.
pub(crate) fn record(runtime: &Runtime, seed: u64) -> History {
    let script = Script::new(seed);
    set_shard(0);
    let (pool, opened) = open(runtime, &script);
    let ids: Vec<_> = opened.iter().map(|conn| conn.id()).collect();
    let server_of = opened.iter().map(|conn| conn.address().parse().expect("named by its number")).collect();
    let recorder = Recorder { pool: &pool, ids: &ids, stamps: AtomicU64::new(0), arrived: AtomicUsize::new(0) };
    let (threads, all) = (script.turns.len(), script.turns.len() + 1);
    let mut operations = Vec::new();
    // Not released before the end: what is left in hand stays out of the pool.
    let mut in_hand = Vec::new();
    thread::scope(|scope| {
        let run = |(thread, turns): (usize, &Vec<Turn>)| {
            let (recorder, turns, script) = (&recorder, turns.clone(), &script);
            scope.spawn(move || {
                set_shard(if script.is_apart { thread } else { 0 });
                if script.is_warm {
                    assert!(recorder.pool.try_acquire().is_err(), "all connections are held");
                }
                recorder.meet(all, 1);
                // The idle connections come back here.
                recorder.meet(all, 2);
                let mut held = Vec::new();
                let operations: Vec<_> = turns.iter().map(|&turn| recorder.turn(thread, turn, &mut held)).collect();
                (operations, held)
            })
        };
        let running: Vec<_> = script.turns.iter().enumerate().map(run).collect();
        recorder.meet(all, 1);
        for (conn, &shard) in opened.into_iter().zip(&script.released_at) {
            set_shard(shard);
            conn.release();
        }
        recorder.meet(all, 2);
        for thread in running {
            let (recorded, held) = thread.join().expect("no thread panics");
            operations.extend(recorded);
            in_hand.extend(held);
        }
    });
    set_shard(script.drained_at);
    loop {
        let last = recorder.checkout(threads, &mut in_hand);
        operations.push(last);
        if last.action == Action::Refused {
            break;
        }
    }
    let (promises, servers, idle) = (script.promises(), script.servers as usize, (0..ids.len()).collect());
    History { promises, servers, server_of, idle, operations }
}
