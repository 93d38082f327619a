//! The state of one server: permits, health, pause, rate bucket and the last failure.
//!
//! A server refers to its pool's [`Notifier`] only; its generations hold the pool weakly. `core::transition` changes
//! the health.

use std::error::Error;

use crate::connector::Connector;
use crate::error::Failure;
use crate::raw::{Bucket, Health, HealthState, Pause, Permits, Rate, Time};
use crate::server::Notifier;
use crate::server::config::{Limits, Server};
use crate::sync::{Arc, ArcSwap, ArcSwapOption, AtomicBool, AtomicUsize, Ordering, fence};

/// See the module's page. It outlives the removal of its server while connections are in use.
///
/// Each release reads the health. The words share no cache line with the reference counts of the `Arc` around this.
#[repr(C, align(64))]
pub(crate) struct ServerEntry<C: Connector> {
    pub(crate) health: Health,
    pub(crate) permits: Permits,
    pub(crate) pause: Pause,
    bucket: ArcSwapOption<Bucket>,
    config: ArcSwap<Server>,
    last_failure: ArcSwapOption<Failure<C::Error>>,
    notifier: Arc<Notifier>,
    /// Its number in the list, if it is registered.
    number: AtomicUsize,
    removed: AtomicBool,
    /// The event `gone` was recorded, or must not be recorded yet.
    gone: AtomicBool,
}

impl<C: Connector> ServerEntry<C> {
    pub(crate) fn new(config: Server, limits: Limits, notifier: Arc<Notifier>) -> Self {
        Self {
            health: Health::new(),
            permits: Permits::new(limits.max_conns),
            pause: Pause::new(),
            bucket: ArcSwapOption::new(limits.rate.map(|rate| Arc::new(Bucket::new(rate)))),
            config: ArcSwap::from_pointee(config),
            last_failure: ArcSwapOption::empty(),
            notifier,
            number: AtomicUsize::new(0),
            removed: AtomicBool::new(false),
            gone: AtomicBool::new(false),
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

    pub(crate) fn is_up(&self) -> bool {
        self.health.snapshot().is_up()
    }

    /// When it is retried: the later of its retry and the end of its pause. `None` if it is up or a
    /// probe runs.
    pub(crate) fn down_until(&self) -> Option<Time> {
        let health = self.health.snapshot();
        (health.state() == HealthState::Down).then(|| health.retry_at().max(self.pause.until()))
    }

    /// When connecting to it resumes: it is down and no probe runs, or it is up and connecting pauses.
    pub(crate) fn resumes_at(&self, now: Time) -> Option<Time> {
        self.down_until().or_else(|| Some(self.pause.until()).filter(|&until| until > now))
    }

    /// Whether it has a token or no rate limit.
    pub(crate) fn has_token(&self, now: Time) -> bool {
        self.bucket().is_none_or(|bucket| bucket.has_token(now))
    }

    /// Changes the settings except the maximum. Only under the lock of the server list.
    pub(crate) fn apply(&self, config: Server, rate: Option<Rate>, now: Time) {
        self.config.store(Arc::new(config));
        match (self.bucket(), rate) {
            (Some(bucket), Some(rate)) if bucket.rate() == rate => {}
            (Some(bucket), Some(rate)) => self.bucket.store(Some(Arc::new(bucket.successor(rate, now)))),
            (None, Some(rate)) => self.bucket.store(Some(Arc::new(Bucket::new(rate)))),
            (_, None) => self.bucket.store(None),
        }
    }

    /// Its number in the list, `None` if it was removed. Only under the lock of the server list.
    pub(crate) fn set_number(&self, number: Option<usize>) {
        // Relaxed: `permit_freed` reads `removed` after a SeqCst fence; the number is a hint.
        if let Some(number) = number {
            self.number.store(number, Ordering::Relaxed);
        }
        // `gone` must not precede `draining`: see `allow_gone_event`.
        self.gone.store(true, Ordering::Relaxed);
        self.removed.store(number.is_none(), Ordering::Relaxed);
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
        // Relaxed: see `set_number`.
        self.number.load(Ordering::Relaxed)
    }

    pub(crate) fn is_removed(&self) -> bool {
        // Relaxed: a hint; while a server is being removed, `down` and `draining` may come in either order. `gone` is
        // last.
        self.removed.load(Ordering::Relaxed)
    }

    /// Wakes what may wait for a permit that was released: waiters, a due attempt, the close of the pool.
    pub(crate) fn permit_freed(&self) {
        if self.notifier.signals.waiters_after_change() > 0 || self.down_until().is_some() {
            self.notifier.wake();
        }
        if self.is_removed() {
            self.record_if_gone();
            self.notifier.returned.notify_waiters();
        }
    }

    /// Records `gone`, the last event of a removed server, once its last connection is closed.
    fn record_if_gone(&self) {
        // Relaxed: one caller wins the flag; it publishes nothing.
        if self.permits.counts().open() == 0 && !self.gone.swap(true, Ordering::Relaxed) {
            let (pool, server) = (&self.notifier.pool, self.config());
            tracing::info!(%pool, server = %server.name(), state = "gone", "server is gone");
        }
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
