//! Cost of the wait queue, without the wait itself: one server with one connection.
//!
//! - `served`: a caller joins the queue, another caller releases the connection, and the waiter receives it. No task is
//!   woken.
//! - `left`: a caller joins the queue, and its future is dropped.
//! - `handoff`: two tasks pass the connection to each other through the queue. One iteration is one grant.
//!
//! The first two run outside tokio's cooperative budget, because callers that never yield would exhaust it.
//!
//! Sources of error: each wait sets a tokio timer for its timeout, which is part of the time. `handoff` includes a wake
//! and a task switch on a current-thread runtime; a wake across threads also costs a system call.

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

fn wait_queue(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("wait_queue");
    let pool = open(&runtime, builder(1, 1));
    group.bench_function("served", |b| {
        let served = async || {
            let held = pool.acquire().await.expect("the connection is idle");
            let mut next = pin!(pool.acquire());
            assert!(next.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            held.release();
            next.await.expect("the connection was released").release();
        };
        b.to_async(&runtime).iter(|| unconstrained(served()));
    });
    let held = pool.try_acquire().expect("the connection is idle");
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
            other.await.expect("the task does not panic");
            began.elapsed()
        });
    });
}

/// Acquires the connection `grants` times, and each time holds it until the other task waits for it.
async fn grants_of_one<C: Connector>(pool: Pool<C>, grants: u64) {
    for _ in 0..grants {
        let conn = pool.acquire().await.expect("the other task releases the connection");
        tokio::task::yield_now().await;
        conn.release();
    }
}

criterion_group!(benches, wait_queue);
criterion_main!(benches);
