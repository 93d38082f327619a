//! Loom's versions of the names in `src/sync.rs`.

use std::cell::Cell;
pub(crate) use std::collections::BTreeMap;
use std::ops::Deref;

use loom::sync::atomic as loom_atomic;

pub(crate) use loom::sync::atomic::Ordering;
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
/// A loop that waits for another thread must let that thread run.
pub(crate) use loom::thread::yield_now as spin_loop;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no model panics with a lock held")
}

loom::lazy_static! {
    static ref FENCES: loom_atomic::AtomicUsize = loom_atomic::AtomicUsize::new(0);
}

std::thread_local! {
    /// See [`Order`]. Loom runs all threads of a model on one thread of the system.
    static ALL_ORDERS: Cell<bool> = const { Cell::new(true) };
}

/// Called before a model spawns threads: the first use of a lazy static synchronizes.
pub(crate) fn start_model(all_orders: bool) {
    ALL_ORDERS.set(all_orders);
    FENCES.load(Ordering::Relaxed);
}

/// Makes loom explore all orders of the operations on one atomic.
///
/// Loom derives the orders that are to be explored from the last operation on an object alone: a thread that loads
/// before its CAS hides that the CAS conflicts with an earlier load of another thread. So each operation on an atomic
/// is preceded by a read-modify-write on an object of its own, where every two operations conflict.
#[derive(Debug)]
struct Order(Option<loom_atomic::AtomicUsize>);

impl Order {
    fn new() -> Self {
        Self(ALL_ORDERS.get().then(|| loom_atomic::AtomicUsize::new(0)))
    }

    fn next(&self) {
        if let Some(order) = &self.0 {
            // Relaxed: it orders nothing by itself.
            order.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Loom explores the order of operations on one object, and takes a fence for a part of the operation before it. So
/// each fence is an operation on an object of all fences: it is explored in each order with the others, and at a
/// distance from the operation before it.
pub(crate) fn fence(order: Ordering) {
    // Relaxed: it orders nothing by itself.
    FENCES.fetch_add(1, Ordering::Relaxed);
    loom_atomic::fence(order);
}

loom::thread_local! {
    /// Whether this thread has run a SeqCst read-modify-write that no fence has followed yet.
    static NEEDS_FENCE: Cell<bool> = Cell::new(false);
}

/// Loom treats SeqCst accesses as AcqRel. A SeqCst read-modify-write and a SeqCst load after it are ordered as if a
/// SeqCst fence stood between them, so that is what the model runs: at the load, and only if both are SeqCst.
fn before_load(order: Ordering) {
    if order == Ordering::SeqCst && NEEDS_FENCE.with(|needs| needs.replace(false)) {
        fence(Ordering::SeqCst);
    }
}

macro_rules! atomics {
    ($($name:ident $(<$generic:ident>)?: $value:ty),+ $(,)?) => { $(
        #[derive(Debug)]
        pub(crate) struct $name $(<$generic>)? {
            order: Order,
            value: loom_atomic::$name $(<$generic>)?,
        }

        impl $(<$generic>)? $name $(<$generic>)? {
            pub(crate) fn new(value: $value) -> Self {
                Self { order: Order::new(), value: loom_atomic::$name::new(value) }
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                before_load(order);
                (**self).load(order)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let result = (**self).compare_exchange(current, new, success, failure);
                if result.is_ok() && success == Ordering::SeqCst {
                    NEEDS_FENCE.with(|needs| needs.set(true));
                }
                result
            }
        }

        /// All other operations.
        impl $(<$generic>)? Deref for $name $(<$generic>)? {
            type Target = loom_atomic::$name $(<$generic>)?;

            fn deref(&self) -> &Self::Target {
                self.order.next();
                &self.value
            }
        }
    )+ };
}

atomics!(AtomicBool: bool, AtomicPtr<T>: *mut T, AtomicU64: u64, AtomicUsize: usize);

const EMPTY: usize = 0;
const BUSY: usize = 1;
const FULL: usize = 2;

/// Stands in for `crossbeam_queue::ArrayQueue`, and is weaker: a cell is looked at by a relaxed load, taken by an
/// acquiring CAS and handed over by a releasing store, where the real queue has SeqCst on head and tail. Nothing but
/// the item's own cell synchronizes. A pop finds nothing while a push is half done, where the real one waits; a push
/// finds no room while a pop is half done, where the real one waits. `is_empty`, `is_full` and `len` are relaxed loads,
/// one a cell, where the real ones are SeqCst: each may be out of date by itself. It keeps no order.
///
/// The mutex only holds the item: the CAS before has made the cell this thread's own, so that the lock is always free.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    cells: Vec<(loom_atomic::AtomicUsize, Mutex<Option<T>>)>,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let cell = |_| (loom_atomic::AtomicUsize::new(EMPTY), Mutex::new(None));
        Self { cells: (0..capacity).map(cell).collect() }
    }

    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        for (state, cell) in &self.cells {
            if take(state, EMPTY) {
                *lock(cell) = Some(item);
                state.store(FULL, Ordering::Release);
                return Ok(());
            }
        }
        Err(item)
    }

    pub(crate) fn pop(&self) -> Option<T> {
        for (state, cell) in &self.cells {
            if take(state, FULL) {
                let item = lock(cell).take();
                state.store(EMPTY, Ordering::Release);
                return item;
            }
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.iter().filter(|(state, _)| state.load(Ordering::Relaxed) == FULL).count()
    }

    /// Sees no item of a push that is half done, as `pop`.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.iter().all(|(state, _)| state.load(Ordering::Relaxed) != FULL)
    }

    /// Sees no room of a pop that is half done, as `push`.
    pub(crate) fn is_full(&self) -> bool {
        self.cells.iter().all(|(state, _)| state.load(Ordering::Relaxed) != EMPTY)
    }
}

/// Takes a cell of that state for this thread alone.
fn take(state: &loom_atomic::AtomicUsize, from: usize) -> bool {
    state.load(Ordering::Relaxed) == from
        && state.compare_exchange(from, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
}
