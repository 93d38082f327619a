//! Histories of real threads on a real pool, each checked against a sequential specification.
//!
//! Two or three threads check out, release, discard and fail a few connections, starting at once. The pool has one or
//! two servers and up to six idle connections; the threads use one shard or different ones. Then the checker looks for
//! an order of the operations that the specification allows (`checker.rs`, `specification.rs`): FIFO within a shard, no
//! connection held twice, none lost, none back after its end, and no refusal without reason.
//!
//! ```sh
//! LIN_SEEDS=1000000 cargo test --release --test linearizability     # more histories; from LIN_FROM on
//! LIN_SEED=4711 cargo test --test linearizability                   # the scripts of one seed, again and again
//! ```
//!
//! Each of these was put into the pool and found by the ordinary number of histories:
//!
//! | mutation | found |
//! |---|---|
//! | an idle queue is LIFO | the order |
//! | one release in 64 closes the connection | a refusal while a connection is idle |
//! | a pop looks into the near shard only | the same |
//! | `try_acquire` looks at the first server only | the same |
//! | a pop gives up while another pop runs | the same |
//! | a push that overlaps another puts its connection in front | the order |
//! | `discard` releases | a closed connection came back |
//! | `fail` does not take the server down | a connection of a down server, while another is up |
//! | idle connections of down servers are not handed out if no server is up | a refusal while a connection is idle |
//!
//! The seed decides the pool and the scripts. How the threads run is up to the machine, so that a seed that failed may
//! pass the next time.

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

/// The histories of the ordinary test command.
const SEEDS: u64 = 4_000;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// What happened in all histories together.
#[derive(Debug, Default)]
struct Sum {
    histories: usize,
    overlapping: usize,
    in_one_shard: usize,
    with_down: usize,
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
    // Never driven while threads run: no attempt to connect gets any further.
    let runtime = Builder::new_current_thread().build().expect("a runtime without sockets can be built");
    let mut sum = Sum::default();
    for seed in seeds {
        let history = record(&runtime, seed);
        if let Err(why) = check(&history) {
            panic!("seed {seed}: {why}\n{history}\nrepeat: LIN_SEED={seed} cargo test --test linearizability");
        }
        sum.histories += 1;
        sum.overlapping += usize::from(history.overlaps());
        sum.in_one_shard += usize::from(history.promises.order != Order::Any);
        sum.with_down += usize::from(history.promises.fail_takes_down);
        for operation in &history.operations {
            *match operation.action {
                Action::Checkout(_) => &mut sum.checkouts,
                Action::Refused => &mut sum.refusals,
                Action::Release(_) => &mut sum.releases,
                Action::Discard(_) | Action::Fail(_) => &mut sum.ends,
            } += 1;
        }
    }
    println!("{sum:?}");
    // Histories of threads that run one after the other prove little.
    assert!(number("LIN_SEED").is_some() || sum.overlapping * 3 > sum.histories, "{sum:?}");
    let Sum { in_one_shard, with_down, checkouts, refusals, releases, ends, .. } = sum;
    let counts = [in_one_shard, with_down, checkouts, refusals, releases, ends];
    assert!(count < SEEDS || counts.iter().all(|&happened| happened > 500), "{sum:?}");
}
