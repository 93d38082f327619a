//! What a thread has: a number, which chooses its shard, and of up to eight pools the list that it used last.
//!
//! A kept list saves an acquire the load of the `ArcSwap`, which takes two read-modify-writes. It saves a release a
//! counted reference to the generation, which could otherwise be freed during the push: another thread may take the
//! connection at once and drop it. The list version says whether a kept list is the current one. A release needs no
//! current list, only one that has the generation of its connection.
//!
//! Once its pool is closed, a kept list holds neither connections nor the connector. Its empty idle queues, and the
//! last errors of servers removed before the close, stay until this thread keeps another list, drops the pool's last
//! handle, or ends.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::thread::available_parallelism;

use crate::connector::Connector;
use crate::raw::Signals;
use crate::servers::{List, Servers};
use crate::sync::{Arc, AtomicU32, AtomicUsize, Ordering};

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

/// A thread keeps the lists of this many pools. The lists of pools with the same place replace each other.
const PLACES: usize = 8;

struct Kept {
    /// The thread's number.
    thread: usize,
    /// A `List<C>`: a thread-local cannot be generic over the connector. Not an `Arc` of one, which would take one more
    /// load on which the next one depends.
    list: Box<dyn Any>,
    signals: Arc<Signals>,
}

thread_local! {
    static KEPT: [RefCell<Option<Kept>>; PLACES] = const { [const { RefCell::new(None) }; PLACES] };
}

/// Returns the place of a new pool.
pub(crate) fn next_place() -> u32 {
    static POOLS: AtomicU32 = AtomicU32::new(0);
    // Relaxed: a plain counter.
    POOLS.fetch_add(1, Ordering::Relaxed) % PLACES as u32
}

impl<C: Connector> Servers<C> {
    /// Uses the list of a version, the current one, if this thread keeps it, and the thread's number.
    #[inline(always)]
    pub(crate) fn with_current_list<T>(&self, version: u64, use_list: impl FnOnce(&List<C>, usize) -> T) -> Option<T> {
        with_kept_list(self.list_place, |list, thread| (list.version == version).then(|| use_list(list, thread)))
    }

    /// Keeps the current list for the next call of this thread. False if it does already.
    pub(crate) fn keep_current_list(&self) -> bool {
        let is_old = self.with_current_list(self.notifier.signals.list_version(), |_, _| ()).is_none();
        if is_old {
            keep(self.list_place, &self.list.load());
        }
        is_old
    }
}

/// Uses the list that this thread keeps at a place, of any version, and the thread's number.
#[inline(always)]
pub(crate) fn with_kept_list<C: Connector, T>(
    place: u32,
    use_list: impl FnOnce(&List<C>, usize) -> Option<T>,
) -> Option<T> {
    let used = KEPT.try_with(|places| {
        let kept = places[place as usize % PLACES].try_borrow().ok()?;
        let kept = kept.as_ref()?;
        use_list(kept.list.downcast_ref::<List<C>>()?, kept.thread)
    });
    // A thread that ends has dropped its lists.
    used.ok().flatten()
}

/// Keeps a list for this thread's next call, and drops lists whose pools were closed.
#[cold]
fn keep<C: Connector>(place: u32, list: &List<C>) {
    let signals = Arc::clone(&list.signals);
    let kept = Kept { thread: thread_number(), list: Box::new(list.clone()), signals };
    // The place may be borrowed: user code that runs within an acquire may itself acquire. Then nothing is kept. The
    // list before is dropped when the place is no longer borrowed.
    let _before = KEPT.try_with(|places| places[place as usize % PLACES].try_borrow_mut().ok()?.replace(kept));
    drop_closed_lists();
}

/// Drops this thread's lists whose pools were closed.
#[cold]
pub(crate) fn drop_closed_lists() {
    let closed = |place: &RefCell<Option<Kept>>| place.try_borrow_mut().ok()?.take_if(|kept| kept.signals.is_closed());
    let _closed = KEPT.try_with(|places| places.each_ref().map(closed));
}

#[cfg(test)]
mod tests {
    use std::thread::{available_parallelism, spawn};

    use super::{MAX_SHARDS, PLACES, next_place, shards, thread_number};

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

    #[test]
    fn places_are_shared_out() {
        // Pools of other tests may take some in between.
        let mut pools = [0; PLACES];
        (0..100 * PLACES).for_each(|_| pools[next_place() as usize] += 1);
        assert!(pools.iter().all(|&count| count > 0), "{pools:?}");
    }
}
