//! What all servers of a pool share: the list of them, the line, the connector, the clock.

use tokio::sync::Notify;

use crate::clock::{Clock, nanos};
use crate::connector::Connector;
use crate::raw::{Alarm, Bucket, HealthState, Line, Receipt};
use crate::server::cursors::Cursors;
use crate::server::random::Random;
use crate::server::remember::next_slot;
use crate::server::runtime::Runtime;
use crate::server::stripe::{MAX_STRIPES, stripes};
use crate::server::{Entry, List, LiveServer, Words};
use crate::settings::Settings;
use crate::sync::{Arc, ArcSwap, AtomicU64, AtomicUsize, Mutex, Ordering, fence};

/// The value of `tick` while upkeep's task does not run.
const UNATTENDED: u64 = u64::MAX;
/// The value of `tick` while the task runs and does not advance it, because upkeep is off.
const NO_TICK: u64 = u64::MAX - 1;

/// The time in nanoseconds of one acquire, or of one serving of the line: read at most once, when it is asked for.
/// `UNREAD` before.
pub(crate) type Now = u64;

pub(crate) const UNREAD: Now = u64::MAX;

/// See the module's page.
pub(crate) struct Ring<C: Connector> {
    pub(crate) connector: C,
    pub(crate) settings: Settings,
    /// That of the settings; `u64::MAX` if there is none.
    pub(crate) idle_timeout_ns: u64,
    pub(crate) clock: Clock,
    pub(crate) runtime: Runtime,
    pub(crate) list: ArcSwap<List<C>>,
    /// The number of that list, and where threads remember it.
    pub(super) number: AtomicU64,
    pub(super) slot: usize,
    /// How many stripes what is striped has, a power of two.
    pub(crate) stripes: usize,
    /// Held by whoever replaces the list.
    pub(super) registry: Mutex<()>,
    pub(crate) cursors: Cursors<MAX_STRIPES>,
    /// Whose turn it is to be dialled.
    pub(crate) dial_cursor: Cursors<1>,
    pub(crate) line: Line<Grant<C>>,
    /// Dials for the line that are younger than the hedge delay.
    pub(crate) young_dials: AtomicUsize,
    /// Dials for the line that are older.
    pub(crate) late_dials: AtomicUsize,
    pub(crate) alarm: Alarm,
    /// Wakes the task that watches the time for the line.
    pub(crate) bell: Arc<Notify>,
    /// The earliest retry of the servers that are Down, in nanoseconds; `u64::MAX` if there is none.
    next_retry: AtomicU64,
    /// The time in nanoseconds as of the last tick of upkeep, or `NO_TICK`, or `UNATTENDED`.
    tick: AtomicU64,
    /// A connection of a removed server came back.
    pub(crate) returned: Notify,
    /// The pool is closed. Tasks that hold the ring weakly listen.
    pub(crate) ended: Arc<Notify>,
    pub(crate) random: Random,
}

/// What a caller in the line is served with.
pub(crate) struct Grant<C: Connector> {
    pub(crate) entry: Box<Entry<C>>,
    pub(crate) token: Option<Token>,
    /// Straight from its dial: it need not be checked.
    pub(crate) fresh: bool,
}

/// A token that was taken and can be undone.
#[derive(Debug)]
pub(crate) struct Token {
    bucket: Arc<Bucket>,
    receipt: Receipt,
}

impl Token {
    /// Takes a token of a server, if there is one. `Some(None)`: none is needed, nor the time.
    pub(crate) fn take(bucket: Option<&Arc<Bucket>>, read_clock: impl FnOnce() -> u64) -> Option<Option<Self>> {
        match bucket {
            None => Some(None),
            Some(bucket) => {
                let receipt = bucket.take(read_clock())?;
                Some(Some(Self { bucket: Arc::clone(bucket), receipt }))
            }
        }
    }

    /// Gives it back if nobody took one since; else it is forfeit.
    pub(crate) fn undo(self) {
        self.bucket.undo(self.receipt);
    }
}

impl<C: Connector> Ring<C> {
    pub(crate) fn new(
        connector: C,
        settings: Settings,
        clock: Clock,
        runtime: Option<tokio::runtime::Handle>,
    ) -> Arc<Self> {
        let list = List::new(Arc::default(), Vec::new(), false);
        let stripes = stripes();
        Arc::new(Self {
            connector,
            idle_timeout_ns: settings.idle_timeout.map_or(u64::MAX, nanos),
            settings,
            clock,
            runtime: Runtime::new(runtime),
            number: AtomicU64::new(list.number),
            list: ArcSwap::from_pointee(list),
            slot: next_slot(),
            stripes,
            registry: Mutex::new(()),
            cursors: Cursors::new(),
            dial_cursor: Cursors::new(),
            line: Line::new(),
            young_dials: AtomicUsize::new(0),
            late_dials: AtomicUsize::new(0),
            alarm: Alarm::new(),
            bell: Arc::new(Notify::new()),
            next_retry: AtomicU64::new(u64::MAX),
            tick: AtomicU64::new(UNATTENDED),
            returned: Notify::new(),
            ended: Arc::new(Notify::new()),
            random: Random::new(),
        })
    }

