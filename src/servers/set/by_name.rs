//! Finds a server by its name, and disables and enables it.
//!
//! Each change happens under the lock of the registry. So only a registered server is disabled, and the end of an older
//! order does not end a newer one.

use super::{Registry, Servers};
use crate::connector::Connector;
use crate::error::ServerError;
use crate::raw::Time;
use crate::server::Generation;
use crate::sync::{Arc, Ordering, lock};

impl<C: Connector> Servers<C> {
    /// The generation of a registered server.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Generation<C>>> {
        self.registered(&lock(&self.registry), name).ok()
    }

    fn registered(&self, registry: &Registry<C>, name: &str) -> Result<Arc<Generation<C>>, ServerError> {
        let list = self.list.load();
        if list.closed {
            return Err(ServerError::Closed);
        }
        let found = registry.numbers.get(name).and_then(|&number| list.generation(number));
        found.ok_or_else(|| ServerError::Unknown { name: name.into() })
    }

    /// How many registered servers are disabled. A hint.
    pub(crate) fn disabled(&self) -> usize {
        // Relaxed: a hint.
        self.disabled.load(Ordering::Relaxed)
    }

    /// Counts servers that are disabled or enabled. Only under the lock.
    pub(super) fn count_disabled(&self, change: isize) {
        // Relaxed: the lock orders the writers.
        let disabled = self.disabled.load(Ordering::Relaxed).checked_add_signed(change);
        self.disabled.store(disabled.expect("more servers were enabled than disabled"), Ordering::Relaxed);
    }

    /// Disables a server from `now` until a time; [`Time::NEVER`]: without end.
    pub(crate) fn disable(&self, name: &str, until: Time, now: Time) -> Result<Arc<Generation<C>>, ServerError> {
        let registry = lock(&self.registry);
        let generation = self.registered(&registry, name)?;
        self.count_disabled(isize::from(generation.server.disable(&self.serving, until, now)));
        self.refresh(generation.number());
        Ok(generation)
    }

    /// Enables a server. `None` if it was not disabled.
    pub(crate) fn enable(&self, name: &str, now: Time) -> Result<Option<Arc<Generation<C>>>, ServerError> {
        let registry = lock(&self.registry);
        let generation = self.registered(&registry, name)?;
        Ok(self.enable_found(generation, now))
    }

    /// Enables the server of a number if it is disabled until `now` or before.
    pub(crate) fn enable_if_due(&self, number: usize, now: Time) -> Option<Arc<Generation<C>>> {
        let _registry = lock(&self.registry);
        let generation = self.list.load().generation(number)?;
        let is_due = generation.server.disabled_until().is_some_and(|until| until <= now);
        if is_due { self.enable_found(generation, now) } else { None }
    }

    /// Only under the lock.
    fn enable_found(&self, generation: Arc<Generation<C>>, now: Time) -> Option<Arc<Generation<C>>> {
        let was_disabled = generation.server.enable(&self.serving, now);
        self.count_disabled(-isize::from(was_disabled));
        self.refresh(generation.number());
        was_disabled.then_some(generation)
    }
}
