//! One server: an idle queue and a few atomic words; and the ring of all servers of a pool.

mod cursors;
mod entry;
mod limits;
mod list;
mod random;
mod registry;
mod remember;
mod report;
mod ring;
mod runtime;
mod stripe;

use std::error::Error;
use std::ops::Deref;

use tokio::sync::Notify;

use crate::clock::between;
use crate::connector::Connector;
use crate::error::Failure;
use crate::raw::{
    Bucket, Generation, Health, HealthState, Idle, Pause, Permits, Probe, ProbeOwner, Reported, Snapshot,
};
use crate::sync::{Arc, ArcSwap, ArcSwapOption, AtomicU64, Ordering, Weak};

pub(crate) use self::entry::{Entry, Permit, close};
pub use self::limits::Server;
pub(crate) use self::list::{List, Seat, Seats, Turn};
pub(crate) use self::ring::{Grant, Now, Ring, Token, UNREAD};
pub(crate) use self::stripe::near;
#[cfg(feature = "test-util")]
pub use self::stripe::set_shard;

use self::limits::Limits;

/// The idle queue's default capacity is the server's `max_conns`, but no more than this.
const MAX_DEFAULT_IDLE: u32 = 1_024;

/// A registered server: "live", because it goes on while connections are out, also after it was deregistered.
///
/// References form a cycle, from the ring's list to the server, and from the server's idle connections and its `ring`
/// back. It is cut when the server is deregistered or the pool closes: the list lets it go and the idle queue is closed
/// and drained.
pub(crate) struct LiveServer<C: Connector> {
    pub(crate) address: Arc<str>,
    /// As it was registered last.
    registered: ArcSwap<Server>,
    pub(crate) ring: Arc<Ring<C>>,
    pub(crate) words: Arc<Words<C>>,
    /// One for each stripe of the idle queue.
    holds: Arc<[Arc<Hold<C>>]>,
    pub(crate) pause: Pause,
    /// Dials under way: a plain counter, raised before a dial starts and lowered when it has ended.
    dialing: AtomicU64,
    bucket: ArcSwapOption<Bucket>,
    last_failure: ArcSwapOption<Failure<C::Error>>,
    /// Ends the dials under way when the server is removed.
    pub(crate) removed: Notify,
}

/// A server is a queue and a few atomic words. They refer to nothing else, and share no cache line with what is written
/// more often.
#[repr(align(64))]
pub(crate) struct Words<C: Connector> {
    pub(crate) idle: Idle<Box<Entry<C>>>,
    pub(crate) permits: Permits,
    pub(crate) health: Health,
}

/// What a release needs of a server beyond its connection, which is another's once it is pushed. The count of the
/// server's own references would be a cache line that all cores fight for.
pub(crate) struct Hold<C: Connector> {
    pub(crate) words: Arc<Words<C>>,
    pub(crate) ring: Arc<Ring<C>>,
    pub(crate) server: Weak<LiveServer<C>>,
    /// The stripe of the idle queue that it is for.
    pub(crate) near: usize,
    /// With the two counts, it makes 128 bytes: no two counts that are used share cache lines.
    _apart: [u64; 10],
}

impl<C: Connector> Words<C> {
    /// Puts a connection into the idle queue, near a stripe. What may not stay goes to `refuse`. Fences.
    #[inline]
    pub(crate) fn keep(&self, entry: Box<Entry<C>>, near: usize, refuse: impl FnMut(Box<Entry<C>>)) {
        // Counted are those under way too, and this one.
        let may_be_full = || self.permits.open() as usize > self.idle.capacity();
        self.idle.push(entry, near, may_be_full, refuse);
    }

    /// When it is retried, in nanoseconds, if it is Down.
    #[inline]
    pub(crate) fn down_until(&self) -> Option<u64> {
        let health = self.health.snapshot();
        (health.state() == HealthState::Down).then(|| health.retry_at())
    }
}

impl<C: Connector> LiveServer<C> {
    fn new(ring: &Arc<Ring<C>>, registered: &Server, limits: Limits) -> Arc<Self> {
        let max_idle = ring.settings.max_idle_per_server.unwrap_or(limits.max_conns.min(MAX_DEFAULT_IDLE));
        let words = Arc::new(Words {
            idle: Idle::new(max_idle as usize, ring.stripes),
            permits: Permits::new(limits.max_conns),
            health: Health::new(),
        });
        let hold = |server: &Weak<Self>, near| Hold {
            words: Arc::clone(&words),
            ring: Arc::clone(ring),
            server: Weak::clone(server),
            near,
            _apart: [0; 10],
        };
        Arc::new_cyclic(|server| Self {
            holds: (0..words.idle.stripes()).map(|near| Arc::new(hold(server, near))).collect(),
            address: Arc::clone(registered.shared_address()),
            registered: ArcSwap::from_pointee(registered.clone()),
            ring: Arc::clone(ring),
            words: Arc::clone(&words),
            pause: Pause::new(),
            dialing: AtomicU64::new(0),
            bucket: ArcSwapOption::new(limits.rate.map(|rate| Arc::new(Bucket::new(rate)))),
            last_failure: ArcSwapOption::empty(),
            removed: Notify::new(),
        })
    }

    /// Changes the settings. Only under the registry's lock.
    fn apply(&self, registered: &Server, limits: Limits, now_ns: u64) {
        self.registered.store(Arc::new(registered.clone()));
        self.permits.set_max(limits.max_conns);
        match (self.bucket(), limits.rate) {
            (Some(bucket), Some(rate)) if bucket.rate() == rate => {}
            (Some(bucket), Some(rate)) => self.bucket.store(Some(Arc::new(bucket.successor(rate, now_ns)))),
            (None, Some(rate)) => self.bucket.store(Some(Arc::new(Bucket::new(rate)))),
            (_, None) => self.bucket.store(None),
        }
    }