    /// The pool's name.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// The time as of the last tick, if somebody advances it.
    pub(crate) fn tick(&self) -> Option<u64> {
        // Relaxed, here and below: a coarse time.
        let tick = self.tick.load(Ordering::Relaxed);
        (tick < NO_TICK).then_some(tick)
    }

    /// The time; reads the clock if it was not read yet.
    #[inline(always)]
    pub(crate) fn now(&self, now: &mut Now) -> u64 {
        if *now == UNREAD {
            *now = self.clock.now_ns();
        }
        *now
    }

    /// The time for when nobody advances the tick. Out of line of the hot path.
    #[cold]
    pub(crate) fn read_clock(&self) -> u64 {
        self.clock.now_ns()
    }

    /// Whether upkeep's task runs.
    pub(crate) fn is_attended(&self) -> bool {
        self.tick.load(Ordering::Relaxed) != UNATTENDED
    }

    /// Upkeep's task runs, and this is its time. True if it ran before.
    pub(crate) fn attend(&self, now_ns: u64) -> bool {
        let tick = if self.settings.maintenance { now_ns } else { NO_TICK };
        self.tick.swap(tick, Ordering::Relaxed) != UNATTENDED
    }

    /// Upkeep's task has ended.
    pub(crate) fn leave_unattended(&self) {
        self.tick.store(UNATTENDED, Ordering::Relaxed);
    }

    /// The earliest retry of the servers that are Down, if any is.
    pub(crate) fn next_retry(&self) -> Option<u64> {
        // Relaxed: who reads it late starts the probe at the next pass.
        let at_ns = self.next_retry.load(Ordering::Relaxed);
        (at_ns != u64::MAX).then_some(at_ns)
    }

    /// A server is Down until `at_ns`: enters that, for the next pass that finds it due.
    pub(crate) fn enter_retry(&self, at_ns: u64) {
        // AcqRel: pairs with the swap of `forget_retries`. The health word was changed before this.
        self.next_retry.fetch_min(at_ns, Ordering::AcqRel);
    }

    /// The same, and for those who wait: the task that watches must not sleep beyond it.
    pub(crate) fn retry_at(&self, at_ns: u64) {
        self.enter_retry(at_ns);
        self.ring_before(at_ns);
    }

    /// Before all servers are looked at for their retries. A server that goes Down meanwhile is either seen by
    /// the look, or enters its retry after this.
    pub(crate) fn forget_retries(&self) {
        // AcqRel: pairs with `enter_retry`.
        self.next_retry.swap(u64::MAX, Ordering::AcqRel);
        // SeqCst: pairs with the fences before `retry_if_down`: that a server is Down, then the look for room there.
        fence(Ordering::SeqCst);
    }

    /// Something changed that may help those who wait. The task that watches for the line does what is to be done.
    pub(crate) fn something_changed(&self) {
        // SeqCst: pairs with the fence of `Line::join`: the change, then the look at the line.
        fence(Ordering::SeqCst);
        if self.line.waiting() > 0 {
            self.bell.notify_one();
        }
    }

    /// Something changes at `at_ns`: the task that watches must not sleep beyond it.
    pub(crate) fn ring_before(&self, at_ns: u64) {
        if self.alarm.must_ring(at_ns) {
            self.bell.notify_one();
        }
    }

    /// A probe that was due may have found no room at `server`, and does now: the next pass tries again.
    #[inline]
    pub(crate) fn retry_if_down(&self, server: &Words<C>) {
        if server.health.snapshot().state() == HealthState::Down {
            self.retry_again(server);
        }
    }

    #[cold]
    fn retry_again(&self, server: &Words<C>) {
        if let Some(at_ns) = server.down_until() {
            self.retry_at(at_ns);
        }
    }

    /// A permit of `server` is free again, or a dial to it has ended: another may start.
    pub(crate) fn room_made(&self, server: &LiveServer<C>) {
        // SeqCst: the room, then the look at the health; pairs with the fence of `forget_retries`.
        fence(Ordering::SeqCst);
        // Before the bell: who is woken by it looks at the retries.
        self.retry_if_down(server);
        self.something_changed();
        if server.idle.is_closed() {
            if server.permits.open() == 0 {
                server.log_gone();
            }
            self.returned.notify_waiters();
        }
    }
}
