//! Linearizability: records histories of real threads on a real pool and checks each against a sequential
//! specification.
//!
//! Two or three threads start at the same time and check out, release, discard and fail a few connections. The pool has
//! one or two servers and up to six idle connections; the threads share a shard or use different ones. The checker then
//! searches for an order of the operations that the specification allows (`checker.rs`, `specification.rs`): FIFO
//! within a shard, no connection checked out twice, none lost, none reused after it was closed, and no refusal while a
//! connection is idle.
//!
//! ```sh
//! LIN_SEEDS=1000000 cargo test --release --test linearizability     # more histories; LIN_FROM sets the first seed
//! LIN_SEED=4711 cargo test --test linearizability                   # repeats the scripts of one seed
//! ```
//!
//! The default number of histories detected each of these mutations of the pool:
//!
//! | mutation | violation found |
//! |---|---|
//! | an idle queue is LIFO | order of checkouts |
//! | one release in 64 closes the connection | refusal while a connection is idle |
//! | a pop searches only the caller's shard | the same |
//! | `try_acquire` tries only the first server | the same |
//! | a pop returns nothing while another pop runs | the same |
//! | a push that overlaps another puts its connection in front | order of checkouts |
//! | `discard` releases | a closed connection is checked out |
//! | `fail` ejects no server | a connection of an ejected server is checked out before those of the other one |
//! | with all servers down, idle connections are not used | refusal while a connection is idle |
//! | connections that an ejected server has answered on are not used | the same |
//!
//! The seed determines the pool and the scripts, but not the schedule of the threads. So a seed that failed may pass on
//! the next run.

#[path = "linearizability/checker.rs"]
mod checker;
#[path = "linearizability/history.rs"]
mod history;
#[path = "linearizability/known.rs"]
mod known;
#[path = "linearizability/record.rs"]
mod record;
#[path = "sim/rng.rs"]
mod rng;
#[path = "linearizability/specification.rs"]
mod specification;

use std::env;

use tokio::runtime::Builder;

use crate::checker::check;
use crate::history::{Action, Order};
use crate::record::record;

/// How many histories `cargo test` records.
const SEEDS: u64 = 4_000;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}

/// Totals over all histories.
#[derive(Debug, Default)]
struct Totals {
    histories: usize,
    overlapping: usize,
    in_one_shard: usize,
    with_ejection: usize,
    all_down: usize,
    checkouts: usize,
    refusals: usize,
    releases: usize,
    ends: usize,
}

#[test]
fn histories_of_real_threads_are_linearizable() {
    let count = number("LIN_SEEDS").unwrap_or(SEEDS);
    let from = number("LIN_FROM").unwrap_or(0);
    let seeds = (from..from + count).map(|seed| number("LIN_SEED").unwrap_or(seed));
    // Not driven while the threads run, so no connect attempt makes progress.
    let runtime = Builder::new_current_thread().build().expect("a runtime without sockets can be built");
    let mut totals = Totals::default();
    for seed in seeds {
        let history = record(&runtime, seed);
        if let Err(violation) = check(&history) {
            panic!("seed {seed}: {violation}\n{history}\nrepeat: LIN_SEED={seed} cargo test --test linearizability");
        }
        totals.histories += 1;
        totals.overlapping += usize::from(history.overlaps());
        totals.in_one_shard += usize::from(history.guarantees.order != Order::Any);
        totals.with_ejection += usize::from(history.guarantees.fail_ejects);
        totals.all_down += usize::from(history.all_down);
        for operation in &history.operations {
            *match operation.action {
                Action::Checkout(_) => &mut totals.checkouts,
                Action::Refused => &mut totals.refusals,
                Action::Release(_) => &mut totals.releases,
                Action::Discard(_) | Action::Fail(_) => &mut totals.ends,
            } += 1;
        }
    }
    println!("{totals:?}");
    // A history without overlapping operations proves little.
    assert!(number("LIN_SEED").is_some() || totals.overlapping * 3 > totals.histories, "{totals:?}");
    let Totals { in_one_shard, with_ejection, all_down, checkouts, refusals, releases, ends, .. } = totals;
    let counts = [in_one_shard, with_ejection, all_down, checkouts, refusals, releases, ends];
    assert!(count < SEEDS || counts.iter().all(|&count| count > 500), "{totals:?}");
}
