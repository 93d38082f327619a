//! One generation of a server: a set of idle queues with its closed bit.
//!
//! A server begins a new generation when it is registered, and when its maximum is lowered or outgrows its queues.
//! Likewise where all its connections must close: at a reset, when its address or a tag changes, and when the runtime
//! is shut down. The old generation is closed and drained, as is that of a removed server. A connection that is
//! returned to a closed generation moves to the next one if both are of the same epoch, which is so if only the maximum
//! changed. Otherwise it closes.
//!
//! An epoch is the time in which the generations of a server pass connections on to each other. It ends when the server
//! is removed or reset, when its address or a tag changes, and when the runtime is shut down.
//!
//! Idle connections refer to their generation, which holds them. Closing and draining it breaks this cycle.

use crate::connector::Connector;
use crate::raw::{Idle, Outage};
use crate::server::notifier::wait_until;
use crate::server::{Connection, ServerRecord};
use crate::sync::Arc;

/// See the module's page.
pub(crate) struct Generation<C: Connector> {
    pub(crate) idle: Idle<Connection<C>>,
    pub(crate) server: Arc<ServerRecord<C>>,
    /// The server's number in the list for as long as this generation is open.
    pub(crate) number: usize,
    /// The index at which threads keep the list of this pool.
    pub(crate) cache_index: usize,
    /// The number of its epoch among those of the server.
    pub(crate) epoch: u64,
}

impl<C: Connector> Generation<C> {
    /// Whether connections may move to another generation: it is of the same epoch.
    pub(crate) fn passes_on_to(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.server, &other.server) && self.epoch == other.epoch
    }

    /// Whether its epoch is over.
    pub(crate) fn is_over(&self) -> bool {
        self.server.epoch() > self.epoch
    }

    /// Whether its epoch ended by a removal of the server, which may be registered again by now.
    pub(crate) fn was_removed(&self) -> bool {
        self.server.has_removed(self.epoch)
    }

    /// Takes an idle connection that is proven under an outage. Puts those back that it met, so
    /// `idle_conns::after_look_for_proven` follows, without a lock.
    pub(crate) fn pop_proven(
        &self,
        thread: usize,
        outage: Outage,
        refuse: impl FnMut(Box<Connection<C>>),
    ) -> Option<Box<Connection<C>>> {
        self.idle.pop_if(thread, |conn| conn.record.is_proven_under(outage), refuse)
    }

    /// Waits for the end of its epoch.
    pub(crate) async fn over(&self) {
        let notifier = self.server.notifier();
        wait_until(&notifier.server_changed, || self.is_over()).await;
    }
}
