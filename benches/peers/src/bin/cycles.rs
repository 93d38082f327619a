//! `cycles CONTESTANT NUMBER`: a number of hot acquire and release cycles and nothing else, to be counted under
//! callgrind. What it does not see: contention, and what a lock prefix costs.
//!
//! A program of its own, since what a compiler inlines depends on what else there is: in one with all scenarios the
//! floor's count went up and down by 5 % when a scenario was added.

#[path = "../floor.rs"]
mod floor;

use std::hint::black_box;
use std::io;

use clap::{Parser, ValueEnum};
use connring::{Pool, connect_fn};
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
}

/// The limit is there and is never met.
const MAX_RPS: f64 = 1e9;
const INTERVAL_NS: u64 = 1;
const SERVERS: usize = 4;

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
        Contestant::ConnringSync => {
            let pool = runtime.block_on(pool());
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

/// What is counted: the cycles with their part of the runtime's work, and nothing of the set-up, in which quanta takes
/// some million instructions, each time others, to calibrate. `benches/instructions.sh` knows it by its name.
#[inline(never)]
fn counted(runtime: &Runtime, cycles: impl Future<Output = ()>) {
    runtime.block_on(cycles);
}

/// Four servers, each with an idle connection.
async fn pool() -> Pool<impl connring::Connector<Conn = u64>> {
    let connector = connect_fn(|_| async { Ok::<u64, io::Error>(1) });
    let addresses = (0..SERVERS).map(|server| format!("server-{server}"));
    let pool = Pool::builder(connector).max_rps(MAX_RPS).servers(addresses).build().expect("a pool");
    while pool.status().servers.iter().any(|server| server.idle == 0) {
        pool.acquire().await.expect("a connection").release();
        tokio::task::yield_now().await;
    }
    pool
}
