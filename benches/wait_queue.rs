//! What waiting costs, beside the wait: one server, one connection.
//!
//! - `served`: a caller joins the line, another releases the connection, the first receives it. No task is woken.
//! - `left`: a caller joins and gives up.
//! - `handoff`: two tasks pass the connection to each other through the line. One iteration is one grant.
//!
//! The first two run without tokio's budget for a task, which a caller that is polled here and does not wait uses up.
//!
//! What pollutes it: each wait has a timer of tokio's for its timeout, which is in the time. `handoff` counts what a
//! wake and a switch of tasks cost in a runtime of one thread; between threads, a wake costs a system call and more.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the real clock")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Instant;

use common::{builder, open, runtime};
use connring::{Connector, Pool};
use criterion::{Criterion, criterion_group, criterion_main};
use tokio::task::unconstrained;

fn line(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("line");
    let pool = open(&runtime, builder(1, 1));
    group.bench_function("served", |b| {
        let served = async || {
            let held = pool.acquire().await.expect("it is idle");
            let mut next = pin!(pool.acquire());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            held.release();
            next.await.expect("it was released").release();
        };
        b.to_async(&runtime).iter(|| unconstrained(served()));
    });
    let held = pool.try_acquire().expect("it is idle");
    group.bench_function("left", |b| {
        let left = async || {
            let next = pin!(pool.acquire());
            assert!(next.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        b.to_async(&runtime).iter(|| unconstrained(left()));
    });
    held.release();
    group.bench_function("handoff", |b| {
        b.to_async(&runtime).iter_custom(async |grants| {
            let began = Instant::now();
            let other = tokio::spawn(grants_of_one(pool.clone(), grants / 2));
            grants_of_one(pool.clone(), grants - grants / 2).await;
            other.await.expect("no panic");
            began.elapsed()
        });
    });
}

/// Holds the connection until the other task waits for it, each time.
async fn grants_of_one<C: Connector>(pool: Pool<C>, grants: u64) {
    for _ in 0..grants {
        let conn = pool.acquire().await.expect("it comes back");
        tokio::task::yield_now().await;
        conn.release();
    }
}

criterion_group!(benches, line);
criterion_main!(benches);
