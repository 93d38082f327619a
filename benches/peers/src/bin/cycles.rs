//! `cycles CONTESTANT NUMBER` runs `NUMBER` cycles of acquire and release, for `benches/instructions.sh` to count under
//! callgrind. They are hot, but for those of `connring-wait`, in each of which the caller waits for its connection. An
//! instruction count shows neither contention nor the cost of a `lock` prefix.
//!
//! This is a separate program because inlining depends on the rest of the binary: in the program with all scenarios the
//! floor's count changed by 5 % whenever a scenario was added.

#[path = "../floor.rs"]
mod floor;

use std::hint::black_box;
use std::io;

use clap::{Parser, ValueEnum};
use connring::{LoadBalancing, Pool, Server, connect_fn};
use tokio::runtime::Runtime;
use tokio::task::{JoinSet, yield_now};

use crate::floor::Floor;

#[derive(Parser)]
struct Arguments {
    contestant: Contestant,
    cycles: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Contestant {
    FloorSync,
    FloorAsync,
    ConnringSync,
    ConnringAsync,
    /// With `LoadBalancing::Weighted`.
    WeightedSync,
    /// Many tasks share few connections.
    ConnringWait,
}

/// A rate limit that is set but never reached.
const MAX_RPS: f64 = 1e9;
const INTERVAL_NS: u64 = 1;
const SERVERS: usize = 4;
/// Of `connring-wait`: tasks, and connections to each server.
const TASKS: u64 = 64;
const CONNS: u32 = 4;
/// They count for one contestant.
const WEIGHTS: [u32; SERVERS] = [5, 3, 2, 2];

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let cycles = arguments.cycles;
    match arguments.contestant {
        Contestant::FloorSync => {
            let floor = Floor::new(SERVERS, 1, Some(INTERVAL_NS));
            counted(&runtime, async {
                for _ in 0..cycles {
                    let conn = floor.acquire().expect("a connection");
                    black_box(conn.value);
                    conn.release();
                }
            });
        }
        Contestant::FloorAsync => {
            let floor = Floor::new(SERVERS, 1, Some(INTERVAL_NS));
            counted(&runtime, async {
                for _ in 0..cycles {
                    let conn = floor.acquire_async().await.expect("a connection");
                    black_box(conn.value);
                    conn.release();
                }
            });
        }
        Contestant::ConnringSync | Contestant::WeightedSync => {
            let pool = runtime.block_on(pool(1));
            if let Contestant::WeightedSync = arguments.contestant {
                pool.set_load_balancing(LoadBalancing::Weighted);
            }
            counted(&runtime, async {
                for _ in 0..cycles {
                    let conn = pool.try_acquire().expect("a connection");
                    black_box(*conn);
                    conn.release();
                }
            });
        }
        Contestant::ConnringAsync => {
            let pool = runtime.block_on(pool(1));
            counted(&runtime, async {
                for _ in 0..cycles {
                    let conn = pool.acquire().await.expect("a connection");
                    black_box(*conn);
                    conn.release();
                }
            });
        }
        Contestant::ConnringWait => {
            let pool = runtime.block_on(pool(CONNS));
            counted(&runtime, async {
                let mut tasks = JoinSet::new();
                for _ in 0..TASKS {
                    let pool = pool.clone();
                    tasks.spawn(async move {
                        for _ in 0..cycles / TASKS {
                            let conn = pool.acquire().await.expect("a connection");
                            // In use, while other tasks run.
                            yield_now().await;
                            conn.release();
                        }
                    });
                }
                tasks.join_all().await;
            });
        }
    }
}

/// Runs the cycles that are counted, with their share of the runtime's work. `benches/instructions.sh` finds this
/// function by its name, to exclude the set-up: quanta's calibration takes millions of instructions, and a different
/// number each time.
#[inline(never)]
fn counted(runtime: &Runtime, cycles: impl Future<Output = ()>) {
    runtime.block_on(cycles);
}

/// Builds a pool of four servers with one idle connection each, which may have so many.
async fn pool(max_conns: u32) -> Pool<impl connring::Connector<Conn = u64>> {
    let connector = connect_fn(|_| async { Ok::<u64, io::Error>(1) });
    let servers = (0..).zip(WEIGHTS).map(|(at, weight)| Server::new(format!("server-{at}")).weight(weight));
    let pool = Pool::builder(connector)
        .max_rps(MAX_RPS)
        .max_conns_per_server(max_conns)
        .servers(servers)
        .build()
        .expect("a pool");
    while pool.status().servers.iter().any(|server| server.idle == 0) {
        pool.acquire().await.expect("a connection").release();
        yield_now().await;
    }
    pool
}
