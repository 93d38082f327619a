//! One generation of a server: a set of idle queues with its closed bit.
//!
//! A server begins a new generation when it is registered, and when its maximum is lowered or outgrows its queues.
//! Likewise where all its connections must close: at a reset, when its address or a tag changes, and when the runtime
//! is shut down. The old generation is closed and drained, as is that of a removed server. A connection that is
//! returned to a closed generation moves to the next one if both are of the same epoch, which is so if only the maximum
//! changed. Otherwise it closes.
//!
//! Idle connections refer to their generation, which holds them. Closing and draining it breaks this cycle.

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::raw::{Idle, Outage};
use crate::server::notifier::wait_until;
use crate::server::{Connection, Epoch, ServerRecord};
use crate::sync::Arc;

/// See the module's page.
pub(crate) struct Generation<C: Connector> {
    pub(crate) idle: Idle<Connection<C>>,
    pub(crate) server: Arc<ServerRecord<C>>,
    /// See [`Generation::number`].
    number: u32,
    /// The place at which threads keep the list of this pool.
    pub(crate) list_place: u32,
    pub(crate) epoch: Arc<Epoch>,
}

impl<C: Connector> Generation<C> {
    pub(crate) fn new(
        idle: Idle<Connection<C>>,
        server: Arc<ServerRecord<C>>,
        number: usize,
        list_place: u32,
        epoch: Arc<Epoch>,
    ) -> Self {
        Self { idle, server, number: number as u32, list_place, epoch }
    }

    /// The server's number in the list for as long as this generation is open.
    #[inline(always)]
    pub(crate) fn number(&self) -> usize {
        self.number as usize
    }

    /// Whether connections may move to another generation: it is of the same epoch.
    pub(crate) fn passes_on_to(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.epoch, &other.epoch)
    }

    /// Why its connections close, if its epoch is over.
    pub(crate) fn why_over(&self) -> Option<CloseReason> {
        let why = self.epoch.ended()?;
        Some(if self.server.is_pool_closed() { CloseReason::PoolClosed } else { why })
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

    /// Waits for the end of its epoch. Returns why its connections close.
    pub(crate) async fn over(&self) -> CloseReason {
        let notifier = self.server.notifier();
        wait_until(&notifier.server_changed, || self.why_over()).await
    }
}
