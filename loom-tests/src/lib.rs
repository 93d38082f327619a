//! Model checks of the kernel: the very files of `src/raw`, compiled against loom. See `README.md`.

#[path = "../../src/raw/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub)]
mod raw;
#[allow(dead_code, unused_imports)]
mod sync;

pub mod alarm;
pub mod bucket;
pub mod health;
pub mod idle;
pub mod line;
pub mod permits;
pub mod pool;
pub mod retry;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Explores every interleaving of `model`, up to so many preemptions of each where a bound is given. Prints how many
/// there were, which `cargo test -- --nocapture` shows.
fn check(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    // Neither stops early: what is not finished has not passed.
    builder.max_duration = None;
    builder.max_permutations = None;
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    builder.check(move || {
        // Loom runs one execution at a time and need not see this counter.
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}
