//! Cost of the hot path: one task acquires and releases an idle connection, with 4 servers and without contention.
//!
//! The variants are no rate limit, a limit that is never reached, and a limit with real `TcpStream`s, whose liveness
//! check is part of the time.
//!
//! Sources of error: the processor's clock frequency and caches. Nothing else uses the caches, unlike in a service, so
//! these times are a lower bound. In `acquire`, the task yields once in 128 acquires, and tokio then polls its sockets.
//! `instructions.sh` has a measure that does not depend on the state of the machine.

mod common;

use std::hint::black_box;

use common::{builder, open, runtime};
use connring::{Connector, Pool, TcpConnector};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const SERVERS: usize = 4;
/// Never reached: the largest rate that the builder accepts.
const MAX_RPS: f64 = 1e9;

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn hot_path(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("hot_path");
    bench_both(&mut group, &runtime, "no_limit", &open(&runtime, builder(SERVERS, 1)));
    bench_both(&mut group, &runtime, "limit", &open(&runtime, builder(SERVERS, 1).max_rps(MAX_RPS)));
    let listeners: Vec<_> =
        (0..SERVERS).map(|_| runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("the socket is bound"));
    let tcp = Pool::builder(TcpConnector::new()).max_conns_per_server(1).servers(addresses);
    bench_both(&mut group, &runtime, "limit_tcp", &open(&runtime, tcp.max_rps(MAX_RPS)));
}

/// Measures `try_acquire` and `acquire`.
fn bench_both<C: Connector>(group: &mut Group<'_>, runtime: &Runtime, name: &str, pool: &Pool<C>) {
    group.bench_function(format!("try_acquire/{name}"), |b| {
        b.iter(|| black_box(pool.try_acquire().expect("a connection is idle")).release());
    });
    group.bench_function(format!("acquire/{name}"), |b| {
        b.to_async(runtime).iter(async || black_box(pool.acquire().await.expect("a connection is idle")).release());
    });
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
