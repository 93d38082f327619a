//! The set of servers: register, deregister, replace, reset, close.
//!
//! One lock serializes the changes. It guards names and free numbers; readers use the published list. A change returns
//! what it did; events, drops of connections and wake-ups, which may run user code, are the caller's, without the lock.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use crate::connector::Connector;
use crate::error::ServerError;
use crate::raw::Idle;
use crate::server::{Connection, Epoch, Generation, Limits, Notifier, PoolLimits, Server, ServerState};
use crate::servers::cache;
use crate::servers::list::{List, Seat};
use crate::servers::shard::shards;
use crate::sync::{Arc, ArcSwap, Guard, Mutex, MutexGuard, Weak, lock};

/// By default a server keeps as many idle connections as it may have open, but no more than this.
const MAX_DEFAULT_IDLE: u32 = 1_024;

/// See the module's page.
pub(crate) struct Servers<C: Connector> {
    list: ArcSwap<List<C>>,
    /// Removed servers, those with open connections among them.
    draining: ArcSwap<Vec<Arc<ServerState<C>>>>,
    registry: Mutex<Registry>,
    notifier: Arc<Notifier>,
    defaults: PoolLimits,
    max_idle: Option<u32>,
    cache_slot: usize,
    /// The pool, for its generations.
    pool: Weak<dyn Any + Send + Sync>,
}

/// Names and numbers of the registered servers.
#[derive(Default)]
struct Registry {
    numbers: HashMap<Arc<str>, usize>,
    /// Numbers of removed servers, given to new ones from the lowest on.
    free: BinaryHeap<Reverse<usize>>,
}

/// What a change did, for the caller to act on.
pub(crate) struct Change<C: Connector> {
    /// The servers that are new.
    pub(crate) registered: Vec<Arc<Generation<C>>>,
    /// The generations of the servers that were removed.
    pub(crate) removed: Vec<Arc<Generation<C>>>,
    /// The generations that others replaced: of the same epoch, since the maximum changed, or of a new one.
    pub(crate) replaced: Vec<Arc<Generation<C>>>,
    /// Removed servers that may be dropped, and with them the user's error: not under the lock.
    forgotten: Option<Arc<Vec<Arc<ServerState<C>>>>>,
}

impl<C: Connector> Change<C> {
    fn none() -> Self {
        Self { registered: Vec::new(), removed: Vec::new(), replaced: Vec::new(), forgotten: None }
    }

    /// The generations that were closed and must be drained.
    pub(crate) fn closed(&self) -> impl Iterator<Item = &Arc<Generation<C>>> {
        self.removed.iter().chain(&self.replaced)
    }
}

impl<C: Connector> Servers<C> {
    pub(crate) fn new(
        notifier: Arc<Notifier>,
        defaults: PoolLimits,
        max_idle: Option<u32>,
        pool: Weak<dyn Any + Send + Sync>,
    ) -> Self {
        let list = List::new(Arc::clone(&notifier.signals));
        notifier.signals.set_list(list.version);
        Self {
            list: ArcSwap::from_pointee(list),
            draining: ArcSwap::default(),
            registry: Mutex::default(),
            notifier,
            defaults,
            max_idle,
            cache_slot: cache::next_slot(),
            pool,
        }
    }

    /// The current list.
    pub(crate) fn list(&self) -> Guard<Arc<List<C>>> {
        self.list.load()
    }

    /// Uses the current list, if this thread keeps it, and the number of the thread.
    #[inline(always)]
    pub(crate) fn with_kept_list<T>(&self, use_list: impl FnOnce(&List<C>, usize) -> T) -> Option<T> {
        cache::with_current(self.cache_slot, self.notifier.signals.list(), use_list)
    }

    /// Keeps the current list for the next call of this thread.
    pub(crate) fn keep_list(&self) {
        cache::keep(self.cache_slot, &self.list.load_full());
    }

    /// Removed servers whose connections have not all come back.
    pub(crate) fn draining(&self) -> Vec<Arc<ServerState<C>>> {
        self.draining.load().iter().filter(|server| server.permits.counts().open() > 0).cloned().collect()
    }

    /// The generation that took over from this one, unless its epoch is over.
    pub(crate) fn current(&self, generation: &Generation<C>) -> Option<Arc<Generation<C>>> {
        let list = self.list.load();
        let seat = list.seat(generation.number)?;
        Arc::ptr_eq(&seat.generation.epoch, &generation.epoch).then(|| Arc::clone(&seat.generation))
    }

