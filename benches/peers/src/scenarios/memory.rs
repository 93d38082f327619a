//! Memory of connring: bytes of each server, queue slot, idle connection and waiter.
//!
//! Each figure compares a small number with a large one: the growth of the requested bytes, divided by the difference
//! of the numbers. The overhead of the system's allocator is not included. A server has an address of 9 bytes and room
//! for one idle connection. None of its connections has closed: the first close adds 144 bytes. The figure of a
//! connection excludes the user's type, and that of a waiter excludes the future, which has its own figure.
//!
//! Sources of error: a finished task that is freed later than 20 ms after its end counts in the figure measured then.

use std::mem;
use std::pin::pin;
use std::task::{Context, Waker};

use connring::{Pool, PooledConn};

use crate::allocator::{growth_in_quiet, wait_for_freed_tasks};
use crate::contestants::{Numbers, background, current_thread};
use crate::report::{Entrant, Metric, Options, Report, Target, max};

const MEMORY: Metric = Metric { name: "memory", unit: "bytes" };
/// Powers of two, so that a vector that grows by doubling has no spare room at either number.
const FEW: u32 = 1 << 10;
const MANY: u32 = 1 << 12;

/// A name, a measurement of the total for a number, and the target.
type Figure = (&'static str, fn(u32) -> f64, Option<f64>);

pub fn run(options: &Options) {
    let mut report = Report::new("memory", options);
    let figures: [Figure; 4] = [
        ("server", servers, Some(1.25 * 1_024.0)),
        ("queue slot", slots, Some(16.0)),
        ("idle connection", idle_connections, Some(96.0)),
        ("waiter", waiters, None),
    ];
    let entrants = figures.iter().map(|(name, total, _)| Entrant {
        contestant: (*name).to_owned(),
        setting: Vec::new(),
        against: "",
        measure: Box::new(|| vec![(total(MANY) - total(FEW)) / f64::from(MANY - FEW)]),
    });
    let future = Entrant {
        contestant: "future of acquire".to_owned(),
        setting: Vec::new(),
        against: "",
        measure: Box::new(|| vec![mem::size_of_val(&pool(1, 1, 1).acquire()) as f64]),
    };
    report.measure(&[MEMORY], entrants.chain([future]).collect());
    for (name, _, most) in figures {
        let Some(most) = most else { continue };
        let worst = max(&report.row(name, MEMORY.name, &[]).expect("the row was measured").values);
        report.target(format!("{name}, the worst round"), worst, Target::AtMost(most));
    }
    report.print();
}

/// Returns the bytes of a pool with `count` servers.
fn servers(count: u32) -> f64 {
    growth_in_quiet(|| pool(count, 1, 1)).1 as f64
}

/// Returns the bytes of a pool whose one server has room for `count` idle connections.
fn slots(count: u32) -> f64 {
    growth_in_quiet(|| pool(1, count, count)).1 as f64
}

/// Returns by how many bytes a pool grows when `count` connections are opened and released.
fn idle_connections(count: u32) -> f64 {
    let pool = pool(1, count, count);
    let open = || {
        current_thread().block_on(async {
            let mut held = Vec::with_capacity(count as usize);
            for _ in 0..count {
                held.push(pool.acquire().await.expect("a connection"));
            }
            held.into_iter().for_each(PooledConn::release);
        });
        wait_for_freed_tasks();
    };
    let ((), bytes) = growth_in_quiet(open);
    assert_eq!(pool.status().servers[0].idle, count as usize, "all connections are idle");
    bytes as f64 - f64::from(count) * size_of::<u64>() as f64
}

/// Returns by how many bytes a pool grows when `count` callers wait.
fn waiters(count: u32) -> f64 {
    let pool = pool(1, 1, 1);
    let runtime = current_thread();
    let held = runtime.block_on(pool.acquire()).expect("a connection");
    let _inside = runtime.enter();
    let join = || {
        let mut callers: Vec<_> = (0..count).map(|_| Box::pin(pool.acquire())).collect();
        for caller in &mut callers {
            assert!(pin!(caller).poll(&mut Context::from_waker(Waker::noop())).is_pending(), "the caller waits");
        }
        callers
    };
    let (callers, bytes) = growth_in_quiet(join);
    assert_eq!(pool.status().waiters, count as usize, "all callers wait");
    let futures: usize = callers.iter().map(|caller| mem::size_of_val(caller) + mem::size_of_val(&**caller)).sum();
    drop(callers);
    held.release();
    bytes as f64 - futures as f64
}

fn pool(servers: u32, conns: u32, idle: u32) -> Pool<Numbers> {
    let builder = Pool::builder(Numbers)
        .servers((0..servers).map(|server| format!("host-{server:04}")))
        .max_conns_per_server(conns)
        .max_idle_per_server(idle)
        .maintenance(false)
        .runtime(background());
    builder.build().expect("a pool")
}
