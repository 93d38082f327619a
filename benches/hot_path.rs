//! What one task pays for a connection that is idle: acquire and release, 4 servers, nobody else.
//!
//! With and without a rate limit, which is there and never met; and once with a real `TcpStream`, whose liveness check
//! is in the time.
//!
//! What pollutes it: the processor's clock and caches, which nothing else uses here as a service would, so that these
//! are the lowest times that there are; and in `acquire`, that a task gives up its turn once in 128 acquires, which
//! makes tokio look at its sockets. For what does not depend on the day, see `instructions.sh`.

mod common;

use std::hint::black_box;

use common::{builder, open, runtime};
use connring::{Connector, Pool, TcpConnector};
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

const SERVERS: usize = 4;
/// Never met: the largest that there is.
const MAX_RPS: f64 = 1e9;

type Group<'a> = BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn hot_path(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("hot_path");
    both(&mut group, &runtime, "no_limit", &open(&runtime, builder(SERVERS, 1)));
    both(&mut group, &runtime, "limit", &open(&runtime, builder(SERVERS, 1).max_rps(MAX_RPS)));
    let listeners: Vec<_> =
        (0..SERVERS).map(|_| runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port")).collect();
    let addresses = listeners.iter().map(|listener| listener.local_addr().expect("it is bound"));
    let tcp = Pool::builder(TcpConnector::new()).max_conns_per_server(1).servers(addresses);
    both(&mut group, &runtime, "limit_tcp", &open(&runtime, tcp.max_rps(MAX_RPS)));
}

fn both<C: Connector>(group: &mut Group<'_>, runtime: &Runtime, name: &str, pool: &Pool<C>) {
    group.bench_function(format!("try_acquire/{name}"), |b| {
        b.iter(|| black_box(pool.try_acquire().expect("it is idle")).release());
    });
    group.bench_function(format!("acquire/{name}"), |b| {
        b.to_async(runtime).iter(async || black_box(pool.acquire().await.expect("it is idle")).release());
    });
}

criterion_group!(benches, hot_path);
criterion_main!(benches);