    /// The server as it was registered last.
    pub(crate) fn registered(&self) -> Arc<Server> {
        self.registered.load_full()
    }

    pub(crate) fn bucket(&self) -> Option<Arc<Bucket>> {
        self.bucket.load_full()
    }

    pub(crate) fn dialing(&self) -> u32 {
        // Relaxed: a plain counter.
        self.dialing.load(Ordering::Relaxed) as u32
    }

    /// Counts one more dial under way, if fewer than `max` are.
    pub(crate) fn begin_dial(&self, max: u32) -> bool {
        // Relaxed: a plain counter.
        let begin = |dialing| (dialing < u64::from(max)).then_some(dialing + 1);
        self.dialing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, begin).is_ok()
    }

    pub(crate) fn end_dial(&self) {
        // Relaxed: a plain counter.
        self.dialing.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a dial may start now, but for the server's health.
    pub(crate) fn may_dial(&self, now_ns: u64) -> bool {
        self.permits.is_free()
            && self.dialing() < self.ring.settings.max_concurrent_connects_per_server
            && self.pause.until() <= now_ns
    }

    /// Whether a token is there, or none is needed.
    pub(crate) fn has_token(&self, now_ns: u64) -> bool {
        self.bucket().is_none_or(|bucket| bucket.has_token(now_ns))
    }

    /// When to retry after that many failures in a row.
    fn retry_at(&self, now_ns: u64) -> impl Fn(u32) -> u64 + '_ {
        move |failures| now_ns.saturating_add(self.ring.settings.backoff.interval_ns(failures, self.ring.random.draw()))
    }

    /// A dial of `generation` failed and the server is to blame.
    pub(crate) fn dial_failed(&self, generation: Generation, failure: Failure<C::Error>) {
        let now_ns = self.ring.clock.now_ns();
        if let Some(down) = self.health.dial_failed(generation, self.retry_at(now_ns)) {
            self.went_down(down, failure, now_ns);
        }
    }

    /// The probe failed and the server is to blame.
    pub(crate) fn probe_failed(&self, probe: ServerProbe<C>, failure: Failure<C::Error>) {
        let now_ns = self.ring.clock.now_ns();
        let down = probe.failed(self.retry_at(now_ns));
        self.went_down(down, failure, now_ns);
    }

    /// A caller reported a failure of a connection of `generation`.
    pub(crate) fn reported(&self, generation: Generation, reason: String) {
        let now_ns = self.ring.clock.now_ns();
        let failure = Failure::Reported(reason.into());
        match self.health.reported(generation, self.ring.settings.fail_threshold, self.retry_at(now_ns)) {
            Reported::Down(down) => self.went_down(down, failure, now_ns),
            Reported::Strike | Reported::Ignored => {
                tracing::debug!(
                    pool = %self.ring.name(), server = %self.address, cause = %chain(&failure),
                    "failure reported"
                );
            }
        }
    }

    /// A connection of `generation` was released, and that changes the health.
    #[cold]
    pub(crate) fn released(&self, generation: Generation) {
        if self.health.released(generation) {
            tracing::info!(pool = %self.ring.name(), server = %self.address, state = "up", "server is up");
        }
    }

    /// A dial failed by the client's own fault.
    pub(crate) fn dial_paused(&self, error: C::Error) {
        let now_ns = self.ring.clock.now_ns();
        if self.pause.failed(now_ns, self.retry_at(now_ns)) {
            let retry_after = between(now_ns, self.pause.until());
            tracing::warn!(
                pool = %self.ring.name(), server = %self.address, cause = %chain(&Failure::Connect(error)),
                ?retry_after,
                "connecting pauses by the client's own fault"
            );
        }
        self.ring.ring_before(self.pause.until());
    }

    /// The probe succeeded.
    pub(crate) fn on_trial(&self) {
        tracing::info!(pool = %self.ring.name(), server = %self.address, state = "recovering", "server is recovering");
        self.ring.refresh();
        self.ring.something_changed();
    }

    /// The word says Down since just now.
    fn went_down(&self, down: Snapshot, failure: Failure<C::Error>, now_ns: u64) {
        let retry_after = between(now_ns, down.retry_at());
        tracing::warn!(
            pool = %self.ring.name(), server = %self.address, state = "down", cause = %chain(&failure),
            failures = down.failures(), ?retry_after,
            "server is down"
        );
        self.last_failure.store(Some(Arc::new(failure)));
        self.ring.refresh();
        self.ring.retry_at(down.retry_at());
    }
}

impl<C: Connector> Deref for LiveServer<C> {
    type Target = Words<C>;

    fn deref(&self) -> &Words<C> {
        &self.words
    }
}

impl<C: Connector> ProbeOwner for Arc<LiveServer<C>> {
    fn health(&self) -> &Health {
        &self.health
    }

    fn retry_at_after_drop(&self) -> u64 {
        self.retry_at(self.ring.clock.now_ns())(1)
    }

    fn probe_dropped(&self, down: Snapshot) {
        self.went_down(down, Failure::Abandoned, self.ring.clock.now_ns());
    }
}

/// The probe of a server.
pub(crate) type ServerProbe<C> = Probe<Arc<LiveServer<C>>>;

/// An error and its sources in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
