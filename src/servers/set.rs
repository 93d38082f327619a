//! The set of servers: register, deregister, replace, reset, close.
//!
//! One lock serializes the changes. It guards names and free numbers; readers use the published list. A change returns
//! what it did. The caller then records events, drops connections and wakes, without the lock, since these run user
//! code.

mod by_name;
mod turns;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

pub(crate) use self::turns::TurnsUpkeep;
use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::error::ServerError;
use crate::raw::{Idle, TIERS, Time};
use crate::server::{Connection, Epoch, Generation, Limits, Server, ServerRecord};
use crate::servers::list::{List, ListEntry};
use crate::servers::thread::shards;
use crate::servers::{MAX_DEFAULT_IDLE, Servers};
use crate::sync::{Arc, MutexGuard, lock};

/// Names and numbers of the registered servers, and the removed ones.
pub(super) struct Registry<C: Connector> {
    numbers: HashMap<Arc<str>, usize>,
    /// Free numbers. A new server gets the lowest.
    free: BinaryHeap<Reverse<usize>>,
    /// Removed servers, by name, until nothing of them matters any more: if one is registered again before, its
    /// permits, tokens, breaker and health go on.
    removed: HashMap<Arc<str>, Arc<ServerRecord<C>>>,
}

impl<C: Connector> Default for Registry<C> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), free: BinaryHeap::new(), removed: HashMap::new() }
    }
}

/// What a change did, for the caller to act on.
pub(crate) struct Change<C: Connector> {
    /// The generations of the servers that were added.
    pub(crate) registered: Vec<Arc<Generation<C>>>,
    /// The generations of the servers that were removed.
    pub(crate) removed: Vec<Arc<Generation<C>>>,
    /// The generations that were replaced: by one of the same epoch if the maximum changed, else by one of a new epoch.
    pub(crate) replaced: Vec<Arc<Generation<C>>>,
    /// Removed servers to drop, not under the lock: they hold user values.
    forgotten: Vec<Arc<ServerRecord<C>>>,
    draining_before: Option<Arc<Vec<Arc<ServerRecord<C>>>>>,
}

impl<C: Connector> Change<C> {
    fn none() -> Self {
        Self {
            registered: Vec::new(),
            removed: Vec::new(),
            replaced: Vec::new(),
            forgotten: Vec::new(),
            draining_before: None,
        }
    }

    /// The generations that were closed, to be drained: those of removed servers first.
    pub(crate) fn closed(&self) -> impl Iterator<Item = &Arc<Generation<C>>> {
        self.removed.iter().chain(&self.replaced)
    }
}

impl<C: Connector> Servers<C> {
    /// Adds one server.
    pub(crate) fn register(&self, server: &Server, now: Time) -> Result<Change<C>, ServerError> {
        let limits = server.limits(&self.defaults)?;
        let mut edit = self.edit(now)?;
        if edit.registry.numbers.contains_key(&**server.shared_name()) {
            return Err(ServerError::Duplicate { name: Arc::clone(server.shared_name()) });
        }
        edit.add(server, limits);
        Ok(edit.publish())
    }

    /// Removes one server.
    pub(crate) fn deregister(&self, name: &str, now: Time) -> Result<Change<C>, ServerError> {
        let mut edit = self.edit(now)?;
        edit.number(name)?;
        edit.remove(name);
        Ok(edit.publish())
    }

    /// Replaces the set of servers. Servers that stay, by name, keep their numbers, connections and state.
    pub(crate) fn set(&self, servers: &[Server], now: Time) -> Result<Change<C>, ServerError> {
        let mut wanted = HashMap::with_capacity(servers.len());
        for server in servers {
            if wanted.insert(Arc::clone(server.shared_name()), server.limits(&self.defaults)?).is_some() {
                return Err(ServerError::Duplicate { name: Arc::clone(server.shared_name()) });
            }
        }
        let mut edit = self.edit(now)?;
        edit.remove_all(|name| !wanted.contains_key(name));
        for server in servers {
            let limits = wanted[server.shared_name()];
            match edit.registry.numbers.get(server.shared_name()) {
                Some(&number) => edit.apply(number, server, limits),
                None => edit.add(server, limits),
            }
        }
        Ok(edit.publish())
    }