    /// Makes the bitmaps say what is true of a number: whether a server is there that is up, and whether it has open
    /// connections. Called after each change of the first, after each connect, and where no connection was found.
    pub(crate) fn follow(&self, number: usize) {
        let is = |fact: fn(&Seat<C>) -> bool| move || self.list.load().seat(number).is_some_and(fact);
        loop {
            let list = self.list.load_full();
            if number < list.up.capacity() {
                list.up.follow(number, is(|seat| seat.server().is_up()));
                list.open.follow(number, is(Seat::is_open));
            }
            // A larger bitmap may have taken the place of this one. Behind the fence of `UpSet::follow`.
            if Arc::ptr_eq(&list.up, &self.list.load().up) {
                return;
            }
        }
    }

    /// Adds one server.
    pub(crate) fn register(&self, server: &Server, now_ns: u64) -> Result<Change<C>, ServerError> {
        let limits = server.limits(&self.defaults)?;
        let mut edit = self.edit(now_ns)?;
        if edit.registry.numbers.contains_key(&**server.shared_name()) {
            return Err(ServerError::Duplicate { address: Arc::clone(server.shared_name()) });
        }
        edit.add(server, limits);
        Ok(edit.publish())
    }

    /// Removes one server.
    pub(crate) fn deregister(&self, name: &str) -> Result<Change<C>, ServerError> {
        let mut edit = self.edit(0)?;
        if !edit.registry.numbers.contains_key(name) {
            return Err(ServerError::Unknown { address: name.into() });
        }
        edit.remove(name);
        Ok(edit.publish())
    }

    /// Replaces the servers as a whole. Those that stay, by name, keep their numbers, connections and state.
    pub(crate) fn set(&self, servers: &[Server], now_ns: u64) -> Result<Change<C>, ServerError> {
        let mut wanted = HashMap::with_capacity(servers.len());
        for server in servers {
            if wanted.insert(Arc::clone(server.shared_name()), server.limits(&self.defaults)?).is_some() {
                return Err(ServerError::Duplicate { address: Arc::clone(server.shared_name()) });
            }
        }
        let mut edit = self.edit(now_ns)?;
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

    /// Begins a new generation of each server: every connection that exists closes.
    pub(crate) fn reset(&self) -> Result<Change<C>, ServerError> {
        let mut edit = self.edit(0)?;
        let numbers: Vec<_> = edit.list.iter().map(|(number, _)| number).collect();
        for number in numbers {
            edit.reset(number);
        }
        Ok(edit.publish())
    }

    /// Removes all servers for good.
    pub(crate) fn close(&self) -> Result<Change<C>, ServerError> {
        let mut edit = self.edit(0)?;
        edit.remove_all(|_| true);
        edit.list.closed = true;
        let change = edit.publish();
        self.notifier.signals.set_closed();
        Ok(change)
    }

    fn edit(&self, now_ns: u64) -> Result<Edit<'_, C>, ServerError> {
        let registry = lock(&self.registry);
        let list = self.list.load();
        if list.closed {
            return Err(ServerError::Closed);
        }
        let list = list.copy();
        Ok(Edit {
            servers: self,
            registry,
            list,
            change: Change::none(),
            touched: Vec::new(),
            maxima: Vec::new(),
            now_ns,
        })
    }
}

/// A change of the set under way, with the lock held. Nothing is visible before it is published.
struct Edit<'a, C: Connector> {
    servers: &'a Servers<C>,
    registry: MutexGuard<'a, Registry>,
    list: List<C>,
    change: Change<C>,
    /// The numbers whose bits must follow.
    touched: Vec<usize>,
    /// The maxima that hold once the list is published: before it, the old generations have no room for more.
    maxima: Vec<(Arc<ServerState<C>>, u32)>,
    /// The time of the change, for new rates.
    now_ns: u64,
}

