//! Model checks of `src/raw`: its very files, compiled against loom. See `README.md`.

#[path = "../../src/raw/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod raw;
/// Once more: `raw` keeps it to itself.
#[path = "../../src/raw/slot.rs"]
#[allow(clippy::duplicate_mod, dead_code, unreachable_pub)]
mod raw_slot;
#[allow(dead_code, unused_imports)]
mod sync;

pub mod bucket;
pub mod due;
pub mod health;
pub mod idle;
pub mod pause;
pub mod permits;
pub mod pool;
pub mod slot;
pub mod up_set;
pub mod wait_queue;
pub mod wake_at;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Explores every interleaving of `model`, up to so many preemptions of each. Prints how many there were, which
/// `cargo test -- --nocapture` shows.
fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    explore(preemptions, true, Arc::new(model));
}

/// The same for a large model: with one preemption less, and with so many in the orders that loom finds by itself.
fn check_large(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let model = Arc::new(model);
    explore(preemptions - 1, true, Arc::clone(&model));
    explore(preemptions, false, model);
}

fn explore(preemptions: usize, all_orders: bool, model: Arc<impl Fn() + Send + Sync + 'static>) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // Neither stops early: a model that is not finished has not passed.
    builder.max_duration = None;
    builder.max_permutations = None;
    builder.max_branches = 100_000;
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    builder.check(move || {
        // Loom runs one execution at a time and need not see this counter.
        count.fetch_add(1, Ordering::Relaxed);
        sync::start_model(all_orders);
        model();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}
