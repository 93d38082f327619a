//! The state of one server: permits, health, pause, rate bucket and the last failure.
//!
//! A server refers to its pool's [`Notifier`] only, which holds the pool weakly. `core::transition` changes the health.

use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::error::Failure;
use crate::raw::{Answered, Breaker, BreakerState, Bucket, Gauge, Health, Permits, Serving, Strikes, Time};
use crate::server::config::{Limits, Server};
use crate::server::idle_history::IdleHistory;
use crate::server::recent_results::RecentResults;
use crate::server::{Notifier, Total, Totals, Weight};
use crate::status::StateKind;
use crate::sync::{
    Arc, ArcSwap, ArcSwapOption, AtomicBool, AtomicU8, AtomicU32, AtomicU64, Mutex, MutexGuard, OnceLock, Ordering,
    fence, lock,
};

/// See the module's page. It outlives the removal of its server while connections are in use.
///
/// In the order of its cache lines: what each release reads comes first, what each checkout may write last. A change of
/// state touches few of them. Aligned, so that it shares none with the reference counts of the `Arc` around it.
#[repr(C, align(64))]
pub(crate) struct ServerRecord<C: Connector> {
    pub(crate) health: Health,
    pub(crate) strikes: Strikes,
    pub(crate) answered: Answered,
    pub(crate) permits: Permits,
    pub(crate) breaker: Breaker,
    config: ArcSwap<Server>,
    bucket: ArcSwapOption<Bucket>,
    /// The end of its recovery without a failure, in nanoseconds.
    recovering_until: AtomicU64,
    /// When it is enabled again, in nanoseconds, if it is disabled.
    disabled_until: AtomicU64,
    /// What took it down last.
    last_failure: ArcSwapOption<Failure<C::Error>>,
    /// Why connecting pauses.
    connect_error: ArcSwapOption<Failure<C::Error>>,
    notifier: Arc<Notifier>,
    /// The smoothed time of a connect, in nanoseconds; zero if it is unknown.
    connect_time: AtomicU64,
    pub(crate) weight: Weight,
    totals: Totals,
    /// Its number in the list, if it is registered.
    number: AtomicU32,
    /// Connections that say goodbye.
    pub(crate) closing: Gauge,
    /// Attempts for waiters that are older than the hedge delay.
    pub(crate) late: Gauge,
    /// Attempts for waiters that connected a moment ago.
    pub(crate) lingering: Gauge,
    /// The state that was recorded last: a `StateKind`.
    last_state: AtomicU8,
    /// The event `gone` was recorded, or must not be recorded yet.
    gone: AtomicBool,
    idle_history: Mutex<IdleHistory>,
    /// Allocated at the first look, if there is a `failure_ratio`.
    recent_results: OnceLock<Box<Mutex<RecentResults>>>,
    /// Connections in use, counted with `LeastInUse`. Each checkout and each return writes it then.
    pub(crate) in_use: Gauge,
}

impl<C: Connector> ServerRecord<C> {
    pub(crate) fn new(config: Server, limits: Limits, notifier: Arc<Notifier>) -> Self {
        Self {
            health: Health::new(limits.tier),
            strikes: Strikes::default(),
            answered: Answered::default(),
            permits: Permits::new(limits.max_conns),
            breaker: Breaker::new(),
            config: ArcSwap::from_pointee(config),
            bucket: ArcSwapOption::new(limits.rate.map(|rate| Arc::new(Bucket::new(rate)))),
            recovering_until: AtomicU64::new(0),
            disabled_until: AtomicU64::new(0),
            last_failure: ArcSwapOption::empty(),
            connect_error: ArcSwapOption::empty(),
            notifier,
            connect_time: AtomicU64::new(0),
            weight: Weight::new(limits.weight),
            totals: Totals::default(),
            number: AtomicU32::new(0),
            closing: Gauge::default(),
            late: Gauge::default(),
            lingering: Gauge::default(),
            last_state: AtomicU8::new(StateKind::Gone as u8),
            gone: AtomicBool::new(false),
            idle_history: Mutex::new(IdleHistory::default()),
            recent_results: OnceLock::new(),
            in_use: Gauge::default(),
        }
    }

    /// The settings of its last registration.
    pub(crate) fn config(&self) -> Arc<Server> {
        self.config.load_full()
    }

    pub(crate) fn bucket(&self) -> Option<Arc<Bucket>> {
        self.bucket.load_full()
    }

    pub(crate) fn last_failure(&self) -> Option<Arc<Failure<C::Error>>> {
        self.last_failure.load_full()
    }

    pub(crate) fn set_last_failure(&self, failure: Option<Arc<Failure<C::Error>>>) {
        self.last_failure.store(failure);
    }

    pub(crate) fn connect_error(&self) -> Option<Arc<Failure<C::Error>>> {
        self.connect_error.load_full()
    }

    pub(crate) fn set_connect_error(&self, failure: Option<Arc<Failure<C::Error>>>) {
        self.connect_error.store(failure);
    }

