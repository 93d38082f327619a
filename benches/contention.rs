//! Cost of contention: threads that share one pool acquire and release in loops, with 1 and 4 servers, without a rate
//! limit and with one that is never reached. Each server has two connections for each thread, so an idle connection is
//! always available.
//!
//! One iteration is one cycle of each thread. So a pool that scales perfectly takes the same time for any number of
//! threads, as long as each has its own core. The throughput is that of all threads together.
//!
//! Sources of error: threads in excess of the cores, and other load on the machine. Both delay the slowest thread,
//! whose time is the result.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

mod common;

use std::hint::black_box;
use std::sync::Barrier;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use common::{builder, open, runtime};
use connring::{Connector, Pool};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn contention(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("contention");
    let most = 2 * available_parallelism().map_or(1, usize::from);
    let threads = std::iter::successors(Some(1), |threads| Some(2 * threads)).take_while(|threads| *threads <= most);
    for threads in threads {
        group.throughput(Throughput::Elements(threads as u64));
        for (servers, max_rps) in [(1, None), (1, Some(1e9)), (4, None), (4, Some(1e9))] {
            let builder = builder(servers, 2 * threads as u32);
            let pool = open(&runtime, max_rps.into_iter().fold(builder, |builder, rps| builder.max_rps(rps)));
            let limit = if max_rps.is_some() { "limit" } else { "no_limit" };
            let id = BenchmarkId::new(format!("{servers}_servers/{limit}"), threads);
            group.bench_function(id, |b| b.iter_custom(|cycles| slowest(&pool, threads, cycles)));
        }
    }
}

/// Runs the cycles on all threads. Returns the time of the slowest thread.
fn slowest<C: Connector>(pool: &Pool<C>, threads: usize, cycles: u64) -> Duration {
    let start = Barrier::new(threads);
    let run = || {
        start.wait();
        let began = Instant::now();
        for _ in 0..cycles {
            black_box(pool.try_acquire().expect("a connection is idle")).release();
        }
        began.elapsed()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("the thread does not panic"))
            .max()
            .expect("at least one thread")
    })
}

criterion_group!(benches, contention);
criterion_main!(benches);
