//! Loom's versions of what `src/sync.rs` names.

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no model panics with a lock held")
}

const EMPTY: usize = 0;
const BUSY: usize = 1;
const FULL: usize = 2;

/// Stands in for `crossbeam_queue::ArrayQueue`, and is weaker: a slot is looked at by a relaxed load, taken by a
/// relaxed or an acquiring CAS and handed over by a releasing store, where the real queue has SeqCst on head and tail.
/// Nothing but the item's own slot synchronizes anybody. A pop finds nothing while a push is half done, where the real
/// one waits; a push finds no room while a pop is half done, where the real one waits. `is_empty`, `is_full` and `len`
/// are relaxed loads, one a slot, where the real ones are SeqCst: each may be out of date by itself. It keeps no order.
///
/// The mutex only holds the item: whoever locks it owns the slot by the CAS before, so that nobody ever meets there.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    slots: Vec<(AtomicUsize, Mutex<Option<T>>)>,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { slots: (0..capacity).map(|_| (AtomicUsize::new(EMPTY), Mutex::new(None))).collect() }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        for (state, slot) in &self.slots {
            if take(state, EMPTY) {
                *lock(slot) = Some(item);
                state.store(FULL, Ordering::Release);
                return Ok(());
            }
        }
        Err(item)
    }

    pub(crate) fn pop(&self) -> Option<T> {
        for (state, slot) in &self.slots {
            if take(state, FULL) {
                let item = lock(slot).take();
                state.store(EMPTY, Ordering::Release);
                return item;
            }
        }
        None
    }

    pub(crate) fn capacity(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.iter().filter(|(state, _)| state.load(Ordering::Relaxed) == FULL).count()
    }

    /// Sees no item of a push that is half done, as `pop`.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.iter().all(|(state, _)| state.load(Ordering::Relaxed) != FULL)
    }

    /// Sees no room of a pop that is half done, as `push`.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.iter().all(|(state, _)| state.load(Ordering::Relaxed) != EMPTY)
    }
}

/// Makes a slot of that state one's own.
fn take(state: &AtomicUsize, from: usize) -> bool {
    state.load(Ordering::Relaxed) == from
        && state.compare_exchange(from, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
}
