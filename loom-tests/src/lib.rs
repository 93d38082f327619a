//! Model checks of `src/raw`, whose files are compiled unchanged against loom. See `README.md`.

#[path = "../../src/raw/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod raw;
/// Included a second time, because `raw` does not export it.
#[path = "../../src/raw/slot.rs"]
#[allow(clippy::duplicate_mod, dead_code, unreachable_pub)]
mod raw_slot;
#[allow(dead_code, unused_imports)]
mod sync;

pub mod answered;
pub mod breaker;
pub mod bucket;
pub mod changed;
pub mod due;
pub mod health;
pub mod idle;
pub mod permits;
pub mod pool;
pub mod put_back;
pub mod serving;
pub mod slot;
pub mod strikes;
pub mod tier_in_use;
pub mod up_set;
pub mod wait_queue;
pub mod wake_at;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Explores every interleaving of `model` with at most `preemptions` preemptions. Prints the number of executions,
/// which `cargo test -- --nocapture` shows.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    explore(preemptions, true, Arc::new(model));
}

/// Explores a large model twice: with one preemption less in all orders, and with `preemptions` only in the orders that
/// unmodified loom explores.
fn check_large(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    explore(preemptions - 1, true, Arc::clone(&model));
    explore(preemptions, false, model);
}

fn explore(preemptions: usize, all_orders: bool, model: Arc<impl Fn() + Send + Sync + 'static>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // No limit stops the exploration early: an unfinished model has not passed.
    builder.max_duration = None;
    builder.max_permutations = None;
    builder.max_branches = 100_000;
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    builder.check(move || {
        // Loom runs one execution at a time, so this counter needs no loom type.
        count.fetch_add(1, Ordering::Relaxed);
        sync::start_model(all_orders);
        model();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}
