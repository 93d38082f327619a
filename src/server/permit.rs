//! The permits of connections: the right to open one to a server, then to have it open. Each holds the generation of
//! idle queues to which its connection belongs.

use crate::connector::Connector;
use crate::server::{Generation, ServerRecord};
use crate::sync::Arc;

/// The right to open one connection to a server. Counts as connecting. Released when dropped.
pub(crate) struct ConnectPermit<C: Connector> {
    /// Empty once it became a [`Permit`].
    generation: Option<Arc<Generation<C>>>,
}

impl<C: Connector> ConnectPermit<C> {
    /// Takes a permit, if one is free and fewer than `most` attempts run at the server.
    pub(crate) fn take(generation: &Arc<Generation<C>>, most: u32) -> Option<Self> {
        generation.server.permits.begin(most).then(|| Self { generation: Some(Arc::clone(generation)) })
    }

    /// The attempt succeeded: the connection keeps the permit.
    pub(crate) fn connected(mut self) -> Option<Permit<C>> {
        let generation = self.generation.take()?;
        generation.server.permits.connected();
        Some(Permit { generation })
    }
}

impl<C: Connector> Drop for ConnectPermit<C> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation.take() {
            generation.server.permits.failed();
            generation.server.permit_freed();
            generation.server.notifier().attempt_ended.notify_waiters();
        }
    }
}

/// The right to have one connection to a server open. Released when dropped, which comes after the drop of the
/// connection.
pub(crate) struct Permit<C: Connector> {
    generation: Arc<Generation<C>>,
}

impl<C: Connector> Permit<C> {
    pub(super) fn server(&self) -> &Arc<ServerRecord<C>> {
        &self.generation.server
    }

    pub(super) fn generation(&self) -> &Arc<Generation<C>> {
        &self.generation
    }

    pub(super) fn move_to(&mut self, generation: Arc<Generation<C>>) {
        self.generation = generation;
    }
}

impl<C: Connector> Drop for Permit<C> {
    fn drop(&mut self) {
        self.generation.server.permits.release();
        self.generation.server.permit_freed();
    }
}
