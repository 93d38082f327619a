//! The tokio runtime that the pool's tasks run on.

use tokio::runtime::Handle;

use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The current runtime, and its number.
#[derive(Debug)]
pub(crate) struct Runtime {
    handle: Mutex<Option<Handle>>,
    /// The runtime number: counts the runtimes that were shut down. One a second would wrap after 5 × 10¹¹ years.
    number: AtomicU64,
}

impl Runtime {
    pub(crate) fn new(handle: Option<Handle>) -> Self {
        Self { handle: Mutex::new(handle), number: AtomicU64::new(0) }
    }

    pub(crate) fn number(&self) -> u64 {
        // Relaxed: a hint; `lost` decides under the lock.
        self.number.load(Ordering::Relaxed)
    }

    /// Spawns the task that `task` makes, given the runtime number. If the pool has no runtime, the current one becomes
    /// it. False if there is none either.
    ///
    /// A runtime that was shut down drops the task before this returns: no lock may be held.
    pub(crate) fn spawn<F>(&self, task: impl FnOnce(u64) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.adopt().map(|(handle, number)| handle.spawn(task(number))).is_some()
    }

    /// Returns the pool's runtime and its number. If the pool has none, the current one becomes it.
    pub(crate) fn adopt(&self) -> Option<(Handle, u64)> {
        let mut handle = lock(&self.handle);
        if handle.is_none() {
            *handle = Handle::try_current().ok();
        }
        handle.clone().map(|handle| (handle, self.number()))
    }

    /// Forgets the runtime of that number, which was shut down. True for the first caller that says so.
    pub(crate) fn lost(&self, number: u64) -> bool {
        let mut handle = lock(&self.handle);
        if number != self.number() {
            return false;
        }
        *handle = None;
        // Relaxed: see `number`; the lock orders the writers.
        self.number.store(number + 1, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;
    use tokio::sync::oneshot;

    use super::Runtime;

    #[test]
    fn tasks_run_on_the_runtime_that_is_there() {
        let runtime = Runtime::new(None);
        assert!(!runtime.spawn(|_| async {}), "there is none");
        let here = Builder::new_current_thread().build().expect("it needs no driver");
        here.block_on(async {
            let (tell, told) = oneshot::channel();
            assert!(runtime.spawn(|number| async move { tell.send(number).expect("it is awaited") }));
            assert_eq!(told.await, Ok(0));
        });
        assert!(runtime.spawn(|_| async {}), "it stays the pool's");
    }

    #[test]
    fn a_runtime_is_lost_once() {
        let [gone, next] = [(); 2].map(|()| Builder::new_current_thread().build().expect("it needs no driver"));
        let runtime = Runtime::new(Some(gone.handle().clone()));
        assert!(runtime.lost(0));
        assert_eq!(runtime.number(), 1);
        assert!(!runtime.spawn(|_| async {}), "it is forgotten");
        let entered = next.enter();
        assert!(runtime.spawn(|_| async {}));
        // Another of its tasks reports the same.
        assert!(!runtime.lost(0));
        assert_eq!(runtime.number(), 1);
        drop(entered);
        assert!(runtime.spawn(|_| async {}), "the next one is not forgotten for it");
        assert!(runtime.lost(1));
        assert_eq!(runtime.number(), 2);
    }
}
