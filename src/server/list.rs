//! The servers of a pool at one moment: what an acquire loads.

use crate::connect::Connector;
use crate::raw::Bucket;
use crate::server::remember::next_number;
use crate::server::{LiveServer, Words};
use crate::sync::{Arc, Weak};

/// Replaced as a whole whenever a server comes or goes, goes down or up, or changes its rate.
pub(crate) struct List<C: Connector> {
    /// No other list has it.
    pub(crate) number: u64,
    /// Those registered, in the order of their registration.
    pub(crate) servers: Arc<[Arc<LiveServer<C>>]>,
    /// Those of them that were up when the list was made: the only ones that a pass touches.
    pub(crate) up: Box<[Turn<C>]>,
    /// The same ones, as an acquire needs them.
    pub(crate) seats: Arc<Seats<C>>,
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

/// What an acquire touches of each server that is up.
pub(crate) struct Seats<C: Connector>(pub(crate) Box<[Seat<C>]>);

/// A server's words, and its bucket as in its [`Turn`].
pub(crate) struct Seat<C: Connector> {
    pub(crate) words: Arc<Words<C>>,
    pub(crate) bucket: Option<Arc<Bucket>>,
}

impl<C: Connector> List<C> {
    pub(crate) fn new(servers: Arc<[Arc<LiveServer<C>>]>, draining: Vec<Weak<LiveServer<C>>>, closed: bool) -> Self {
        let up = servers.iter().filter(|server| server.health.snapshot().is_up()).cloned().collect();
        Self::with_up(servers, up, draining, closed)
    }

    pub(crate) fn with_up(
        servers: Arc<[Arc<LiveServer<C>>]>,
        up: Vec<Arc<LiveServer<C>>>,
        draining: Vec<Weak<LiveServer<C>>>,
        closed: bool,
    ) -> Self {
        let up: Box<[_]> = up.into_iter().map(|server| Turn { bucket: server.bucket(), server }).collect();
        let seat = |turn: &Turn<C>| Seat { words: Arc::clone(&turn.server.words), bucket: turn.bucket.clone() };
        let seats = Arc::new(Seats(up.iter().map(seat).collect()));
        Self { number: next_number(), servers, up, seats, draining, closed }
    }

    /// Those that drain still.
    pub(crate) fn draining(&self) -> impl Iterator<Item = Arc<LiveServer<C>>> {
        self.draining.iter().filter_map(Weak::upgrade)
    }
}
