//! One generation of a server: a set of idle queues with its closed bit.
//!
//! A server begins a new generation when it is registered, when its maximum is lowered or grows beyond the room of its
//! queues, and when all connections that exist must close (a removal, the end of the runtime that they were opened on).
//! The old one is closed and drained. A connection in use finds it closed when it comes back. It moves to the next
//! generation if that is of the same epoch, which is so if the maximum changed, and closes otherwise.
//!
//! Idle connections refer to their generation, which holds them: a cycle, cut when the generation is closed and
//! drained.

use std::any::Any;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::connector::Connector;
use crate::raw::Idle;
use crate::server::{Connection, ServerState};
use crate::sync::{Arc, AtomicBool, Ordering, Weak};

/// See the module's page.
pub(crate) struct Generation<C: Connector> {
    pub(crate) idle: Idle<Connection<C>>,
    pub(crate) server: Arc<ServerState<C>>,
    /// The server's place in the list for as long as this generation is open.
    pub(crate) number: usize,
    /// Where threads keep the list of this pool.
    pub(crate) cache_slot: usize,
    /// The pool, which a server cannot look into.
    pub(crate) pool: Weak<dyn Any + Send + Sync>,
    pub(crate) epoch: Arc<Epoch>,
}

/// The time for which connections and attempts of a server go on: until its removal or reset.
#[derive(Debug, Default)]
pub(crate) struct Epoch {
    is_over: AtomicBool,
    over: Notify,
}

impl Epoch {
    /// Ends it, with all attempts that wait for its end.
    pub(crate) fn end(&self) {
        // Release: pairs with the Acquire of `is_over`.
        self.is_over.store(true, Ordering::Release);
        self.over.notify_waiters();
    }

    pub(crate) fn is_over(&self) -> bool {
        // Acquire: pairs with the Release of `end`, so that what came before the end is seen.
        self.is_over.load(Ordering::Acquire)
    }

    /// Waits for the end. Enable it before `is_over` is looked at.
    pub(crate) fn over(&self) -> Notified<'_> {
        self.over.notified()
    }
}
