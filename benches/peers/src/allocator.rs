//! A global allocator that counts the requested bytes while [`growth`] runs, and forwards every call to the system's
//! allocator. The overhead that the system's allocator adds to each allocation is not counted.

#![allow(unsafe_code, reason = "the methods of GlobalAlloc are unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whether bytes are counted. While it is false, an allocation costs one extra load of a word that no thread writes.
static IS_ON: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);

/// Runs `make`. Returns its result, and by how many bytes the allocations of all threads grew meanwhile.
pub fn growth<T>(make: impl FnOnce() -> T) -> (T, i64) {
    BYTES.store(0, Ordering::Relaxed);
    IS_ON.store(true, Ordering::SeqCst);
    let made = make();
    IS_ON.store(false, Ordering::SeqCst);
    (made, BYTES.load(Ordering::Relaxed))
}

/// Does the same as [`growth`], after waiting for finished tasks to be freed.
pub fn growth_in_quiet<T>(make: impl FnOnce() -> T) -> (T, i64) {
    wait_for_freed_tasks();
    growth(make)
}

/// Waits long enough for finished tasks to be freed.
pub fn wait_for_freed_tasks() {
    thread::sleep(Duration::from_millis(20));
}

fn count(bytes: i64) {
    if IS_ON.load(Ordering::Relaxed) {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: each call is forwarded unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller upholds the contract of the trait's method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller upholds the contract of the trait's method.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller upholds the contract of the trait's method.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller upholds the contract of the trait's method.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
