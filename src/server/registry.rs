//! Servers come and go: register, deregister, set, close.
//!
//! The registry's lock orders those who replace the list. Connections are dropped, events are recorded and callers are
//! woken after it is let go: all that may run user code. So may the drop of a server, which drops its last error:
//! whoever looks at those that drain holds them all until the lock is let go, lest it be the last to do so.

use std::collections::{HashMap, HashSet};
use std::iter;

use crate::connector::Connector;
use crate::error::ServerError;
use crate::server::{Entry, Limits, List, LiveServer, Ring, Server, near};
use crate::sync::{Arc, Weak, lock};

impl<C: Connector> Ring<C> {
    /// Adds one server.
    pub(crate) fn register(self: &Arc<Self>, server: &Server) -> Result<(), ServerError> {
        let draining: Vec<_>;
        {
            let _registry = lock(&self.registry);
            let list = self.open_list()?;
            draining = list.draining().collect();
            if list.servers.iter().any(|listed| *listed.address == *server.address()) {
                return Err(ServerError::Duplicate { address: Arc::clone(server.shared_address()) });
            }
            let known = draining.iter().find(|draining| *draining.address == *server.address());
            let added = self.enlist(known.cloned(), server, server.limits(&self.settings.limits)?);
            self.replace(&list, list.servers.iter().cloned().chain([added]).collect());
        }
        self.log_registered(server.address());
        self.something_changed();
        Ok(())
    }

    /// Removes one server.
    pub(crate) fn deregister(&self, address: &str) -> Result<(), ServerError> {
        let _draining: Vec<_>;
        let removed = {
            let _registry = lock(&self.registry);
            let list = self.open_list()?;
            _draining = list.draining().collect();
            let (removed, stay): (Vec<_>, Vec<_>) =
                list.servers.iter().cloned().partition(|server| *server.address == *address);
            if removed.is_empty() {
                return Err(ServerError::Unknown { address: address.into() });
            }
            self.replace(&list, stay.into());
            removed
        };
        let idle = self.remove(&removed);
        // Those that are down may be the last resort now.
        self.something_changed();
        drop(idle);
        Ok(())
    }

    /// Replaces the servers as a whole; those that stay, by address, keep connections and state.
    pub(crate) fn set_servers(self: &Arc<Self>, servers: &[Server]) -> Result<(), ServerError> {
        let mut addresses = HashSet::new();
        let mut limits = Vec::new();
        for server in servers {
            limits.push(server.limits(&self.settings.limits)?);
            if !addresses.insert(server.address()) {
                return Err(ServerError::Duplicate { address: Arc::clone(server.shared_address()) });
            }
        }
        let draining: Vec<_>;
        let (removed, added) = {
            let _registry = lock(&self.registry);
            let list = self.open_list()?;
            draining = list.draining().collect();
            let known = draining.iter().cloned().chain(list.servers.iter().cloned());
            let mut known: HashMap<Arc<str>, _> = known.map(|server| (Arc::clone(&server.address), server)).collect();
            let listed = servers.iter().zip(limits);
            let listed =
                listed.map(|(server, limits)| self.enlist(known.remove(server.address()), server, limits)).collect();
            self.replace(&list, listed);
            let removed: Vec<_> =
                list.servers.iter().filter(|server| !addresses.contains(&*server.address)).cloned().collect();
            for server in list.servers.iter() {
                addresses.remove(&*server.address);
            }
            (removed, addresses)
        };
        added.into_iter().for_each(|address| self.log_registered(address));
        let idle = self.remove(&removed);
        self.something_changed();
        drop(idle);
        Ok(())
    }

    /// Closes the pool: no server is left, nobody waits. What is out goes on until it comes back.
    pub(crate) fn shut(&self) {
        let removed = {
            let _registry = lock(&self.registry);
            let Ok(list) = self.open_list() else { return };
            let draining = list.draining.iter().cloned().chain(list.servers.iter().map(Arc::downgrade)).collect();
            self.publish(Arc::new(List::new(Arc::default(), draining, true)));
            list.servers.iter().for_each(|server| server.idle.close());
            Arc::clone(&list.servers)
        };
        let idle = self.remove(&removed);
        self.bell.notify_one();
        self.ended.notify_waiters();
        drop(idle);
    }

    /// How many connections of removed servers have not come back.
    pub(crate) fn still_out(&self) -> usize {
        self.list.load().draining().map(|server| server.permits.open() as usize).sum()
    }

    /// Makes the list anew because a server went down or up.
    pub(crate) fn refresh(&self) {
        let _registry = lock(&self.registry);
        let list = self.list.load();
        let draining = list.draining.clone();
        self.publish(Arc::new(List::new(Arc::clone(&list.servers), draining, list.closed)));
    }

    fn open_list(&self) -> Result<Arc<List<C>>, ServerError> {
        let list = self.list.load_full();
        if list.closed { Err(ServerError::Closed) } else { Ok(list) }
    }

    /// The live server for a description: the known one, listed or draining, with the limits applied, or a new one.
    fn enlist(
        self: &Arc<Self>,
        known: Option<Arc<LiveServer<C>>>,
        server: &Server,
        limits: Limits,
    ) -> Arc<LiveServer<C>> {
        let Some(known) = known else { return LiveServer::new(self, server, limits) };
        known.apply(server, limits, self.clock.now_ns());
        known.idle.reopen();
        known
    }

    fn log_registered(&self, address: &str) {
        tracing::info!(pool = %self.name(), server = %address, state = "registered", "server is registered");
    }

    /// Publishes a new set of servers; those that fell out drain.
    fn replace(&self, list: &List<C>, servers: Arc<[Arc<LiveServer<C>>]>) {
        let stay: HashSet<_> = servers.iter().map(Arc::as_ptr).collect();
        let before = list.draining().chain(list.servers.iter().cloned());
        let drain: Vec<_> = before.filter(|server| !stay.contains(&Arc::as_ptr(server))).collect();
        let draining: Vec<Weak<_>> = drain.iter().map(Arc::downgrade).collect();
        let list = Arc::new(List::new(servers, draining, false));
        self.publish(Arc::clone(&list));
        // While they drained, nobody looked after their retries. Behind the store: a probe that takes a retry out looks
        // at the list afterwards.
        list.servers.iter().for_each(|server| self.retry_if_down(server));
        // Under the lock, so that no server is closed after it was registered again.
        drain.iter().for_each(|server| server.idle.close());
    }

    /// Clears out servers that have left the list: ends their dials, takes out their idle connections. If none is left,
    /// those who wait learn of it.
    ///
    /// The caller drops what is returned at its very end: a drop that panics then keeps nothing else from being done,
    /// and a vector drops the others all the same.
    #[must_use]
    fn remove(&self, removed: &[Arc<LiveServer<C>>]) -> Vec<Box<Entry<C>>> {
        let mut taken_out = Vec::new();
        for server in removed {
            tracing::info!(pool = %self.name(), server = %server.address, state = "draining", "server is removed");
            server.removed.notify_waiters();
            // The last permit that comes back says that the server is gone; here, if there is none.
            let gone = server.permits.open() == 0;
            taken_out.extend(iter::from_fn(|| server.idle.pop(near())));
            if gone {
                server.log_gone();
            }
        }
        if self.list.load().servers.is_empty() {
            self.line.wake_all();
        }
        taken_out
    }
}

impl<C: Connector> LiveServer<C> {
    pub(super) fn log_gone(&self) {
        tracing::info!(pool = %self.ring.name(), server = %self.address, state = "gone", "server is gone");
    }
}