    pub(crate) fn pool_name(&self) -> &str {
        &self.notifier.name
    }

    pub(crate) fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Keeps the state that is recorded now. Returns the one before.
    pub(crate) fn swap_last_state(&self, state: StateKind) -> StateKind {
        // Relaxed: each swap gets what the one before it left.
        StateKind::ALL[self.last_state.swap(state as u8, Ordering::Relaxed) as usize]
    }

    pub(crate) fn is_pool_closed(&self) -> bool {
        self.notifier.signals.is_closed()
    }

    /// Adds to its totals and to those of the pool.
    pub(crate) fn count(&self, total: Total, count: u64) {
        self.totals.add(total, count);
        self.notifier.totals.add(total, count);
    }

    /// Counts a connection that is closed.
    pub(crate) fn count_close(&self, why: CloseReason) {
        self.totals.add_close(why);
        self.notifier.totals.add_close(why);
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Whether it has more connections than its lowered maximum, those that say goodbye aside: one that is returned
    /// must close.
    pub(crate) fn is_over_maximum(&self) -> bool {
        self.permits.counts().exceed_max(self.closing.get())
    }

    /// Whether callers may use it.
    pub(crate) fn serves(&self) -> bool {
        self.health.snapshot().serves()
    }

    /// When it may be tried, if it is down: the later of the ends of its ejection and its pause. `None` if it is up or
    /// disabled, or its trial runs.
    pub(crate) fn down_until(&self) -> Option<Time> {
        let (health, breaker) = (self.health.snapshot(), self.breaker.snapshot());
        let may_be_tried = health.is_down() && !health.is_disabled() && breaker.state() != BreakerState::Trying;
        let until = || self.health.ejected_until().max(breaker.paused_until());
        may_be_tried.then(|| until().unwrap_or(Time::ZERO))
    }

    /// The later of the ends of its ejection and its pause, if it is ejected or connecting to it pauses.
    pub(crate) fn avoided_until(&self) -> Option<Time> {
        self.health.ejected_until().max(self.breaker.snapshot().paused_until())
    }

    /// When connecting to it resumes: it is disabled for a time, it is down and not tried, or it is up and connecting
    /// pauses.
    pub(crate) fn resumes_at(&self, now: Time) -> Option<Time> {
        if let Some(until) = self.disabled_until() {
            return Some(until).filter(|&until| until != Time::NEVER);
        }
        self.down_until().or_else(|| self.connecting_paused(now))
    }

    /// Until when connecting to it pauses, if it does now.
    pub(crate) fn connecting_paused(&self, now: Time) -> Option<Time> {
        self.breaker.snapshot().paused_until().filter(|&until| until > now)
    }

    /// Until when it is disabled, if it is; [`Time::NEVER`] if that has no end.
    pub(crate) fn disabled_until(&self) -> Option<Time> {
        // Relaxed: the lock of the server list orders the writers; other readers only report it.
        let until = || Time::from_nanos(self.disabled_until.load(Ordering::Relaxed));
        self.health.snapshot().is_disabled().then(until)
    }

    /// Disables it until a time. True if it was enabled. Only under the lock of the server list.
    pub(crate) fn disable(&self, serving: &Serving, until: Time, now: Time) -> bool {
        // Relaxed: see `disabled_until`.
        self.disabled_until.store(until.as_nanos(), Ordering::Relaxed);
        self.health.set_disabled(serving, true, now)
    }

    /// Enables it. True if it was disabled. Only under the lock of the server list.
    pub(crate) fn enable(&self, serving: &Serving, now: Time) -> bool {
        self.health.set_disabled(serving, false, now)
    }

    /// The most attempts that callers may have run at it, where `most` are allowed at a server that is up. While it
    /// recovers, its probe's connection serves alone; if that has closed, one attempt replaces it.
    pub(crate) fn most_attempts(&self, most: u32) -> u32 {
        let health = self.health.snapshot();
        match () {
            () if health.is_plainly_up() => most,
            () if health.serves() && self.permits.counts().open() == 0 => 1,
            () => 0,
        }
    }

    pub(crate) fn recovering_until(&self) -> Time {
        // Relaxed: it is set before the server recovers, and read after a fence behind the load of the health.
        Time::from_nanos(self.recovering_until.load(Ordering::Relaxed))
    }

    pub(crate) fn set_recovering_until(&self, until: Time) {
        // Relaxed: see `recovering_until`.
        self.recovering_until.store(until.as_nanos(), Ordering::Relaxed);
    }

    /// How long a connect takes, smoothed; zero if it is unknown.
    pub(crate) fn connect_time(&self) -> Duration {
        // Relaxed: an estimate.
        Duration::from_nanos(self.connect_time.load(Ordering::Relaxed))
    }

    /// Smooths by an eighth, as TCP does its round-trip time (RFC 6298).
    pub(crate) fn note_connect_time(&self, time: Duration) {
        let (old, new) = (self.connect_time().as_nanos() as u64, time.as_nanos() as u64);
        let smoothed = if old == 0 { new } else { old - old / 8 + new / 8 };
        // Relaxed: an estimate, which attempts that end together may overwrite.
        self.connect_time.store(smoothed, Ordering::Relaxed);
    }

    /// What the sweeps know of its idle connections.
    pub(crate) fn idle_history(&self) -> MutexGuard<'_, IdleHistory> {
        lock(&self.idle_history)
    }

