//! A pool on a manual clock, with a scripted connector, load and a record of its events.
//!
//! Everything runs on the calling thread: a step advances the clock, then lets all tasks run. So a run is the same each
//! time for the same seed, and takes much less than the time that it simulates.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connring::test_util::{ScriptedConnector, set_shard};
use connring::{Builder, Clock, Pool};
use tokio::runtime::Runtime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

use crate::contestants::current_thread;

/// How often all tasks run after a step: a release wakes a waiter, whose request ends in the same step.
const TURNS: u32 = 4;

/// A change of a server's state.
#[derive(Clone)]
pub struct Change {
    pub at: Duration,
    pub server: String,
    pub state: String,
}

/// See the module's page.
pub struct World {
    pub pool: Pool<ScriptedConnector>,
    pub connector: ScriptedConnector,
    pub clock: Clock,
    changes: Arc<Mutex<Vec<Change>>>,
    runtime: Runtime,
    /// Events are recorded for as long as this lives.
    _recording: DefaultGuard,
}

impl World {
    pub fn new(
        seed: u64,
        servers: &[&str],
        build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>,
    ) -> Self {
        set_shard(0);
        let (clock, changes) = (Clock::manual(), Arc::<Mutex<Vec<Change>>>::default());
        let recorder = Recorder { clock: clock.clone(), changes: Arc::clone(&changes) };
        let subscriber = registry().with(LevelFilter::INFO).with(recorder);
        let recording = tracing::subscriber::set_default(subscriber);
        let (runtime, connector) = (current_thread(), ScriptedConnector::new(clock.clone()));
        let builder = Pool::builder(connector.clone()).clock(clock.clone()).seed(seed).servers(servers.iter().copied());
        let pool = build(builder).runtime(runtime.handle().clone()).build().expect("in range");
        Self { pool, connector, clock, changes, runtime, _recording: recording }
    }

    /// Runs a future, on the time at which it finds the clock.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Starts `rps` requests a second, evenly, and lets `time` pass in steps.
    pub fn load<F>(&self, time: Duration, step: Duration, rps: u32, request: impl Fn() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.block_on(async {
            let (began, mut sent) = (self.clock.now(), 0);
            while self.clock.now() < began + time {
                self.clock.advance(step);
                let due = ((self.clock.now() - began).as_nanos() * u128::from(rps) / 1_000_000_000) as u64;
                for _ in sent..due {
                    tokio::spawn(request());
                }
                sent = due;
                for _ in 0..TURNS {
                    tokio::task::yield_now().await;
                }
            }
        });
    }

    /// Lets `time` pass in steps, without load.
    pub fn pass(&self, time: Duration, step: Duration) {
        self.load(time, step, 0, || async {});
    }

    /// The changes of state since the beginning, in order.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When a server first came to that state.
    pub fn first(&self, server: &str, state: &str) -> Option<Duration> {
        let is_it = |change: &Change| change.server == server && change.state == state;
        self.changes().into_iter().find(is_it).map(|change| change.at)
    }

    /// How often any server was taken out of use.
    pub fn outages(&self) -> usize {
        self.changes().iter().filter(|change| matches!(&*change.state, "down" | "ejected")).count()
    }
}

/// Waits on a clock.
pub async fn sleep(clock: &Clock, time: Duration) {
    clock.sleep_until(clock.now() + time).await;
}

/// Random numbers that follow from a seed: SplitMix64.
pub struct Draws(Mutex<u64>);

impl Draws {
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// Returns true with that probability.
    pub fn happens(&self, probability: f64) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let uniform = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        uniform < probability
    }
}

/// Records the events that have a state.
struct Recorder {
    clock: Clock,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Fields { server: Some(server), state: Some(state) } = fields {
            let change = Change { at: self.clock.now(), server, state };
            self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        }
    }
}

#[derive(Default)]
struct Fields {
    server: Option<String>,
    state: Option<String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "server" => self.server = Some(value.to_owned()),
            "state" => self.state = Some(value.to_owned()),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::{Draws, World};

    const STEP: Duration = Duration::from_millis(10);

    #[test]
    fn records_changes_with_their_times() {
        let world = World::new(0, &["a"], |builder| builder);
        world.connector.on_connect("a", connring::test_util::Connect::Refuse);
        world.pass(Duration::from_secs(1), STEP);
        let pool = world.pool.clone();
        assert!(world.block_on(pool.acquire_now()).is_err(), "it refuses");
        assert_eq!((world.first("a", "registered"), world.first("a", "up")), (Some(Duration::ZERO), None));
        assert_eq!((world.first("a", "down"), world.outages()), (Some(Duration::from_secs(1)), 1));
    }

    #[test]
    fn starts_as_many_requests_as_told() {
        let (world, served) = (World::new(0, &["a"], |builder| builder), Arc::<AtomicU64>::default());
        world.load(Duration::from_secs(2), STEP, 30, || {
            let (pool, served) = (world.pool.clone(), Arc::clone(&served));
            async move {
                pool.acquire().await.expect("a connection").release();
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        assert_eq!((world.connector.counts("a").connected, served.load(Ordering::Relaxed)), (1, 60));
    }

    #[test]
    fn draws_follow_their_probability_and_their_seed() {
        let draw = |seed| {
            let draws = Draws::new(seed);
            (0..1_000).filter(|_| draws.happens(0.5)).count()
        };
        assert!((450..550).contains(&draw(1)), "{}", draw(1));
        assert_eq!((draw(1), draw(2) == draw(1)), (draw(1), false));
    }
}