    /// Begins a new generation and epoch of each server: all open connections close.
    pub(crate) fn reset(&self, now: Time) -> Result<Change<C>, ServerError> {
        let mut edit = self.edit(now)?;
        let numbers: Vec<_> = edit.list.iter().map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| edit.reset(number));
        Ok(edit.publish())
    }

    /// Begins a new generation and epoch of one server: its open connections close.
    pub(crate) fn reset_server(&self, name: &str, now: Time) -> Result<Change<C>, ServerError> {
        let mut edit = self.edit(now)?;
        let number = edit.number(name)?;
        edit.reset(number);
        Ok(edit.publish())
    }

    /// Replaces the settings of a registered server.
    pub(crate) fn update(&self, server: &Server, now: Time) -> Result<Change<C>, ServerError> {
        let limits = server.limits(&self.defaults)?;
        let mut edit = self.edit(now)?;
        let number = edit.number(server.name())?;
        edit.apply(number, server, limits);
        Ok(edit.publish())
    }

    /// Removes all servers for good.
    pub(crate) fn close(&self, now: Time) -> Result<Change<C>, ServerError> {
        let mut edit = self.edit(now)?;
        edit.remove_all(|_| true);
        edit.list.closed = true;
        // First: connections say that the pool was closed, not that their server was removed.
        self.notifier.signals.set_closed();
        Ok(edit.publish())
    }

    fn edit(&self, now: Time) -> Result<Edit<'_, C>, ServerError> {
        let registry = lock(&self.registry);
        let list = self.list.load();
        if list.closed {
            return Err(ServerError::Closed);
        }
        let list = list.next();
        Ok(Edit { servers: self, registry, list, change: Change::none(), touched: Vec::new(), maxima: Vec::new(), now })
    }
}

/// A change in progress, with the lock held. The list is not visible before it is published.
struct Edit<'a, C: Connector> {
    servers: &'a Servers<C>,
    registry: MutexGuard<'a, Registry<C>>,
    list: List<C>,
    change: Change<C>,
    /// The numbers whose bits must be refreshed.
    touched: Vec<usize>,
    /// Raised maxima, set once the list is published: before that, the old generations lack room for more connections.
    maxima: Vec<(Arc<ServerRecord<C>>, u32)>,
    /// The time of the change, for new rates.
    now: Time,
}

