//! The servers of a pool at one moment.

use std::any::Any;

use crate::connector::Connector;
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
    /// The same ones, as threads remember them.
    pub(crate) seats: AnySeats,
    /// Those deregistered while connections were out.
    pub(crate) draining: Vec<Weak<LiveServer<C>>>,
    /// The pool was closed. No server is registered any more.
    pub(crate) closed: bool,
}

/// A server's turn in the rotation, with its bucket at hand.
///
/// For a moment after the rate was changed, the bucket is the one before. That gives nothing any more, unless the limit
/// was lifted; and where there was none, nothing is limited for that moment.
pub(crate) struct Turn<C: Connector> {
    pub(crate) server: Arc<LiveServer<C>>,
    pub(crate) bucket: Option<Arc<Bucket>>,
}

/// What an acquire touches of the servers that are up.
pub(crate) struct Seats<C: Connector> {
    pub(crate) seats: Box<[Seat<C>]>,
    /// Whether any has a bucket.
    pub(crate) limited: bool,
}

/// A server's words, and its bucket as in its [`Turn`].
pub(crate) struct Seat<C: Connector> {
    pub(crate) words: Arc<Words<C>>,
    pub(crate) bucket: Option<Arc<Bucket>>,
}

/// [`Seats`] with their type erased, since a thread local cannot be generic over the connector.
///
/// Boxed, since a box points at its data; an `Arc<dyn Any>` points at its counts, and finds the data behind them by the
/// alignment, each time.
pub(crate) type AnySeats = Arc<Box<dyn Any + Send + Sync>>;

impl<C: Connector> Seats<C> {
    /// Those of these turns, as threads remember them.
    pub(crate) fn of(up: &[Turn<C>]) -> AnySeats {
        let seat = |turn: &Turn<C>| Seat { words: Arc::clone(&turn.server.words), bucket: turn.bucket.clone() };
        let limited = up.iter().any(|turn| turn.bucket.is_some());
        Arc::new(Box::new(Self { seats: up.iter().map(seat).collect(), limited }))
    }
}

impl<C: Connector> List<C> {
    pub(crate) fn new(servers: Arc<[Arc<LiveServer<C>>]>, draining: Vec<Weak<LiveServer<C>>>, closed: bool) -> Self {
        let up = servers.iter().filter(|server| server.health.snapshot().is_up());
        let up: Box<[_]> = up.map(|server| Turn { server: Arc::clone(server), bucket: server.bucket() }).collect();
        Self { number: next_number(), seats: Seats::of(&up), servers, up, draining, closed }
    }

    /// Those that drain still.
    pub(crate) fn draining(&self) -> impl Iterator<Item = Arc<LiveServer<C>>> {
        self.draining.iter().filter_map(Weak::upgrade)
    }
}
