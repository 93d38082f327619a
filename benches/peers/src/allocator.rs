//! The allocator of this program: the system's, which counts while it is told to. The bytes are those that were asked
//! for, not those that the system's allocator takes for them.

#![allow(unsafe_code, reason = "an allocator's methods are unsafe")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// While it is off, an allocation costs one more load that is shared by all and changed by nobody.
static IS_ON: AtomicBool = AtomicBool::new(false);
static BYTES: AtomicI64 = AtomicI64::new(0);

/// What `make` returns, and by how many bytes all threads together hold more than before it.
pub fn growth<T>(make: impl FnOnce() -> T) -> (T, i64) {
    BYTES.store(0, Ordering::Relaxed);
    IS_ON.store(true, Ordering::SeqCst);
    let made = make();
    IS_ON.store(false, Ordering::SeqCst);
    (made, BYTES.load(Ordering::Relaxed))
}

/// The same as [`growth`], but after the tasks that ended before it were freed.
pub fn growth_in_quiet<T>(make: impl FnOnce() -> T) -> (T, i64) {
    let_tasks_go();
    growth(make)
}

/// Gives tasks that ended the time to be freed.
pub fn let_tasks_go() {
    thread::sleep(Duration::from_millis(20));
}

fn count(bytes: i64) {
    if IS_ON.load(Ordering::Relaxed) {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: each call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps what the trait asks of it.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller keeps what the trait asks of it.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller keeps what the trait asks of it.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: the caller keeps what the trait asks of it.
        unsafe { System.realloc(pointer, layout, size) }
    }
}
