//! Loom's versions of the items of the library's `src/sync.rs`.

use std::cell::Cell;
pub(crate) use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;

use loom::sync::atomic as loom_atomic;

pub(crate) use loom::sync::atomic::Ordering;
pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
/// Yields: a loop that waits for another thread must let that thread run.
pub(crate) use loom::thread::yield_now as spin_loop;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("the lock is not poisoned")
}

loom::lazy_static! {
    static ref FENCES: loom_atomic::AtomicUsize = loom_atomic::AtomicUsize::new(0);
}

std::thread_local! {
    /// Whether [`Order`] is active. Loom runs all threads of a model on one operating-system thread.
    static ALL_ORDERS: Cell<bool> = const { Cell::new(true) };
}

/// Prepares an execution. Must run before the model spawns threads, because the first use of a lazy static
/// synchronizes.
pub(crate) fn start_model(all_orders: bool) {
    ALL_ORDERS.set(all_orders);
    FENCES.load(Ordering::Relaxed);
}

/// Makes loom explore all orders of the operations on one atomic.
///
/// Loom derives the orders to explore only from the last operation on an object. A thread that loads before its CAS
/// hides that the CAS conflicts with an earlier load of another thread. So each operation on an atomic is preceded by a
/// read-modify-write on a separate object of that atomic, where any two operations conflict.
#[derive(Debug)]
struct Order(Option<loom_atomic::AtomicUsize>);

impl Order {
    fn new() -> Self {
        Self(ALL_ORDERS.get().then(|| loom_atomic::AtomicUsize::new(0)))
    }

    fn next(&self) {
        if let Some(order) = &self.0 {
            // Relaxed: the operation itself must not order memory.
            order.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Runs a fence that loom explores in all orders.
///
/// Loom explores the orders of operations on one object, and treats a fence as part of the operation before it. So each
/// fence is preceded by an operation on an object that all fences share. Loom then explores all orders of the fences,
/// and schedules between a fence and the operation before it.
pub(crate) fn fence(order: Ordering) {
    // Relaxed: the operation itself must not order memory.
    FENCES.fetch_add(1, Ordering::Relaxed);
    loom_atomic::fence(order);
}

loom::thread_local! {
    /// Whether this thread has run a SeqCst read-modify-write and no fence since.
    static NEEDS_FENCE: Cell<bool> = Cell::new(false);
}

/// Orders a SeqCst load after a SeqCst read-modify-write.
///
/// Loom treats SeqCst accesses as AcqRel. By the single order of SeqCst operations, the two are ordered as if a SeqCst
/// fence were between them. So the model runs such a fence before the load, only if both accesses are SeqCst.
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

        impl $(<$generic>)? Default for $name $(<$generic>)?
        where
            $value: Default,
        {
            fn default() -> Self {
                Self::new(<$value>::default())
            }
        }

        /// Forwards all other operations.
        impl $(<$generic>)? Deref for $name $(<$generic>)? {
            type Target = loom_atomic::$name $(<$generic>)?;

            fn deref(&self) -> &Self::Target {
                self.order.next();
                &self.value
            }
        }
    )+ };
}

atomics!(AtomicBool: bool, AtomicPtr<T>: *mut T, AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);

const EMPTY: usize = 0;
const BUSY: usize = 1;
const FULL: usize = 2;

/// A stand-in for `crossbeam_queue::ArrayQueue` with weaker guarantees.
///
/// A cell is checked by a Relaxed load, acquired by an Acquire CAS and released by a Release store, where the real
/// queue has SeqCst operations on head and tail. So only the cell of an item synchronizes. During an unfinished push, a
/// pop finds nothing; during an unfinished pop, a push finds no room. The real queue waits in both cases. `is_empty`,
/// `is_full` and `len` are one Relaxed load for each cell, where the real ones are SeqCst, so each load may be stale.
/// The stand-in is not FIFO.
///
/// The mutex only stores the item. The CAS has given the cell to one thread, so the lock is never contended.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    cells: Vec<(loom_atomic::AtomicUsize, Mutex<Option<T>>)>,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        let cell = |_| (loom_atomic::AtomicUsize::new(EMPTY), Mutex::new(None));
        Self { cells: (0..capacity).map(cell).collect() }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.cells.len()
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

    /// Like `pop`, does not see the item of an unfinished push.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.iter().all(|(state, _)| state.load(Ordering::Relaxed) != FULL)
    }

    /// Like `push`, does not see the room of an unfinished pop.
    pub(crate) fn is_full(&self) -> bool {
        self.cells.iter().all(|(state, _)| state.load(Ordering::Relaxed) != EMPTY)
    }
}

/// Moves a cell from the state `from` to `BUSY`, which gives this thread exclusive access.
fn take(state: &loom_atomic::AtomicUsize, from: usize) -> bool {
    state.load(Ordering::Relaxed) == from
        && state.compare_exchange(from, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
}
