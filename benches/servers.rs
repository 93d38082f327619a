//! What an acquire and a release cost with more and more servers: all up, and all but one down.
//!
//! What pollutes it: with many servers, the caches. Each acquire goes to the server that was used longest ago, whose
//! words have left the cache by then; how soon depends on what else the machine does. With all but one down each
//! acquire reads the clock, to see whether a retry is due; none ever is.

mod common;

use std::hint::black_box;
use std::time::Duration;

use common::{builder, open_all, runtime};
use connring::{Builder, Connector, Pool, PooledConn};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SERVERS: [usize; 5] = [1, 10, 100, 1_000, 10_000];
/// Each server that goes down makes a new list of all: one after the other, ten thousand take half a minute.
const MOST_DOWN: usize = 1_000;
const HOUR: Duration = Duration::from_secs(3600);

fn ring(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("ring");
    for servers in SERVERS {
        let pool = runtime.block_on(all_up(builder(servers, 1), servers));
        group.bench_function(BenchmarkId::new("all_up", servers), |b| {
            b.iter(|| black_box(pool.try_acquire().expect("it is idle")).release());
        });
        if servers == 1 || servers > MOST_DOWN {
            continue;
        }
        let (pool, mut conns) = open_all(&runtime, builder(servers, 1).backoff(HOUR, HOUR));
        conns.drain(1..).for_each(|conn| conn.fail("down"));
        conns.into_iter().for_each(PooledConn::release);
        group.bench_function(BenchmarkId::new("all_but_one_down", servers), |b| {
            b.iter(|| black_box(pool.try_acquire().expect("one is up")).release());
        });
    }
}

/// A pool with an idle connection at each server. Not opened by holding all at once: with ten thousand servers, each
/// acquire would look at all those that are empty already.
async fn all_up<C: Connector>(builder: Builder<C>, servers: usize) -> Pool<C> {
    let pool = builder.build().expect("in range");
    while pool.status().servers.iter().any(|server| server.idle == 0) {
        for _ in 0..servers {
            pool.acquire().await.expect("it accepts").release();
            tokio::task::yield_now().await;
        }
    }
    pool
}

criterion_group!(benches, ring);
criterion_main!(benches);
