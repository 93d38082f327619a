//! Cost of maintenance: a sweep over the idle connections, and the hot path during sweeps.
//!
//! - `sweep`: one sweep over 0 to 10 000 idle connections to 4 servers. A service has one sweep a second. With 0
//!   connections the result is the cost of waking the background task.
//! - `hot_path`: acquire and release, `alone` and `swept`. In the latter another thread sweeps 1 000 idle connections
//!   without a pause, far more often than in any service.
//!
//! Sources of error: each sweep advances a manual clock by a second, which is part of the time. On a single core the
//! sweeping thread takes half of the time, so `hot_path/swept` is meaningless there.

mod common;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{builder, open, runtime};
use connring::{Builder, Clock, Connector, Pool};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const SERVERS: usize = 4;
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn maintenance(c: &mut Criterion) {
    let mut group = c.benchmark_group("maintenance");
    for conns in [0, 100, 1_000, 10_000] {
        let (runtime, clock) = (runtime(), Clock::manual());
        let pool = open(&runtime, lasting(conns.max(SERVERS as u32), &clock));
        if conns == 0 {
            (0..SERVERS).for_each(|_| pool.try_acquire().expect("a connection is idle").discard());
        }
        group.bench_function(BenchmarkId::new("sweep", conns), |b| b.iter(|| sweep(&runtime, &clock)));
        // No connection expired during the sweeps.
        assert_eq!(idle(&pool), conns as usize);
    }

    let (runtime, clock) = (runtime(), Clock::manual());
    let pool = open(&runtime, lasting(1_000, &clock));
    let mut hot_path = |name| {
        group.bench_function(format!("hot_path/{name}"), |b| {
            b.iter(|| black_box(pool.try_acquire().expect("a connection is idle")).release());
        });
    };
    hot_path("alone");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                sweep(&runtime, &clock);
            }
        });
        hot_path("swept");
        ended.store(true, Ordering::Relaxed);
    });
    assert_eq!(idle(&pool), 1_000);
}

/// Returns a builder for `conns` connections in total, each with a lifetime of a year on the clock.
fn lasting(conns: u32, clock: &Clock) -> Builder<impl Connector<Conn = u64>> {
    let conns = conns / SERVERS as u32;
    let builder = builder(SERVERS, conns).max_idle_per_server(conns).clock(clock.clone());
    builder.idle_timeout(None).max_lifetime(YEAR)
}

/// Advances the clock by a second and runs the background task, which sweeps once a second.
fn sweep(runtime: &Runtime, clock: &Clock) {
    clock.advance(Duration::from_secs(1));
    runtime.block_on(tokio::task::yield_now());
}

fn idle<C: Connector>(pool: &Pool<C>) -> usize {
    pool.status().servers.iter().map(|server| server.idle).sum()
}

criterion_group!(benches, maintenance);
criterion_main!(benches);
