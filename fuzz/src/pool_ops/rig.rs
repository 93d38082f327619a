//! The pool under test, and the test's model of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use connring::test_util::{ScriptedConn, ScriptedConnector, ScriptedError};
use connring::{
    AcquireError, Clock, ConnInfo, ConnectFault, Connector, Pool, PooledConn, Server, ServerState, TryAcquireError,
};

use super::caller::{Acquired, Caller, Kind, Moment, WakeRecorder};
use super::{ADDRESSES, Knobs, Limits, MAX_CALLERS, Rate, addresses};

pub(super) const BACKOFF: Duration = Duration::from_millis(100);
const MAX_CHECKOUTS: usize = 40;

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

/// The expected state of one address.
pub(super) struct Model {
    pub(super) address: &'static str,
    /// 0 if the address is not registered.
    pub(super) max_conns: u32,
    pub(super) rate: Rate,
    /// The step at which the current bucket began.
    rate_since: u64,
    /// The earliest and the latest possible time of each checkout.
    pub(super) checkouts: Vec<(Duration, Duration)>,
    pub(super) open_before: u32,
    pub(super) state_before: Option<(ServerState, u32)>,
    /// The retry time of a down server.
    pub(super) retry_at: Duration,
    /// Whether attempts may have failed by the client's own fault, which pauses connecting.
    pub(super) may_pause: bool,
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
    pub(super) held: Vec<Conn>,
    pub(super) detached: Vec<ScriptedConn>,
    /// Whether all tasks have run since the last change.
    pub(super) is_settled: bool,
}

pub(super) fn server(address: &str, limits: Limits) -> Server {
    let server = Server::new(address).max_conns(limits.max_conns());
    match limits.rate.numbers() {
        None => server,
        Some((rps, burst)) => server.max_rps(rps.into()).burst(burst),
    }
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
        let listed = addresses(knobs.servers);
        let pool = Pool::builder(TracedConnector { scripted: connector.clone(), _alive: mark })
            .clock(clock.clone())
            .max_concurrent_connects_per_server(max_attempts)
            .max_idle_per_server(1 + u32::from(knobs.max_idle % 3))
            .fail_threshold(1 + u32::from(knobs.fail_threshold % 3))
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
            .servers(listed.iter().map(|address| server(address, knobs.limits)))
            .build()
            .expect("the settings are in range");
        let models = ADDRESSES.map(|address| Model {
            address,
            max_conns: if listed.contains(&address) { knobs.limits.max_conns() } else { 0 },
            rate: knobs.limits.rate,
            rate_since: 0,
            checkouts: Vec::new(),
            open_before: 0,
            state_before: None,
            retry_at: Duration::ZERO,
            may_pause: false,
        });
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
            held: Vec::new(),
            detached: Vec::new(),
            is_settled: false,
        }
    }

    pub(super) fn model(&mut self, address: &str) -> &mut Model {
        self.models.iter_mut().find(|model| model.address == address).expect("the address has a model")
    }

    pub(super) fn begin_step(&mut self) {
        *self.steps.lock().expect("not poisoned") += 1;
        self.is_settled = false;
    }

    pub(super) fn step_number(&self) -> u64 {
        *self.steps.lock().expect("not poisoned")
    }

    /// Applies new limits to the model, with a new bucket if the server is new or the rate changes.
    pub(super) fn apply(&mut self, address: &str, limits: Limits, is_new: bool) {
        let step = self.step_number();
        let model = self.model(address);
        model.max_conns = limits.max_conns();
        if is_new || model.rate != limits.rate {
            model.check_windows();
            model.checkouts.clear();
            model.rate_since = step;
            model.rate = limits.rate;
        }
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
        let now = (self.step_number(), self.clock.now());
        if let Some(result) = self.poll_since(index, woken_at.unwrap_or(now)) {
            assert!(woken_at.is_some(), "the caller is ready, but was not woken: {result:?}");
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
            AcquireError::Unavailable(_) => caller.kind == Kind::AcquireNow,
            _ => false,
        };
        assert!(is_right, "{error}");
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
                assert_eq!(counts.down + counts.limited + counts.full + counts.empty, self.listed.len());
            }
            Err(TryAcquireError::NoServers) => assert!(self.listed.is_empty() && !self.closed),
            Err(TryAcquireError::Closed) => assert!(self.closed),
            Err(other) => panic!("{other}"),
        }
    }

    fn check_out(&mut self, conn: Conn, since: Moment) {
        assert!(self.held.iter().all(|held| held.id() != conn.id()), "the connection is checked out twice");
        assert!(conn.last_idle().is_none() || conn.is_alive(), "a dead idle connection is checked out");
        assert_eq!(PooledConn::info(&conn).server().address(), conn.address());
        let now = self.clock.now();
        let model = self.model(conn.address());
        if since.0 >= model.rate_since && model.checkouts.len() < MAX_CHECKOUTS {
            model.checkouts.push((since.1, now));
        }
        self.held.push(conn);
    }

    pub(super) fn held(&mut self, which: u8) -> Option<Conn> {
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
