//! `cycles CONTESTANT NUMBER` runs `NUMBER` hot acquire and release cycles, for `benches/instructions.sh` to count
//! under callgrind. An instruction count shows neither contention nor the cost of a `lock` prefix.
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
}

/// A rate limit that is set but never reached.
const MAX_RPS: f64 = 1e9;
const INTERVAL_NS: u64 = 1;
const SERVERS: usize = 4;
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
            let pool = runtime.block_on(pool());
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
            let pool = runtime.block_on(pool());
            counted(&runtime, async {
                for _ in 0..cycles {
                    let conn = pool.acquire().await.expect("a connection");
                    black_box(*conn);
                    conn.release();
                }
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

/// Builds a pool of four servers with one idle connection each.
async fn pool() -> Pool<impl connring::Connector<Conn = u64>> {
    let connector = connect_fn(|_| async { Ok::<u64, io::Error>(1) });
    let servers = (0..).zip(WEIGHTS).map(|(at, weight)| Server::new(format!("server-{at}")).weight(weight));
    let pool = Pool::builder(connector).max_rps(MAX_RPS).servers(servers).build().expect("a pool");
    while pool.status().servers.iter().any(|server| server.idle == 0) {
        pool.acquire().await.expect("a connection").release();
        tokio::task::yield_now().await;
    }
    pool
}
