//! The list: the servers of a pool at one moment.
//!
//! A list changes when the set of servers, their settings, a generation or the weighted turns do: whether a server is
//! up is kept in a separate bitmap. It is copied on write, in chunks of 64 servers: one change copies 64 entries and
//! n/64 pointers.

use std::iter;

use crate::connector::Connector;
use crate::load_balancing::LoadBalancing;
use crate::raw::{Bucket, Outage, ServerSet, Signals};
use crate::server::{Generation, ServerRecord};
use crate::sync::{Arc, AtomicU64, Ordering};

const CHUNK: usize = 64;

type Chunk<C> = [Option<ListEntry<C>>; CHUNK];

/// See the module's page.
pub(crate) struct List<C: Connector> {
    /// The list version, unique in the process.
    pub(crate) version: u64,
    /// By server number, which a server keeps for as long as it is registered. The first chunk is apart from the rest,
    /// since that saves a load on which the next one depends.
    first: Arc<Chunk<C>>,
    rest: Vec<Arc<Chunk<C>>>,
    /// How many servers are registered.
    pub(crate) len: usize,
    /// The servers that callers may use: they serve, and their tier is in use.
    pub(crate) up: Arc<ServerSet>,
    /// The servers that serve, of tiers that are not in use.
    pub(crate) standby: Arc<ServerSet>,
    /// The servers that may have open connections and are not disabled. The bit of one whose last connection has closed
    /// is cleared later.
    pub(crate) open: Arc<ServerSet>,
    pub(crate) policy: LoadBalancing,
    /// The weighted turns. Empty with another policy, and before they are computed.
    pub(crate) turns: Arc<[u32]>,
    /// How many of the servers have a rate limit.
    pub(crate) limited: usize,
    pub(crate) signals: Arc<Signals>,
    /// The pool was closed. No server is registered any more.
    pub(crate) closed: bool,
}

/// The entry of a registered server: what an acquire and a release read of it.
pub(crate) struct ListEntry<C: Connector> {
    pub(crate) generation: Arc<Generation<C>>,
    /// The server's bucket as of this list.
    pub(crate) bucket: Option<Arc<Bucket>>,
}

/// Idle connections of a server that callers may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Usable {
    /// All: the server serves, or none does.
    All,
    /// All, if its tier comes into use for want of better ones.
    Standby,
    /// Those that have answered since the server went down, while others serve.
    Proven(Outage),
}

impl<C: Connector> ListEntry<C> {
    pub(crate) fn server(&self) -> &Arc<ServerRecord<C>> {
        &self.generation.server
    }

    /// Whether the server has an open connection and is not disabled.
    pub(crate) fn is_open(&self) -> bool {
        self.server().permits.counts().established() > 0 && !self.server().health.snapshot().is_disabled()
    }
}

impl<C: Connector> Clone for ListEntry<C> {
    fn clone(&self) -> Self {
        Self { generation: Arc::clone(&self.generation), bucket: self.bucket.clone() }
    }
}

impl<C: Connector> Clone for List<C> {
    fn clone(&self) -> Self {
        Self {
            version: self.version,
            first: Arc::clone(&self.first),
            rest: self.rest.clone(),
            len: self.len,
            up: Arc::clone(&self.up),
            standby: Arc::clone(&self.standby),
            open: Arc::clone(&self.open),
            policy: self.policy,
            turns: Arc::clone(&self.turns),
            limited: self.limited,
            signals: Arc::clone(&self.signals),
            closed: self.closed,
        }
    }
}

impl<C: Connector> List<C> {
    pub(crate) fn new(signals: Arc<Signals>, policy: LoadBalancing) -> Self {
        let [up, standby, open] = [(); 3].map(|()| Arc::new(ServerSet::new(0)));
        Self {
            version: next_version(),
            first: Arc::new([const { None }; CHUNK]),
            rest: Vec::new(),
            len: 0,
            up,
            standby,
            open,
            policy,
            turns: Arc::new([]),
            limited: 0,
            signals,
            closed: false,
        }
    }

    /// Returns a copy to change and publish.
    pub(crate) fn next(&self) -> Self {
        Self { version: next_version(), ..self.clone() }
    }

    #[inline(always)]
    pub(crate) fn entry(&self, number: usize) -> Option<&ListEntry<C>> {
        if number < CHUNK {
            return self.first[number].as_ref();
        }
        self.rest.get(number / CHUNK - 1)?[number % CHUNK].as_ref()
    }

    /// Sets the entry of a number. The bits are refreshed after the list is published.
    pub(crate) fn set(&mut self, number: usize, entry: Option<ListEntry<C>>) {
        while self.rest.len() < number / CHUNK {
            self.rest.push(Arc::new([const { None }; CHUNK]));
        }
        if number >= self.up.capacity() {
            // Doubled, so that registering servers one by one costs amortized constant time.
            let capacity = (2 * self.up.capacity()).max(number + 1);
            // With what is known so far: callers use the set before all its bits are refreshed.
            for set in [&mut self.up, &mut self.standby, &mut self.open] {
                *set = Arc::new(set.grown(capacity));
            }
        }
        let chunk = match number.checked_sub(CHUNK) {
            None => &mut self.first,
            Some(beyond) => &mut self.rest[beyond / CHUNK],
        };
        let place = &mut Arc::make_mut(chunk)[number % CHUNK];
        let limited =
            |entry: &Option<ListEntry<C>>| usize::from(entry.as_ref().is_some_and(|entry| entry.bucket.is_some()));
        self.len = self.len + usize::from(entry.is_some()) - usize::from(place.is_some());
        self.limited = self.limited + limited(&entry) - limited(place);
        *place = entry;
    }

    /// The generation of the server of a number.
    pub(crate) fn generation(&self, number: usize) -> Option<Arc<Generation<C>>> {
        self.entry(number).map(|entry| Arc::clone(&entry.generation))
    }

    /// Which idle connections of a server callers may use now; `None` for none of them.
    pub(crate) fn usable(&self, number: usize) -> Option<(&ListEntry<C>, Usable)> {
        let entry = self.entry(number)?;
        let health = entry.server().health.snapshot();
        let usable = match () {
            () if self.up.contains(number) || !health.is_disabled() && self.up.is_empty() => Usable::All,
            () if health.serves() => Usable::Standby,
            () if health.is_down() && !health.is_disabled() => Usable::Proven(health.outage()),
            () => return None,
        };
        Some((entry, usable))
    }

    /// The bucket of a server, also where a newer list has another than this one.
    pub(crate) fn bucket_of(&self, generation: &Generation<C>) -> Option<Arc<Bucket>> {
        let is_current = self.version == self.signals.list_version();
        match self.entry(generation.number()).filter(|_| is_current) {
            Some(entry) if core::ptr::eq(&*entry.generation, generation) => entry.bucket.clone(),
            _ => generation.server.bucket(),
        }
    }

    /// The registered servers with their numbers, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &ListEntry<C>)> {
        iter::once(&self.first)
            .chain(&self.rest)
            .flat_map(|chunk| chunk.iter())
            .enumerate()
            .filter_map(|(number, entry)| Some((number, entry.as_ref()?)))
    }
}

/// Returns a version that is unique in the process. One a nanosecond would take 584 years to wrap.
fn next_version() -> u64 {
    static VERSIONS: AtomicU64 = AtomicU64::new(1);
    // Relaxed: a plain counter.
    VERSIONS.fetch_add(1, Ordering::Relaxed)
}
