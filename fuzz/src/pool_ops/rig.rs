//! The pool under test, and the test's model of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use connring::test_util::{ConnectCounts, ScriptedConn, ScriptedConnector, ScriptedError};
use connring::{
    AcquireError, Clock, ConnInfo, ConnectFault, Connector, Counts, Ejection, Pool, PooledConn, Server, TryAcquireError,
};

use super::caller::{Acquired, Caller, Kind, Moment, WakeRecorder};
use super::model::{Model, addresses, server};
use super::reports::Held;
use super::{Knobs, MAX_CALLERS, NAMES, Rules, names};

pub(super) const BACKOFF: Duration = Duration::from_millis(100);
pub(super) const ABANDONED_AFTER: Duration = Duration::from_millis(300);

pub(super) type Conn = PooledConn<TracedConnector>;

/// A scripted connector with a reference count that shows whether the pool still owns it.
pub(super) struct TracedConnector {
    scripted: ScriptedConnector,
    _alive: Arc<()>,
}

impl Connector for TracedConnector {
    type Conn = ScriptedConn;
    type Error = ScriptedError;

    async fn connect(&self, server: &Server) -> Result<ScriptedConn, ScriptedError> {
        self.scripted.connect(server).await
    }

    fn is_reusable(&self, conn: &mut ScriptedConn, info: &ConnInfo) -> bool {
        self.scripted.is_reusable(conn, info)
    }

    fn classify(&self, error: &ScriptedError) -> ConnectFault {
        self.scripted.classify(error)
    }

    async fn check(&self, conn: &mut ScriptedConn) -> Result<(), ScriptedError> {
        self.scripted.check(conn).await
    }
}

pub(super) struct Rig {
    pub(super) pool: Pool<TracedConnector>,
    pub(super) alive: Weak<()>,
    pub(super) connector: ScriptedConnector,
    pub(super) clock: Clock,
    pub(super) steps: Arc<Mutex<u64>>,
    pub(super) wait_timeout: Option<Duration>,
    max_waiters: usize,
    pub(super) max_attempts: u32,
    pub(super) listed: Vec<&'static str>,
    pub(super) closed: bool,
    pub(super) models: [Model; 3],
    /// The pending callers, in the order of joining.
    pub(super) callers: Vec<Caller>,
    pub(super) rules: Rules,
    /// How many reports in a row eject a server.
    pub(super) failures: u32,
    pub(super) maintenance: bool,
    pub(super) held: Vec<Held>,
    pub(super) detached: Vec<ScriptedConn>,
    /// Whether all tasks have run since the last change.
    pub(super) is_settled: bool,
}

impl Rig {
    pub(super) fn new(knobs: &Knobs) -> Self {
        let clock = Clock::manual();
        let connector = ScriptedConnector::new(clock.clone());
        let mark = Arc::new(());
        let alive = Arc::downgrade(&mark);
        let wait_timeout = (!knobs.waits_for_ever).then_some(Duration::from_secs(3));
        let max_waiters = 1 + usize::from(knobs.max_waiters % 8);
        let max_attempts = 1 + u32::from(knobs.max_attempts % 3);
        let age = |seconds| knobs.expires.then_some(Duration::from_secs(seconds));
        let listed = names(knobs.servers);
        let (rules, failures) = (knobs.rules, 1 + u32::from(knobs.failures % 3));
        let ejection = Ejection::new().consecutive_failures(failures).max_ejected_ratio(rules.max_ejected_ratio());
        let ejection = ejection.base(10 * BACKOFF).max(40 * BACKOFF).enforce(rules.enforce);
        let pool = Pool::builder(TracedConnector { scripted: connector.clone(), _alive: mark })
            .clock(clock.clone())
            .max_concurrent_connects_per_server(max_attempts)
            .max_idle_per_server(1 + u32::from(knobs.max_idle % 3))
            .ejection(ejection)
            .abandoned_after(rules.abandons.then_some(ABANDONED_AFTER))
            .outage_retry(rules.retries_ahead.then_some(10 * BACKOFF))
            .fail_fast_when_down(rules.fails_fast)
            .connect_timeout(Duration::from_secs(1))
            .hedge_delay(Duration::from_millis(100))
            // No random spread, so that a case is reproducible.
            .backoff(BACKOFF, 10 * BACKOFF)
            .backoff_spread_ratio(0.0)
            .max_lifetime_jitter_ratio(0.0)
            .wait_timeout(wait_timeout)
            .max_waiters(max_waiters)
            .idle_timeout(age(2))
            .max_lifetime(age(5))
            .maintenance(knobs.maintenance)
            .servers(listed.iter().map(|name| server(name, knobs.limits)))
            .build()
            .expect("the settings are in range");
        let models = NAMES.map(|name| Model::new(name, knobs.limits, listed.contains(&name)));
        Self {
            pool,
            alive,
            connector,
            clock,
            steps: Arc::default(),
            wait_timeout,
            max_waiters,
            max_attempts,
            listed,
            closed: false,
            models,
            callers: Vec::new(),
            rules,
            failures,
            maintenance: knobs.maintenance,
            held: Vec::new(),
            detached: Vec::new(),
            is_settled: false,
        }
    }

