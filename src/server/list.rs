//! The servers of a pool at one moment: what an acquire loads.

use crate::connect::Connector;
use crate::raw::Bucket;
use crate::server::LiveServer;
use crate::sync::{Arc, Weak};

/// Replaced as a whole whenever a server comes or goes, goes down or up, or changes its rate.
pub(crate) struct List<C: Connector> {
    /// Those registered, in the order of their registration.
    pub(crate) servers: Arc<[Arc<LiveServer<C>>]>,
    /// Those of them that were up when the list was made: the only ones that a pass touches.
    pub(crate) up: Box<[Turn<C>]>,
    /// Those deregistered while connections were out.
    pub(crate) draining: Vec<Weak<LiveServer<C>>>,
    /// The pool was closed. No server is registered any more.
    pub(crate) closed: bool,
}

/// A server's turn in the rotation, with its bucket at hand.
///
/// The bucket is the server's own, or, for a moment after the rate was changed, the one before, which is retired and
/// gives nothing.
pub(crate) struct Turn<C: Connector> {
    pub(crate) server: Arc<LiveServer<C>>,
    pub(crate) bucket: Option<Arc<Bucket>>,
}

impl<C: Connector> List<C> {
    pub(crate) fn new(servers: Arc<[Arc<LiveServer<C>>]>, draining: Vec<Weak<LiveServer<C>>>, closed: bool) -> Self {
        let up = servers.iter().filter(|server| server.health.snapshot().is_up());
        let up = up.map(|server| Turn { server: Arc::clone(server), bucket: server.bucket() }).collect();
        Self { servers, up, draining, closed }
    }

    /// Those that drain still.
    pub(crate) fn draining(&self) -> impl Iterator<Item = Arc<LiveServer<C>>> {
        self.draining.iter().filter_map(Weak::upgrade)
    }
}