impl<C: Connector> Edit<'_, C> {
    /// The number of a registered server.
    fn number(&self, name: &str) -> Result<usize, ServerError> {
        self.registry.numbers.get(name).copied().ok_or_else(|| ServerError::Unknown { name: name.into() })
    }

    fn add(&mut self, server: &Server, limits: Limits) {
        let name = Arc::clone(server.shared_name());
        let number = self.registry.free.pop().map_or(self.registry.numbers.len(), |Reverse(number)| number);
        // Of an earlier registration: the same permits, tokens, breaker and health go on, for as long as they matter.
        let mut known = self.registry.removed.remove(&name);
        self.change.forgotten.extend(known.take_if(|known| known.may_be_forgotten(self.now)));
        let state = match known {
            Some(known) => {
                known.apply(server.clone(), limits, &self.servers.serving, self.now);
                known.permits.set_max(limits.max_conns);
                known
            }
            None => Arc::new(ServerRecord::new(server.clone(), limits, Arc::clone(&self.servers.notifier))),
        };
        state.register(number, &self.servers.serving, self.now);
        self.servers.start_ramp(&state);
        let generation = self.begin_generation(number, state, limits.max_conns, Arc::default());
        self.registry.numbers.insert(name, number);
        self.change.registered.push(generation);
    }

    /// Removes the servers with these names, in the order of their numbers.
    fn remove_all(&mut self, which: impl Fn(&str) -> bool) {
        let listed = self.list.iter().map(|(_, entry)| entry.server().config());
        for server in listed.filter(|server| which(server.name())).collect::<Vec<_>>() {
            self.remove(server.name());
        }
    }

    fn remove(&mut self, name: &str) {
        let Some(number) = self.registry.numbers.remove(name) else { return };
        self.registry.free.push(Reverse(number));
        if let Some(entry) = self.list.entry(number) {
            self.change.removed.push(Arc::clone(&entry.generation));
        }
        self.list.set(number, None);
        self.touched.push(number);
    }

    /// Changes the settings of a registered server. A maximum that outgrows its queues begins a new generation with
    /// more room. So does a lower one: a connection that is returned to a closed generation may have to close.
    fn apply(&mut self, number: usize, server: &Server, limits: Limits) {
        let changes = |entry: &&ListEntry<C>| *entry.server().config() != *server;
        let Some(entry) = self.list.entry(number).filter(changes).cloned() else { return };
        let is_moved = !entry.server().config().leads_where(server);
        let is_lower = limits.max_conns < entry.server().permits.counts().max();
        entry.server().apply(server.clone(), limits, &self.servers.serving, self.now);
        if is_lower {
            // Before the list: attempts that began in between would find no room.
            entry.server().permits.set_max(limits.max_conns);
        } else {
            self.maxima.push((Arc::clone(entry.server()), limits.max_conns));
        }
        let (capacity, bounded) = self.room(limits.max_conns);
        if !is_moved && !is_lower && entry.generation.idle.fits(capacity, bounded) {
            let bucket = entry.server().bucket();
            self.list.set(number, Some(ListEntry { bucket, ..entry }));
            self.touched.push(number);
        } else {
            self.replace(entry, limits.max_conns, is_moved);
        }
    }

    fn reset(&mut self, number: usize) {
        let Some(entry) = self.list.entry(number).cloned() else { return };
        entry.server().forget_results(self.now);
        let max_conns = entry.server().permits.counts().max();
        self.replace(entry, max_conns, true);
    }

    /// Begins the next generation of a server, of the next epoch if this one is over.
    fn replace(&mut self, entry: ListEntry<C>, max_conns: u32, is_over: bool) {
        let old = entry.generation;
        let epoch = if is_over { Arc::default() } else { Arc::clone(&old.epoch) };
        self.begin_generation(old.number(), Arc::clone(&old.server), max_conns, epoch);
        self.change.replaced.push(old);
    }

    /// Begins a generation of a server and puts its entry into the list.
    fn begin_generation(
        &mut self,
        number: usize,
        server: Arc<ServerRecord<C>>,
        max_conns: u32,
        epoch: Arc<Epoch>,
    ) -> Arc<Generation<C>> {
        let (capacity, bounded) = self.room(max_conns);
        let idle: Idle<Connection<C>> = Idle::new(capacity, shards(), bounded);
        let bucket = server.bucket();
        let list_place = self.servers.list_place;
        let generation = Arc::new(Generation::new(idle, server, number, list_place, epoch));
        self.list.set(number, Some(ListEntry { generation: Arc::clone(&generation), bucket }));
        self.touched.push(number);
        generation
    }

    /// How many idle connections a server has room for, and whether more may be returned.
    fn room(&self, max_conns: u32) -> (usize, bool) {
        let room = self.servers.max_idle.unwrap_or(max_conns.min(MAX_DEFAULT_IDLE));
        (room as usize, room < max_conns)
    }

    /// Publishes the list and refreshes its bits.
    fn publish(self) -> Change<C> {
        let Self { servers, mut registry, list, mut change, touched, maxima, now } = self;
        // Before the list: no more are ever counted than it has.
        let is_disabled = |generation: &&Arc<Generation<C>>| generation.server.health.snapshot().is_disabled();
        servers.count_disabled(-(change.removed.iter().filter(is_disabled).count() as isize));
        let list = Arc::new(list);
        let before = servers.list.swap(Arc::clone(&list));
        servers.notifier.signals.set_list_version(list.version);
        maxima.iter().for_each(|(server, max_conns)| server.permits.set_max(*max_conns));
        // After the publication: a connection that finds its generation closed looks for the next one in the list.
        for (at, generation) in change.closed().enumerate() {
            if servers.current(generation).is_none() {
                let is_removed = at < change.removed.len();
                generation.epoch.end(if is_removed { CloseReason::Removed } else { CloseReason::Reset });
                servers.notifier.server_changed.notify_waiters();
            }
            generation.idle.close();
        }
        for generation in &change.removed {
            generation.server.remove(&servers.serving, now);
            let name = Arc::clone(generation.server.config().shared_name());
            registry.removed.insert(name, Arc::clone(&generation.server));
        }
        if !change.removed.is_empty() || !change.registered.is_empty() {
            let forgettable = |(name, server): (&Arc<str>, &Arc<ServerRecord<C>>)| {
                server.may_be_forgotten(now).then(|| Arc::clone(name))
            };
            let over: Vec<_> = registry.removed.iter().filter_map(forgettable).collect();
            change.forgotten.extend(over.iter().filter_map(|name| registry.removed.remove(name)));
            let draining = registry.removed.values().filter(|server| server.permits.counts().open() > 0).cloned();
            change.draining_before = Some(servers.draining.swap(Arc::new(draining.collect())));
        }
        if !touched.is_empty() {
            // Weights may have changed, also where a server took over the number of another.
            servers.turns_changed();
        }
        let mut numbers = touched;
        if !Arc::ptr_eq(&before.up, &list.up) {
            // Also the numbers without a server: the bit of one that was removed may have been copied.
            numbers = (0..list.up.capacity()).collect();
        }
        // Those that serve first, the best tier before others: callers see no empty set in between.
        let health = |number: &usize| list.entry(*number).map(|entry| entry.server().health.snapshot());
        let rank =
            |number: &usize| health(number).filter(|health| health.serves()).map_or(TIERS, |health| health.tier());
        numbers.sort_by_key(rank);
        numbers.into_iter().for_each(|number| servers.refresh(number));
        drop(registry);
        change
    }
}