    pub(super) fn model(&mut self, name: &str) -> &mut Model {
        self.models.iter_mut().find(|model| model.name == name).expect("the server has a model")
    }

    /// The counts of a server's addresses: attempts, those that connected, those that run, what is open, and checks.
    pub(super) fn counts(&self, name: &str) -> ConnectCounts {
        let [mut counts, moved] = addresses(name).map(|address| self.connector.counts(&address));
        counts.attempts += moved.attempts;
        counts.connected += moved.connected;
        counts.in_flight += moved.in_flight;
        counts.open += moved.open;
        counts.checks += moved.checks;
        counts
    }

    pub(super) fn begin_step(&mut self) {
        *self.steps.lock().expect("not poisoned") += 1;
        self.is_settled = false;
    }

    pub(super) fn step_number(&self) -> u64 {
        *self.steps.lock().expect("not poisoned")
    }

    /// Starts a call and polls it once.
    pub(super) fn call(&mut self, kind: Kind, timeout: Option<Duration>) {
        if self.callers.len() >= MAX_CALLERS {
            return;
        }
        let pool = self.pool.clone();
        let future: Pin<Box<dyn Future<Output = Acquired>>> = match (kind, timeout) {
            (Kind::AcquireNow, _) => Box::pin(async move { pool.acquire_now().await }),
            (Kind::Acquire, Some(timeout)) => Box::pin(async move { pool.acquire_timeout(timeout).await }),
            (Kind::Acquire, None) => Box::pin(async move { pool.acquire().await }),
        };
        let recorder = WakeRecorder::new(&self.clock, &self.steps);
        let deadline = timeout.map(|timeout| self.clock.now() + timeout);
        let waiting = self.pool.status().waiters;
        self.callers.push(Caller { future, recorder, kind, deadline, overtook: false, is_judged: false });
        let index = self.callers.len() - 1;
        // The first poll cannot use an earlier grant, so a checkout is now.
        let now = (self.step_number(), self.clock.now());
        let is_overloaded = match self.poll_since(index, now) {
            Some(Ok(())) => {
                let overtaken = self.callers.iter().any(Caller::waits_in_queue);
                assert!(!overtaken, "a new caller overtook a waiter");
                false
            }
            Some(Err(AcquireError::QueueFull { waiters: reported })) => {
                // May exceed the maximum: a waiter that receives a dead connection rejoins a full queue.
                assert_eq!(reported, waiting);
                true
            }
            _ => false,
        };
        let is_full = waiting >= self.max_waiters && !self.listed.is_empty();
        // `acquire_now` fails before it checks the queue if no server has a token.
        let is_right = is_overloaded == is_full || (kind == Kind::AcquireNow && !is_overloaded);
        assert!(is_right, "{waiting} of {} waiters, queue full: {is_overloaded}", self.max_waiters);
    }

    /// Polls a pending caller.
    pub(super) fn poll(&mut self, index: usize) {
        let woken_at = self.callers[index].woken_at();
        let was_in_front = !self.callers[index].overtook;
        let is_impatient = self.callers[index].kind == Kind::AcquireNow;
        let now = (self.step_number(), self.clock.now());
        if let Some(result) = self.poll_since(index, woken_at.unwrap_or(now)) {
            // Whether any token is left is looked at when a caller is polled, and at each tick.
            let is_out_of_tokens =
                matches!(&result, Err(AcquireError::Unavailable(error)) if error.counts().limited > 0);
            let is_woken = woken_at.is_some() || is_impatient && is_out_of_tokens;
            assert!(is_woken, "the caller is ready, but was not woken: {result:?}");
            assert!(result.is_err() || was_in_front, "the caller overtook an earlier waiter");
            assert!(!matches!(result, Err(AcquireError::QueueFull { .. })), "the caller was already in the queue");
        }
        self.check_order();
    }

