//! The lists that each thread used last, so that its next acquire loads none, and its next release needs no reference
//! of its own to the server.
//!
//! Loading an `ArcSwap` takes two read-modify-writes, and so does holding on to a server while its connection goes into
//! the idle queue, where it is another's. A version tells whether a list is still the current one. A release needs no
//! current list, only one that has the generation of its connection.
//!
//! A list that is kept holds no connection once its pool is closed, and not the connector. Its empty idle queues, and
//! the last errors of servers removed before the close, stay until this thread next keeps a list, drops the pool's last
//! handle, or ends.

use std::any::Any;
use std::cell::RefCell;

use crate::connector::Connector;
use crate::raw::Signals;
use crate::servers::list::List;
use crate::servers::shard::near;
use crate::sync::{Arc, AtomicUsize, Ordering};

/// A thread keeps the lists of so many pools. If it uses more in turn, they replace each other, and each acquire loads
/// its list.
const SLOTS: usize = 8;

struct Kept {
    version: u64,
    /// The thread's own [`near`].
    near: usize,
    /// An `Arc<List<C>>`, since a thread local cannot be generic over the connector.
    list: Box<dyn Any>,
    signals: Arc<Signals>,
}

thread_local! {
    static KEPT: [RefCell<Option<Kept>>; SLOTS] = const { [const { RefCell::new(None) }; SLOTS] };
}

/// The slot of a new pool.
pub(crate) fn next_slot() -> usize {
    static POOLS: AtomicUsize = AtomicUsize::new(0);
    // Relaxed: a plain counter.
    POOLS.fetch_add(1, Ordering::Relaxed) % SLOTS
}

/// Uses the list that this thread keeps in a slot, if it is of `version`, and the thread's [`near`].
#[inline(always)]
pub(crate) fn with_current<C: Connector, T>(
    slot: usize,
    version: u64,
    use_list: impl FnOnce(&List<C>, usize) -> T,
) -> Option<T> {
    with_slot(slot, |kept| {
        if kept.version != version {
            return None;
        }
        Some(use_list(kept.list.downcast_ref::<Arc<List<C>>>()?, kept.near))
    })
}

/// Uses the list that this thread keeps in a slot, of whatever version, and the thread's [`near`].
#[inline(always)]
pub(crate) fn with_any<C: Connector, T>(slot: usize, use_list: impl FnOnce(&List<C>, usize) -> Option<T>) -> Option<T> {
    with_slot(slot, |kept| use_list(kept.list.downcast_ref::<Arc<List<C>>>()?, kept.near))
}

#[inline(always)]
fn with_slot<T>(slot: usize, use_kept: impl FnOnce(&Kept) -> Option<T>) -> Option<T> {
    let used = KEPT.try_with(|slots| {
        let kept = slots[slot % SLOTS].try_borrow().ok()?;
        use_kept(kept.as_ref()?)
    });
    // A thread that ends keeps nothing any more.
    used.ok().flatten()
}

/// Keeps a list for the next time, and lets go of lists whose pools were closed.
#[cold]
pub(crate) fn keep<C: Connector>(slot: usize, list: &Arc<List<C>>) {
    let (version, signals) = (list.version, Arc::clone(&list.signals));
    let kept = Kept { version, near: near(), list: Box::new(Arc::clone(list)), signals };
    // A slot may be in use: then a check, a drop or a waker acquires in the midst of an acquire. What was there is
    // dropped after the slot is free again.
    let _before = KEPT.try_with(|slots| slots[slot % SLOTS].try_borrow_mut().ok()?.replace(kept));
    let_go_of_closed();
}

/// Lets go of the lists whose pools were closed.
#[cold]
pub(crate) fn let_go_of_closed() {
    let closed = |slot: &RefCell<Option<Kept>>| slot.try_borrow_mut().ok()?.take_if(|kept| kept.signals.is_closed());
    let _closed = KEPT.try_with(|slots| slots.each_ref().map(closed));
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, next_slot};

    #[test]
    fn slots_are_shared_out() {
        // Pools of other tests may take some in between.
        let mut pools = [0; SLOTS];
        (0..100 * SLOTS).for_each(|_| pools[next_slot()] += 1);
        assert!(pools.iter().all(|&count| count > 0), "{pools:?}");
    }
}
