//! What all parts of a pool share. It holds the parts; its methods tell the time.

use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::connector::Connector;
use crate::core::attempt_counts::AttemptCounts;
use crate::core::drops::Drops;
use crate::core::due_times::DueTimes;
use crate::core::first_sets::FirstSets;
use crate::core::grant::Grant;
use crate::core::random::Random;
use crate::core::runtime::Runtime;
use crate::core::wish::WaiterWish;
use crate::observer::Observer;
use crate::raw::{Signals, Time, WaitQueue};
use crate::server::{Notifier, ServerRecord};
use crate::servers::{MAX_SHARDS, Rotation, Servers};
use crate::settings::Settings;
use crate::sync::{Arc, Weak};

/// See the module's page.
pub(crate) struct Shared<C: Connector> {
    pub(crate) connector: Arc<C>,
    pub(crate) settings: Settings,
    /// A connection that was idle for so long is not checked out. `Time::NEVER` without an idle timeout, or with a
    /// minimum of idle connections: then only sweeps close.
    pub(crate) idle_limit: Time,
    pub(crate) clock: Clock,
    /// The same as those of the notifier.
    pub(crate) signals: Arc<Signals>,
    pub(crate) servers: Servers<C>,
    /// The order in which callers try the servers.
    pub(crate) rotation: Rotation<MAX_SHARDS>,
    /// The order in which callers and waiters try standby servers.
    pub(crate) standby_rotation: Rotation<MAX_SHARDS>,
    /// The order in which they try servers with open connections, whether up or not.
    pub(crate) open_rotation: Rotation<MAX_SHARDS>,
    /// The order in which servers are connected to.
    pub(crate) connect_rotation: Rotation<1>,
    pub(crate) queue: WaitQueue<Grant<C>, WaiterWish>,
    pub(crate) notifier: Arc<Notifier>,
    pub(crate) attempts: Arc<AttemptCounts>,
    pub(crate) drops: Drops,
    pub(crate) due_times: DueTimes,
    pub(crate) first_sets: FirstSets,
    pub(crate) runtime: Runtime,
    pub(crate) random: Random,
}

impl<C: Connector> Shared<C> {
    pub(crate) fn new(
        connector: C,
        settings: Settings,
        clock: Clock,
        runtime: Option<Handle>,
        observer: Option<Box<dyn Observer>>,
    ) -> Arc<Self> {
        let seed = settings.seed.unwrap_or_else(Random::any_seed);
        // The first server of a fresh pool is a random one.
        let start = (seed % 1_048_576) as usize;
        // Without maintenance there is no tick by which weights ramp up.
        let slow_start = settings.slow_start.filter(|_| settings.maintenance);
        let idle_timeout = settings.idle_timeout.filter(|_| settings.min_idle() == 0);
        Arc::new_cyclic(|weak: &Weak<Self>| {
            let notifier = Arc::new(Notifier::new(weak.clone(), Arc::clone(&settings.name), clock.clone(), observer));
            let (policy, limits, max_idle) = (settings.load_balancing, settings.limits, settings.max_idle_per_server);
            Self {
                idle_limit: idle_timeout.map_or(Time::NEVER, |timeout| Time::ZERO.after(timeout)),
                signals: Arc::clone(&notifier.signals),
                servers: Servers::new(Arc::clone(&notifier), policy, limits, max_idle, slow_start),
                rotation: Rotation::new(start),
                standby_rotation: Rotation::new(start),
                open_rotation: Rotation::new(start),
                connect_rotation: Rotation::new(start),
                queue: WaitQueue::new(Arc::clone(&notifier.signals)),
                attempts: Arc::new(AttemptCounts::new(Arc::clone(&notifier))),
                drops: Drops::default(),
                due_times: DueTimes::default(),
                first_sets: FirstSets::default(),
                runtime: Runtime::new(runtime),
                connector: Arc::new(connector),
                settings,
                clock,
                notifier,
                random: Random::new(seed),
            }
        })
    }

    /// The time of a checkout: the tick, or the clock's where none is stored or exact times are asked for.
    #[inline(always)]
    pub(crate) fn checkout_time(&self) -> Time {
        /// Out of line of the hot path.
        #[cold]
        fn read(clock: &Clock) -> Time {
            clock.time()
        }
        self.signals.tick().filter(|_| !self.settings.exact_times).unwrap_or_else(|| read(&self.clock))
    }

    /// The tick, or the time where none is stored.
    pub(crate) fn coarse_time(&self) -> Time {
        self.signals.tick().unwrap_or_else(|| self.clock.time())
    }
}

/// Returns the pool of a server, if it has not been dropped.
pub(crate) fn pool_of<C: Connector>(server: &ServerRecord<C>) -> Option<Arc<Shared<C>>> {
    server.notifier().pool.upgrade()?.downcast().ok()
}
