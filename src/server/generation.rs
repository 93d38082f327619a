//! One generation of a server: a set of idle queues with its closed bit.
//!
//! A server begins a new generation when it is registered, and when its maximum is lowered or outgrows its queues. So
//! it does where all its connections must close: at a reset, when its address or a tag changes, and when the runtime is
//! shut down. The old generation is closed and drained, as is that of a removed server. A connection that is returned
//! to a closed generation moves to the next one if both are of the same epoch, which is so if only the maximum changed.
//! Otherwise it closes.
//!
//! Idle connections refer to their generation, which holds them. Closing and draining it breaks this cycle.

use std::any::Any;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::connector::Connector;
use crate::raw::Idle;
use crate::server::{Connection, ServerEntry};
use crate::sync::{Arc, AtomicBool, Ordering, Weak};

/// See the module's page.
pub(crate) struct Generation<C: Connector> {
    pub(crate) idle: Idle<Connection<C>>,
    pub(crate) server: Arc<ServerEntry<C>>,
    /// The server's number in the list for as long as this generation is open.
    pub(crate) number: usize,
    /// The index at which threads keep the list of this pool.
    pub(crate) cache_index: usize,
    /// The pool. Type-erased, so that this layer does not name `core`.
    pub(crate) pool: Weak<dyn Any + Send + Sync>,
    pub(crate) epoch: Arc<Epoch>,
}

/// The time in which the generations of a server pass connections on to each other. Ends when the server is removed or
/// reset, when its address or a tag changes, and when the runtime is shut down.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    is_over: AtomicBool,
    /// It ended with a removal of the server, which may be registered again since.
    is_removed: AtomicBool,
    over: Notify,
}

impl Epoch {
    /// Ends the epoch, and with it the attempts that run. `is_removed`: the server is removed.
    pub(crate) fn end(&self, is_removed: bool) {
        // Relaxed: the store below publishes it.
        self.is_removed.store(is_removed, Ordering::Relaxed);
        // Release: pairs with the Acquire of `is_over`.
        self.is_over.store(true, Ordering::Release);
        self.over.notify_waiters();
    }

    pub(crate) fn is_over(&self) -> bool {
        // Acquire: pairs with the Release of `end`.
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether it is over since the server was removed.
    pub(crate) fn was_removed(&self) -> bool {
        // Relaxed: read after `is_over`, which pairs with the Release of `end`.
        self.is_removed.load(Ordering::Relaxed)
    }

    /// Waits for the end. Enable the future before you check `is_over`.
    pub(crate) fn over(&self) -> Notified<'_> {
        self.over.notified()
    }
}
