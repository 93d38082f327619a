//! The servers of a pool at one moment.
//!
//! A list changes only when the set of servers or their settings do: whether a server is up stands in a bitmap beside
//! it. It is copied on write, in chunks of 64 servers, so that one change costs the same whatever the number of
//! servers.

use crate::connector::Connector;
use crate::raw::{Bucket, Signals, UpSet};
use crate::server::{Generation, ServerState};
use crate::sync::{Arc, AtomicU64, Ordering};

const CHUNK: usize = 64;

type Chunk<C> = [Option<Seat<C>>; CHUNK];

/// See the module's page.
pub(crate) struct List<C: Connector> {
    /// No other list of the process has it.
    pub(crate) version: u64,
    /// By server number. A server keeps its number for as long as it is registered.
    chunks: Vec<Arc<Chunk<C>>>,
    /// How many servers are registered.
    pub(crate) len: usize,
    /// The servers that callers may use.
    pub(crate) up: Arc<UpSet>,
    /// The servers that are down and may have idle connections: used when no server is up.
    pub(crate) last_resort: Arc<UpSet>,
    pub(crate) signals: Arc<Signals>,
    /// The pool was closed. No server is registered any more.
    pub(crate) closed: bool,
}

/// A registered server: what an acquire touches of it.
pub(crate) struct Seat<C: Connector> {
    pub(crate) generation: Arc<Generation<C>>,
    /// The server's bucket as of this list.
    pub(crate) bucket: Option<Arc<Bucket>>,
}

impl<C: Connector> Seat<C> {
    pub(crate) fn server(&self) -> &Arc<ServerState<C>> {
        &self.generation.server
    }
}

impl<C: Connector> Clone for Seat<C> {
    fn clone(&self) -> Self {
        Self { generation: Arc::clone(&self.generation), bucket: self.bucket.clone() }
    }
}

impl<C: Connector> List<C> {
    pub(crate) fn new(signals: Arc<Signals>) -> Self {
        let [up, last_resort] = [(); 2].map(|()| Arc::new(UpSet::new(0)));
        Self { version: next_version(), chunks: Vec::new(), len: 0, up, last_resort, signals, closed: false }
    }

    /// A copy to change and publish.
    pub(crate) fn copy(&self) -> Self {
        Self {
            version: next_version(),
            chunks: self.chunks.clone(),
            len: self.len,
            up: Arc::clone(&self.up),
            last_resort: Arc::clone(&self.last_resort),
            signals: Arc::clone(&self.signals),
            closed: self.closed,
        }
    }

    #[inline(always)]
    pub(crate) fn seat(&self, number: usize) -> Option<&Seat<C>> {
        self.chunks.get(number / CHUNK)?[number % CHUNK].as_ref()
    }

    /// Sets the server of a number. The bitmaps follow after the list is published.
    pub(crate) fn set(&mut self, number: usize, seat: Option<Seat<C>>) {
        while self.chunks.len() <= number / CHUNK {
            self.chunks.push(Arc::new([const { None }; CHUNK]));
        }
        if number >= self.up.capacity() {
            // Twice as much, so that servers registered one by one are copied a constant number of times each.
            let capacity = (2 * self.up.capacity()).max(number + 1);
            self.up = Arc::new(UpSet::new(capacity));
            self.last_resort = Arc::new(UpSet::new(capacity));
        }
        let place = &mut Arc::make_mut(&mut self.chunks[number / CHUNK])[number % CHUNK];
        self.len = self.len + usize::from(seat.is_some()) - usize::from(place.is_some());
        *place = seat;
    }

    /// The generation of the server of a number.
    pub(crate) fn generation(&self, number: usize) -> Option<Arc<Generation<C>>> {
        self.seat(number).map(|seat| Arc::clone(&seat.generation))
    }

    /// The servers whose idle connections may be used: those that are up; without any, the last resort.
    pub(crate) fn serving(&self) -> &UpSet {
        if self.up.is_empty() { &self.last_resort } else { &self.up }
    }

    /// The registered servers with their numbers, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &Seat<C>)> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .enumerate()
            .filter_map(|(number, seat)| Some((number, seat.as_ref()?)))
    }
}

/// A version that no other list of the process has. One a nanosecond would take 584 years to wrap.
fn next_version() -> u64 {
    static VERSIONS: AtomicU64 = AtomicU64::new(1);
    // Relaxed: a plain counter.
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}