impl<C: Connector> Edit<'_, C> {
    fn add(&mut self, server: &Server, limits: Limits) {
        let name = Arc::clone(server.shared_name());
        let number = self.registry.free.pop().map_or(self.registry.numbers.len(), |Reverse(number)| number);
        // Connections of an earlier registration are still out: the same permits, tokens and health go on.
        let draining = self.servers.draining.load();
        let known = draining.iter().find(|known| *known.config().name() == *name && known.permits.counts().open() > 0);
        let state = match known {
            Some(known) => {
                known.apply(server.clone(), limits.rate, self.now_ns);
                known.permits.set_max(limits.max_conns);
                Arc::clone(known)
            }
            None => Arc::new(ServerState::new(server.clone(), limits, Arc::clone(&self.servers.notifier))),
        };
        state.set_number(Some(number));
        let generation = self.seat(number, state, limits.max_conns, Arc::default());
        self.registry.numbers.insert(name, number);
        self.change.registered.push(generation);
    }

    /// Removes the servers with these names, in the order of their numbers.
    fn remove_all(&mut self, which: impl Fn(&str) -> bool) {
        let listed = self.list.iter().map(|(_, seat)| seat.server().config());
        for server in listed.filter(|server| which(server.name())).collect::<Vec<_>>() {
            self.remove(server.name());
        }
    }

    fn remove(&mut self, name: &str) {
        let Some(number) = self.registry.numbers.remove(name) else { return };
        self.registry.free.push(Reverse(number));
        if let Some(seat) = self.list.seat(number) {
            self.change.removed.push(Arc::clone(&seat.generation));
        }
        self.list.set(number, None);
        self.touched.push(number);
    }

    /// Changes the settings of a registered server. A larger maximum begins a new generation with more room. So does a
    /// smaller one: connections that come back to a generation that is over are asked whether they may stay.
    fn apply(&mut self, number: usize, server: &Server, limits: Limits) {
        let Some(seat) = self.list.seat(number).cloned() else { return };
        if *seat.server().config() == *server {
            return;
        }
        let is_lower = limits.max_conns < seat.server().permits.counts().max();
        seat.server().apply(server.clone(), limits.rate, self.now_ns);
        self.maxima.push((Arc::clone(seat.server()), limits.max_conns));
        let (capacity, bounded) = self.room(limits.max_conns);
        if seat.generation.idle.fits(capacity, bounded) && !is_lower {
            let bucket = seat.server().bucket();
            self.list.set(number, Some(Seat { bucket, ..seat }));
            self.touched.push(number);
        } else {
            let epoch = Arc::clone(&seat.generation.epoch);
            self.seat(number, Arc::clone(seat.server()), limits.max_conns, epoch);
            self.change.replaced.push(seat.generation);
        }
    }

    fn reset(&mut self, number: usize) {
        let Some(seat) = self.list.seat(number).cloned() else { return };
        let max_conns = seat.server().permits.counts().max();
        self.seat(number, Arc::clone(seat.server()), max_conns, Arc::default());
        self.change.replaced.push(seat.generation);
    }

    /// Puts a server into the list with a new generation.
    fn seat(
        &mut self,
        number: usize,
        server: Arc<ServerState<C>>,
        max_conns: u32,
        epoch: Arc<Epoch>,
    ) -> Arc<Generation<C>> {
        let (capacity, bounded) = self.room(max_conns);
        let idle: Idle<Connection<C>> = Idle::new(capacity, shards(), bounded);
        let bucket = server.bucket();
        let (cache_slot, pool) = (self.servers.cache_slot, Weak::clone(&self.servers.pool));
        let generation = Arc::new(Generation { idle, server, number, cache_slot, pool, epoch });
        self.list.set(number, Some(Seat { generation: Arc::clone(&generation), bucket }));
        self.touched.push(number);
        generation
    }

    /// How many idle connections a server has room for, and whether more may come.
    fn room(&self, max_conns: u32) -> (usize, bool) {
        let room = self.servers.max_idle.unwrap_or(max_conns.min(MAX_DEFAULT_IDLE));
        (room as usize, room < max_conns)
    }

    /// Makes the list the current one, and its bits true.
    fn publish(self) -> Change<C> {
        let Self { servers, registry, list, mut change, touched, maxima, now_ns: _ } = self;
        let list = Arc::new(list);
        let before = servers.list.swap(Arc::clone(&list));
        servers.notifier.signals.set_list(list.version);
        maxima.iter().for_each(|(server, max_conns)| server.permits.set_max(*max_conns));
        // After the publication: a connection that finds its generation closed looks for the next one in the list.
        for generation in change.closed() {
            if servers.current(generation).is_none() {
                generation.epoch.end();
            }
            generation.idle.close();
        }
        let gone = change.removed.iter().map(|generation| {
            generation.server.set_number(None);
            Arc::clone(&generation.server)
        });
        let listed = |server: &ServerState<C>| registry.numbers.contains_key(server.config().name());
        if !change.removed.is_empty() || !change.registered.is_empty() {
            let draining = servers.draining();
            let draining = draining.into_iter().filter(|server| !listed(server)).chain(gone).collect();
            change.forgotten = Some(servers.draining.swap(Arc::new(draining)));
        }
        if Arc::ptr_eq(&before.up, &list.up) {
            touched.iter().for_each(|&number| servers.follow(number));
        } else {
            list.iter().for_each(|(number, _)| servers.follow(number));
        }
        drop(registry);
        change
    }
}
