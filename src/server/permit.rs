//! The permit of a connect attempt: the right to open one connection to a server. The record of the connection takes it
//! over.

use crate::connector::Connector;
use crate::server::Generation;
use crate::sync::Arc;

/// The right to open one connection to a server. Counts as connecting. Released when dropped.
pub(crate) struct ConnectPermit<C: Connector> {
    /// Empty once a connection has the permit.
    generation: Option<Arc<Generation<C>>>,
}

impl<C: Connector> ConnectPermit<C> {
    /// Takes a permit, if one is free and fewer than `most` attempts run at the server.
    pub(crate) fn take(generation: &Arc<Generation<C>>, most: u32) -> Option<Self> {
        generation.server.permits.begin(most).then(|| Self { generation: Some(Arc::clone(generation)) })
    }

    /// The attempt succeeded: a [`ConnRecord`](crate::server::ConnRecord) of this generation takes over the permit.
    pub(super) fn connected(mut self) -> Option<Arc<Generation<C>>> {
        let generation = self.generation.take()?;
        generation.server.permits.connected();
        Some(generation)
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
