//! Cost of an acquire and a release over 1 to 10 000 servers: with all of them up, and with all but one down.
//!
//! Sources of error: with many servers, the caches. Each acquire uses the server whose last use is longest ago and
//! whose state may have left the caches; how soon it does depends on other load. With all but one down, each acquire
//! reads the clock, to check whether a retry is due; none ever is.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{builder, open_all, runtime};
use connring::{Builder, Connector, Ejection, Pool, PooledConn};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SERVERS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// The most servers that this benchmark takes down.
const MOST_DOWN: usize = 1_000;
const HOUR: Duration = Duration::from_secs(3600);

fn servers(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("servers");
    for servers in SERVERS {
        let pool = runtime.block_on(all_up(builder(servers, 1), servers));
        group.bench_function(BenchmarkId::new("all_up", servers), |b| {
            b.iter(|| black_box(pool.try_acquire().expect("a connection is idle")).release());
        });
        if servers == 1 || servers > MOST_DOWN {
            continue;
        }
        let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0).max(HOUR).base(HOUR);
        let (pool, mut conns) = open_all(&runtime, builder(servers, 1).ejection(ejection));
        conns.drain(1..).for_each(|conn| conn.fail("ejected"));
        conns.into_iter().for_each(PooledConn::release);
        group.bench_function(BenchmarkId::new("all_but_one_down", servers), |b| {
            b.iter(|| black_box(pool.try_acquire().expect("one server is up")).release());
        });
    }
}

/// Returns a pool with one idle connection to each server.
///
/// The connections are not all held at once: with ten thousand servers, each further acquire would first search all
/// servers without an idle connection.
async fn all_up<C: Connector>(builder: Builder<C>, servers: usize) -> Pool<C> {
    let pool = builder.build().expect("the settings are in range");
    while pool.status().servers.iter().any(|server| server.idle == 0) {
        for _ in 0..servers {
            pool.acquire().await.expect("the servers accept").release();
            tokio::task::yield_now().await;
        }
    }
    pool
}

criterion_group!(benches, servers);
criterion_main!(benches);
