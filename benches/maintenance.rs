//! What upkeep costs: a look at all idle connections, and the hot path meanwhile.
//!
//! - `sweep`: one look at so many idle connections of 4 servers. In a service there is one a second. With none, what is
//!   left is the wake of the task.
//! - `hot_path`: acquire and release, alone and while another thread looks at 1 000 idle connections again and again,
//!   without a pause: far more than any service does.
//!
//! What pollutes it: the time is a manual clock's, which is moved on by a second for each look, and moving it is in the
//! time. With a single core the other thread takes half of it, and `hot_path/swept` tells nothing.

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

fn upkeep(c: &mut Criterion) {
    let mut group = c.benchmark_group("upkeep");
    for conns in [0, 100, 1_000, 10_000] {
        let (runtime, clock) = (runtime(), Clock::manual());
        let pool = open(&runtime, lasting(conns.max(SERVERS as u32), &clock));
        if conns == 0 {
            (0..SERVERS).for_each(|_| pool.try_acquire().expect("it is idle").discard());
        }
        group.bench_function(BenchmarkId::new("sweep", conns), |b| b.iter(|| sweep(&runtime, &clock)));
        // That no connection grew too old meanwhile.
        assert_eq!(idle(&pool), conns as usize);
    }

    let (runtime, clock) = (runtime(), Clock::manual());
    let pool = open(&runtime, lasting(1_000, &clock));
    let mut hot_path = |name| {
        group.bench_function(format!("hot_path/{name}"), |b| {
            b.iter(|| black_box(pool.try_acquire().expect("it is idle")).release());
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

/// So many connections in all, which all last for a year of the clock.
fn lasting(conns: u32, clock: &Clock) -> Builder<impl Connector<Conn = u64>> {
    let conns = conns / SERVERS as u32;
    let builder = builder(SERVERS, conns).max_idle_per_server(conns).clock(clock.clone());
    builder.idle_timeout(None).max_lifetime(YEAR)
}

/// Upkeep looks at all idle connections once a second.
fn sweep(runtime: &Runtime, clock: &Clock) {
    clock.advance(Duration::from_secs(1));
    runtime.block_on(tokio::task::yield_now());
}

fn idle<C: Connector>(pool: &Pool<C>) -> usize {
    pool.status().servers.iter().map(|server| server.idle).sum()
}

criterion_group!(benches, upkeep);
criterion_main!(benches);
