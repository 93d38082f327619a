//! The servers of a pool: the list, its changes, the rotation, and the list that each thread keeps.

mod list;
mod rotation;
mod set;
mod thread;
mod tiers;

use std::time::Duration;

pub(crate) use self::list::{List, ListEntry, Usable};
pub(crate) use self::rotation::{GOLDEN, Rotation, mix};
use self::set::Registry;
pub(crate) use self::set::{Change, TurnsUpkeep};
use self::thread::next_place;
#[cfg(feature = "test-util")]
pub use self::thread::set_shard;
pub(crate) use self::thread::{MAX_SHARDS, drop_closed_lists, thread_number, with_kept_list};
use crate::connector::Connector;
use crate::load_balancing::LoadBalancing;
use crate::raw::{Changed, Serving, TierInUse};
use crate::server::{Generation, Notifier, PoolLimits, ServerRecord};
use crate::sync::{Arc, ArcSwap, AtomicUsize, Guard, Mutex};

/// By default a server keeps as many idle connections as it may have open, but no more than this.
pub(crate) const MAX_DEFAULT_IDLE: u32 = 1_024;

/// See the module's page.
pub(crate) struct Servers<C: Connector> {
    list: ArcSwap<List<C>>,
    /// Removed servers; some still have open connections.
    draining: ArcSwap<Vec<Arc<ServerRecord<C>>>>,
    registry: Mutex<Registry<C>>,
    pub(crate) serving: Serving,
    tier: TierInUse,
    /// Held while another tier comes into use.
    switching: Mutex<()>,
    /// The up set or a weight has changed since the turns were computed.
    turns_changed: Changed,
    slow_start: Option<Duration>,
    /// How many registered servers are disabled. Written under the lock.
    disabled: AtomicUsize,
    notifier: Arc<Notifier>,
    defaults: PoolLimits,
    max_idle: Option<u32>,
    list_place: u32,
}

impl<C: Connector> Servers<C> {
    pub(crate) fn new(
        notifier: Arc<Notifier>,
        policy: LoadBalancing,
        defaults: PoolLimits,
        max_idle: Option<u32>,
        slow_start: Option<Duration>,
    ) -> Self {
        let list = List::new(Arc::clone(&notifier.signals), policy);
        notifier.signals.set_in_turn(policy != LoadBalancing::LeastInUse);
        notifier.signals.set_list_version(list.version);
        Self {
            list: ArcSwap::from_pointee(list),
            draining: ArcSwap::default(),
            registry: Mutex::default(),
            serving: Serving::default(),
            tier: TierInUse::default(),
            switching: Mutex::default(),
            turns_changed: Changed::default(),
            slow_start,
            disabled: AtomicUsize::new(0),
            notifier,
            defaults,
            max_idle,
            list_place: next_place(),
        }
    }

    /// The current list.
    pub(crate) fn list(&self) -> Guard<Arc<List<C>>> {
        self.list.load()
    }

    /// Removed servers with open connections.
    pub(crate) fn draining(&self) -> Vec<Arc<ServerRecord<C>>> {
        self.draining.load().iter().filter(|server| server.permits.counts().open() > 0).cloned().collect()
    }

    /// The generation that took over from this one, unless its epoch is over.
    pub(crate) fn current(&self, generation: &Generation<C>) -> Option<Arc<Generation<C>>> {
        let list = self.list.load();
        let entry = list.entry(generation.number())?;
        generation.passes_on_to(&entry.generation).then(|| Arc::clone(&entry.generation))
    }
}
