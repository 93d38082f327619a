//! The kept lists: each thread keeps the list that it used last of each pool, so that an acquire does not load the
//! `ArcSwap` and a release counts no reference.
//!
//! Loading an `ArcSwap` takes two read-modify-writes. So would a reference to the generation, which a release needs
//! while it pushes: another thread may take the connection at once and drop it. The list version says whether a kept
//! list is the current one. A release needs no current list, only one that has the generation of its connection.
//!
//! Once its pool is closed, a kept list holds neither connections nor the connector. Its empty idle queues, and the
//! last errors of servers removed before the close, stay until this thread keeps another list, drops the pool's last
//! handle, or ends.

use std::any::Any;
use std::cell::RefCell;

use crate::connector::Connector;
use crate::raw::Signals;
use crate::servers::list::List;
use crate::servers::set::Servers;
use crate::servers::shard::thread_number;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// A thread keeps the lists of this many pools. The lists of pools with the same index replace each other.
const SLOTS: usize = 8;

struct Kept {
    /// The thread's number.
    thread: usize,
    /// A `List<C>`, since a thread local cannot be generic over the connector. A copy of its own: behind an `Arc` in
    /// the box each use would wait for one more load.
    list: Box<dyn Any>,
    signals: Arc<Signals>,
}

thread_local! {
    static KEPT: [RefCell<Option<Kept>>; SLOTS] = const { [const { RefCell::new(None) }; SLOTS] };
}

/// Returns the cache index of a new pool.
pub(crate) fn next_index() -> usize {
    static POOLS: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: a plain counter.
    POOLS.fetch_add(1, Ordering::Relaxed) % SLOTS
}

impl<C: Connector> Servers<C> {
    /// Uses the current list, if this thread keeps it, and the number of the thread.
    #[inline(always)]
    pub(crate) fn with_kept_list<T>(&self, use_list: impl FnOnce(&List<C>, usize) -> T) -> Option<T> {
        self.with_list_of(self.notifier.signals.list_version(), use_list)
    }

    /// The same for a caller that has read the version of the current list.
    #[inline(always)]
    pub(crate) fn with_list_of<T>(&self, version: u64, use_list: impl FnOnce(&List<C>, usize) -> T) -> Option<T> {
        with_any(self.cache_index, |list, thread| (list.version == version).then(|| use_list(list, thread)))
    }

    /// Keeps the current list for the next call of this thread.
    pub(crate) fn keep_list(&self) {
        keep(self.cache_index, &self.list.load());
    }
}

/// Uses the list that this thread keeps at an index, of any version, and the thread's number.
#[inline(always)]
pub(crate) fn with_any<C: Connector, T>(
    index: usize,
    use_list: impl FnOnce(&List<C>, usize) -> Option<T>,
) -> Option<T> {
    let used = KEPT.try_with(|slots| {
        let kept = slots[index % SLOTS].try_borrow().ok()?;
        let kept = kept.as_ref()?;
        use_list(kept.list.downcast_ref::<List<C>>()?, kept.thread)
    });
    // A thread that ends has dropped its lists.
    used.ok().flatten()
}

/// Keeps a list for this thread's next call, and drops lists whose pools were closed.
#[cold]
fn keep<C: Connector>(index: usize, list: &List<C>) {
    let signals = Arc::clone(&list.signals);
    let kept = Kept { thread: thread_number(), list: Box::new(list.clone()), signals };
    // A slot is in use if a check, a drop or a waker acquires within an acquire. The list before is dropped when the
    // slot is no longer borrowed.
    let _before = KEPT.try_with(|slots| slots[index % SLOTS].try_borrow_mut().ok()?.replace(kept));
    drop_closed_lists();
}

/// Drops this thread's lists whose pools were closed.
#[cold]
pub(crate) fn drop_closed_lists() {
    let closed = |slot: &RefCell<Option<Kept>>| slot.try_borrow_mut().ok()?.take_if(|kept| kept.signals.is_closed());
    let _closed = KEPT.try_with(|slots| slots.each_ref().map(closed));
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, next_index};

    #[test]
    fn slots_are_shared_out() {
        // Pools of other tests may take some in between.
        let mut pools = [0; SLOTS];
        (0..100 * SLOTS).for_each(|_| pools[next_index()] += 1);
        assert!(pools.iter().all(|&count| count > 0), "{pools:?}");
    }
}
