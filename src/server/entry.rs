//! An open connection with what the pool knows of it.

use crate::conn_info::ConnInfo;
use crate::connector::Connector;
use crate::raw::Generation;
use crate::server::{Hold, LiveServer};
use crate::sync::Arc;

/// One connection, in a box that goes from the idle queue to the caller and back.
///
/// The fields are dropped in their order: the connection first, then its permit, also if the connection's drop panics.
/// It shares no cache line with another, which another core may be using.
#[repr(align(64))]
pub(crate) struct Entry<C: Connector> {
    pub(crate) conn: C::Conn,
    pub(crate) permit: Permit<C>,
    /// When it was dialled, in the server's own reckoning.
    pub(crate) generation: Generation,
    /// Which runtime it was dialled on.
    pub(crate) runtime: u64,
    /// When its lifetime ends, in nanoseconds.
    pub(crate) expires_at: u64,
    pub(crate) info: ConnInfo,
}

impl<C: Connector> Entry<C> {
    pub(crate) fn server(&self) -> &Arc<LiveServer<C>> {
        &self.permit.server
    }

    /// A hold on what a release needs, by the count of the stripe that is near.
    #[inline]
    pub(crate) fn hold(&self, near: usize) -> Arc<Hold<C>> {
        let holds = &self.permit.holds;
        Arc::clone(&holds[near & (holds.len() - 1)])
    }
}

/// The right to hold one connection to a server open, and the reference to it. Given back when dropped.
pub(crate) struct Permit<C: Connector> {
    server: Arc<LiveServer<C>>,
    /// The server's: at hand here, a release touches nothing else of it.
    holds: Arc<[Arc<Hold<C>>]>,
}

impl<C: Connector> Permit<C> {
    /// Takes a permit, if one is free.
    pub(crate) fn take(server: &Arc<LiveServer<C>>) -> Option<Self> {
        server.permits.take().then(|| Self { server: Arc::clone(server), holds: Arc::clone(&server.holds) })
    }
}

impl<C: Connector> Drop for Permit<C> {
    fn drop(&mut self) {
        self.server.permits.give_back();
        self.server.ring.room_made(&self.server);
    }
}

/// Closes a connection, out of the line of what is hot.
#[cold]
pub(crate) fn close<C: Connector>(entry: Box<Entry<C>>) {
    drop(entry);
}
