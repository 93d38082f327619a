//! The number of the current thread, which chooses its shard.

use std::cell::Cell;
use std::thread::available_parallelism;

use crate::sync::{AtomicUsize, Ordering};

/// The most shards. Each takes memory, and is looked at by each caller that finds nothing.
pub(crate) const MAX_SHARDS: usize = 64;

static THREADS: AtomicUsize = AtomicUsize::new(0);

const UNKNOWN: usize = usize::MAX;

thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
}

/// Returns the number of the current thread. Threads are numbered from zero in the order of their first use of any
/// pool. The thread's shard is this modulo the number of shards.
#[inline]
pub(crate) fn thread_number() -> usize {
    let number = NUMBER.get();
    if number == UNKNOWN { first_use() } else { number }
}

#[cold]
fn first_use() -> usize {
    // Relaxed: a plain counter.
    let number = THREADS.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}

/// Sets the shard of the current thread, instead of one that depends on how many threads used a pool before it.
///
/// For deterministic tests: a thread's rotation over the servers starts at its shard, and its idle connections are kept
/// there. Call it before the pool is built.
#[cfg(feature = "test-util")]
pub fn set_shard(shard: usize) {
    NUMBER.set(shard);
}

/// The number of shards: one for each processor, rounded up to a power of two.
pub(crate) fn shards() -> usize {
    available_parallelism().map_or(1, |processors| processors.get().next_power_of_two().min(MAX_SHARDS))
}

#[cfg(test)]
mod tests {
    use std::thread::{available_parallelism, spawn};

    use super::{MAX_SHARDS, shards, thread_number};

    #[test]
    fn each_thread_keeps_a_number_of_its_own() {
        let numbers_of_a_thread = || (thread_number(), thread_number());
        let mut numbers = vec![numbers_of_a_thread()];
        numbers.extend((0..3).map(|_| spawn(numbers_of_a_thread).join().expect("no panic")));
        assert!(numbers.iter().all(|(first, again)| first == again), "{numbers:?}");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 4, "{numbers:?}");
    }

    #[test]
    fn there_is_a_shard_for_each_processor() {
        let processors = available_parallelism().expect("known where tests run").get();
        assert!(shards().is_power_of_two() && (processors.min(MAX_SHARDS)..2 * processors).contains(&shards()));
    }
}
