//! The shared-memory primitives of the crate, in one place, and what else `raw` needs of std.
//!
//! No other file imports them from std or another crate. So the files of `raw`, which import this module alone, compile
//! unchanged against loom's versions of the same names.

pub(crate) use std::collections::{BTreeMap, VecDeque};
pub(crate) use std::hint::spin_loop;
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
pub(crate) use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

pub(crate) use arc_swap::{ArcSwap, ArcSwapOption, Guard};
pub(crate) use crossbeam_queue::ArrayQueue;

/// Locks, also if a thread panicked with the lock held: what our locks protect is whole at every step.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    #[cfg(test)]
    LOCKS_TAKEN.set(LOCKS_TAKEN.get() + 1);
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
thread_local! {
    /// How many locks this thread has taken, for the test that the hot path takes none. It is in no build but that of
    /// the crate's own tests.
    pub(crate) static LOCKS_TAKEN: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}