    pub(super) fn poll_woken(&mut self) -> bool {
        let mut any = false;
        let mut index = 0;
        while index < self.callers.len() {
            let count = self.callers.len();
            if self.callers[index].woken_at().is_some() {
                any = true;
                self.poll(index);
            }
            index += usize::from(self.callers.len() == count);
        }
        any
    }

    /// Polls a caller, and removes it if it is ready. A returned connection was granted at `since` or later.
    fn poll_since(&mut self, index: usize, since: Moment) -> Option<Result<(), AcquireError<ScriptedError>>> {
        let now = self.clock.now();
        let caller = &mut self.callers[index];
        caller.recorder.arm();
        caller.overtook = false;
        caller.is_judged = false;
        let waker = Waker::from(Arc::clone(&caller.recorder));
        let polled = caller.future.as_mut().poll(&mut Context::from_waker(&waker));
        let Poll::Ready(result) = polled else {
            let ended = caller.kind == Kind::Acquire && (caller.is_due(now) || self.listed.is_empty());
            assert!(!ended, "the caller still waits after its deadline or without servers");
            return None;
        };
        let caller = self.callers.remove(index);
        match result {
            Ok(conn) => {
                self.check_out(conn, since);
                Some(Ok(()))
            }
            Err(error) => {
                self.check_error(&caller, &error);
                Some(Err(error))
            }
        }
    }

    fn check_error(&self, caller: &Caller, error: &AcquireError<ScriptedError>) {
        let now = self.clock.now();
        let is_right = match error {
            AcquireError::NoServers => self.listed.is_empty() && !self.closed,
            AcquireError::Closed => self.closed,
            AcquireError::Timeout { waited, .. } => {
                let Some(deadline) = caller.deadline else { panic!("{error}") };
                *waited <= now && now >= deadline
            }
            AcquireError::QueueFull { .. } => true,
            // For a caller that would wait, only where no server serves.
            AcquireError::Unavailable(_) => caller.kind == Kind::AcquireNow || !self.any_serves(),
            _ => false,
        };
        assert!(is_right, "{error}");
        assert_ne!(error.retry_after(), Some(Duration::ZERO), "a caller that sleeps for it would spin: {error}");
    }

    pub(super) fn any_serves(&self) -> bool {
        self.pool.status().servers.iter().any(|server| super::check::is_up(server.state))
    }

    pub(super) fn try_acquire(&mut self) {
        let a_caller_waits = self.callers.iter().any(Caller::waits_in_queue);
        let waiting = self.pool.status().waiters;
        match self.pool.try_acquire() {
            Ok(conn) => {
                assert!(!a_caller_waits, "`try_acquire` overtook a waiter");
                self.check_out(conn, (self.step_number(), self.clock.now()));
            }
            Err(TryAcquireError::Unavailable(counts)) => {
                assert_eq!(counts.waiters, waiting);
                let Counts { down, limited, full, paused, empty, .. } = counts;
                assert_eq!(down + limited + full + paused + empty, self.listed.len());
                assert_ne!(counts.retry_after, Some(Duration::ZERO));
            }
            Err(TryAcquireError::NoServers) => assert!(self.listed.is_empty() && !self.closed),
            Err(TryAcquireError::Closed) => assert!(self.closed),
            Err(other) => panic!("{other}"),
        }
    }

    fn check_out(&mut self, conn: Conn, since: Moment) {
        assert!(self.held.iter().all(|held| held.conn.id() != conn.id()), "the connection is checked out twice");
        assert!(conn.last_idle().is_none() || conn.is_alive(), "a dead idle connection is checked out");
        let info = PooledConn::info(&conn);
        let (name, now) = (info.server().name(), self.clock.now());
        assert_eq!(info.server().address(), conn.address());
        let held = self.holding(conn, name);
        self.model(name).check_out(&held.conn, since, now);
        self.held.push(held);
    }

    pub(super) fn held(&mut self, which: u8) -> Option<Held> {
        super::pick(which, self.held.len()).map(|index| self.held.remove(index))
    }

    pub(super) async fn settle(&mut self) {
        yield_now(24).await;
        self.check_order();
        self.is_settled = true;
    }
}

pub(super) fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

pub(super) async fn yield_now(times: u8) {
    for _ in 0..times {
        tokio::task::yield_now().await;
    }
}
