//! Which stripe of what is striped a thread is near.

use std::cell::Cell;
use std::thread::available_parallelism;

use crate::sync::{AtomicUsize, Ordering};

/// More do not pay: each takes memory and a look from whoever finds nothing.
pub(super) const MAX_STRIPES: usize = 64;

static THREADS: AtomicUsize = AtomicUsize::new(0);

const UNKNOWN: usize = usize::MAX;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// The number of the current thread, from zero in the order in which they first came here. Taken modulo the number of
/// stripes it tells the thread's own.
#[inline]
pub(crate) fn near() -> usize {
    let number = NUMBER.get();
    if number == UNKNOWN { first_time() } else { number }
}

#[cold]
fn first_time() -> usize {
    // Relaxed: a plain counter.
    let number = THREADS.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}

/// Sets the shard of the current thread. Without it, the shard depends on how many threads used a pool before.
///
/// For tests that must do the same on every machine: the shard decides with which server a thread's rotation begins,
/// and which idle connections it finds first. Call it before the pool is built.
#[cfg(feature = "test-util")]
pub fn set_shard(shard: usize) {
    NUMBER.set(shard);
}

/// One for each processor, rounded up to a power of two.
pub(crate) fn stripes() -> usize {
    available_parallelism().map_or(1, |processors| processors.get().next_power_of_two().min(MAX_STRIPES))
}

#[cfg(test)]
mod tests {
    use std::thread::{available_parallelism, spawn};

    use super::{MAX_STRIPES, near, stripes};

    #[test]
    fn each_thread_keeps_a_number_of_its_own() {
        let theirs = || (near(), near());
        let mut numbers = vec![theirs()];
        numbers.extend((0..3).map(|_| spawn(theirs).join().expect("no panic")));
        assert!(numbers.iter().all(|(first, again)| first == again), "{numbers:?}");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 4, "{numbers:?}");
    }

    #[test]
    fn there_is_a_stripe_for_each_processor() {
        let processors = available_parallelism().expect("known where tests run").get();
        assert!(stripes().is_power_of_two() && (processors.min(MAX_STRIPES)..2 * processors).contains(&stripes()));
    }
}