    /// What the background task knows of its last results.
    pub(crate) fn recent_results(&self) -> MutexGuard<'_, RecentResults> {
        lock(self.recent_results.get_or_init(|| Box::new(Mutex::new(RecentResults::new()))))
    }

    /// Whether it has a token or no rate limit.
    pub(crate) fn has_token(&self, now: Time) -> bool {
        self.bucket().is_none_or(|bucket| bucket.has_token(now))
    }

    /// Changes the settings except the maximum. Only under the lock of the server list.
    pub(crate) fn apply(&self, config: Server, limits: Limits, serving: &Serving, now: Time) {
        let before = self.config.swap(Arc::new(config));
        if !before.leads_where(&self.config.load()) {
            // After the change: see `release::has_moved`.
            self.forget_results(now);
        }
        self.weight.set(limits.weight);
        let (before, is_registered) = (self.health.snapshot().tier(), !self.is_removed());
        // In both tiers for a moment, so that no ejection is allowed that would not be before or afterwards.
        if is_registered {
            serving.register(limits.tier);
        }
        self.health.set_tier(serving, limits.tier, now);
        if is_registered {
            serving.remove(before);
        }
        match (self.bucket(), limits.rate) {
            (Some(bucket), Some(rate)) if bucket.rate() == rate => {}
            (Some(bucket), Some(rate)) => self.bucket.store(Some(Arc::new(bucket.successor(rate, now)))),
            (None, Some(rate)) => self.bucket.store(Some(Arc::new(Bucket::new(rate)))),
            (_, None) => self.bucket.store(None),
        }
    }

    /// Registers it under a number. Only under the lock of the server list.
    pub(crate) fn register(&self, number: usize, serving: &Serving, now: Time) {
        // Relaxed: a hint of where to look.
        self.number.store(number as u32, Ordering::Relaxed);
        self.gone.store(true, Ordering::Relaxed);
        serving.register(self.health.snapshot().tier());
        self.health.set_removed(serving, false, now);
    }

    /// Removes it, which enables it. Only under the lock of the server list.
    pub(crate) fn remove(&self, serving: &Serving, now: Time) {
        // `gone` must not precede `draining`: see `allow_gone_event`.
        // Relaxed: `permit_freed` reads the health after a SeqCst fence.
        self.gone.store(true, Ordering::Relaxed);
        self.health.set_removed(serving, true, now);
        serving.remove(self.health.snapshot().tier());
        self.enable(serving, now);
    }

    /// Allows the event `gone`, since `draining` was recorded.
    pub(crate) fn allow_gone_event(&self) {
        if self.is_removed() {
            self.gone.store(false, Ordering::Relaxed);
            // SeqCst: the flag, then the count; pairs with the fence of `permit_freed`.
            fence(Ordering::SeqCst);
            self.record_if_gone();
        }
    }

    /// Its number in the list, or its last one. An attempt may end after its server got another.
    pub(crate) fn number(&self) -> usize {
        // Relaxed: see `register`.
        self.number.load(Ordering::Relaxed) as usize
    }

    /// Forgets what is known by the connections that it has.
    pub(crate) fn forget_results(&self, now: Time) {
        self.health.begin_anew(now);
        self.strikes.clear();
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.health.snapshot().is_removed()
    }

    /// Whether a removed server may be forgotten: nothing of it is open, its bucket is full, and it is not avoided.
    pub(crate) fn may_be_forgotten(&self, now: Time) -> bool {
        self.permits.counts().open() == 0
            && self.bucket().is_none_or(|bucket| bucket.is_full(now))
            && self.avoided_until().is_none_or(|until| until <= now)
    }

    /// Wakes what may wait for a permit that was released: waiters, a due attempt, a drain, the close of the pool.
    pub(crate) fn permit_freed(&self) {
        // The fence also orders the release before the look at the health: pairs with that of `ServerSet::refresh`.
        if self.notifier.signals.waiters_after_change() > 0 || self.down_until().is_some() {
            self.notifier.wake();
        }
        let health = self.health.snapshot();
        if health.is_removed() {
            self.record_if_gone();
        }
        if health.is_removed() || health.is_disabled() {
            self.notifier.drain_changed.notify_waiters();
        }
    }

    /// Records `gone`, the last event of a removed server, once its last connection is closed.
    fn record_if_gone(&self) {
        // Relaxed: one caller wins the flag; it publishes nothing.
        if self.permits.counts().open() == 0 && !self.gone.swap(true, Ordering::Relaxed) {
            self.tell_state(StateKind::Gone, "server is gone");
        }
    }
}
