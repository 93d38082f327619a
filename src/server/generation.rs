//! One generation of a server: a set of idle queues with its closed bit.
//!
//! A server begins a new generation when it is registered, when its maximum grows beyond the room of its queues, and
//! when all connections that exist must close (a removal, the end of the runtime that they were opened on). The old one
//! is closed and drained. What is out at that time finds it closed when it comes back: it moves to the next generation
//! if the old one only grew, and closes otherwise.
//!
//! Idle connections refer to their generation, which holds them: a cycle, cut when the generation is closed and drained.

use std::any::Any;

use tokio::sync::Notify;

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
    /// The next generation takes over the connections of this one.
    grown: AtomicBool,
    /// Ends the attempts of a generation that was closed for good.
    ended: Notify,
}

impl<C: Connector> Generation<C> {
    pub(crate) fn new(
        server: Arc<ServerState<C>>,
        number: usize,
        idle: Idle<Connection<C>>,
        cache_slot: usize,
        pool: Weak<dyn Any + Send + Sync>,
    ) -> Self {
        Self { idle, server, number, cache_slot, pool, grown: AtomicBool::new(false), ended: Notify::new() }
    }

    /// Closes it for a larger one, which takes over its connections. The caller drains it.
    pub(crate) fn grow(&self) {
        // Relaxed: `close` fences, and whoever finds the bit set by a SeqCst load sees this too.
        self.grown.store(true, Ordering::Relaxed);
        self.idle.close();
    }

    /// Closes it for good, and ends its attempts. The caller drains it.
    pub(crate) fn close(&self) {
        self.idle.close();
        self.ended.notify_waiters();
    }

    /// Whether its connections go on in the next generation.
    pub(crate) fn has_grown(&self) -> bool {
        // Relaxed: read after the closed bit, see `grow`.
        self.grown.load(Ordering::Relaxed)
    }

    /// Whether no connection of it may be used any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.idle.is_closed() && !self.has_grown()
    }

    /// Waits until the generation is closed for good. It must be enabled before `is_ended` is looked at.
    pub(crate) fn ended(&self) -> tokio::sync::futures::Notified<'_> {
        self.ended.notified()
    }
}
