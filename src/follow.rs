//! The handle of a followed stream of server sets.

use tokio::task::JoinHandle;

/// Applies a stream of server sets to a pool, from [`Pool::follow`](crate::Pool::follow), until it is stopped or
/// dropped.
#[derive(Debug)]
#[must_use = "dropping it stops following"]
pub struct Follow {
    /// `None` once it is detached.
    task: Option<JoinHandle<()>>,
}

impl Follow {
    pub(crate) fn new(task: JoinHandle<()>) -> Self {
        Self { task: Some(task) }
    }

    /// Stops following, as a drop does. The servers stay as they are. A set that is being applied on another thread is
    /// still applied.
    pub fn stop(self) {}

    /// Follows on without a handle, until the stream ends or the pool is closed.
    pub fn detach(mut self) {
        drop(self.task.take());
    }

    /// Whether it has ended: the stream has ended or panicked, the pool is closed, or its runtime was shut down.
    pub fn is_finished(&self) -> bool {
        self.task.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Why [`Pool::follow`](crate::Pool::follow) refused a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The pool has no tokio runtime yet, and the caller is outside one.
    #[error("the pool has no tokio runtime to follow a stream on")]
    NoRuntime,
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}
