//! The wait queue: FIFO order, one wake per grant, no overtaking, and no delay by a waiter that is not polled.

mod late;
mod on_time;
mod placement;
mod pointless;
mod stalled;
mod wishes;

use std::error::Error;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector, ScriptedError};
use connring::{AcquireError, Ejection, Pool, PooledConn, Reason, Server, ServerState, TryAcquireError};
use tokio::task::JoinSet;
use tokio::task::coop::unconstrained;

use crate::support::{Rig, open, poll_once, refuse_one, server_of, settle};

/// tokio's timers tick in milliseconds.
const TICK: Duration = Duration::from_millis(2);
const SECOND: Duration = Duration::from_secs(1);

type Conn = PooledConn<ScriptedConnector>;
type Acquired = Result<Conn, AcquireError<ScriptedError>>;

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A caller that the test polls, with a count of its wakes.
struct Caller {
    future: Pin<Box<dyn Future<Output = Acquired>>>,
    wakes: Arc<Wakes>,
}

impl Caller {
    fn new<F: Future<Output = Acquired> + 'static>(rig: &Rig, call: impl FnOnce(Pool<ScriptedConnector>) -> F) -> Self {
        // One task polls all callers, and its budget would not suffice.
        Self { future: Box::pin(unconstrained(call(rig.pool.clone()))), wakes: Arc::default() }
    }

    /// A caller in the wait queue.
    #[track_caller]
    fn joined(rig: &Rig) -> Self {
        let mut caller = Self::new(rig, |pool| async move { pool.acquire().await });
        caller.assert_waits();
        caller
    }

    fn poll(&mut self) -> Poll<Acquired> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    #[track_caller]
    fn assert_waits(&mut self) {
        let polled = self.poll();
        assert!(polled.is_pending(), "{polled:?}");
    }

    #[track_caller]
    fn served(&mut self) -> Conn {
        match self.poll() {
            Poll::Ready(acquired) => acquired.expect("the caller is served"),
            Poll::Pending => panic!("the caller waits"),
        }
    }

    fn wakes(&self) -> usize {
        self.wakes.0.load(Ordering::Relaxed)
    }
}

fn joined(rig: &Rig, count: usize) -> Vec<Caller> {
    let callers = (0..count).map(|_| Caller::joined(rig)).collect();
    assert_eq!(rig.pool.status().waiters, count);
    callers
}

fn wakes(callers: &[Caller]) -> usize {
    callers.iter().map(Caller::wakes).sum()
}

/// A pool with one server and `max_conns` permits.
fn rig(max_conns: u32) -> Rig {
    Rig::paused(|builder| builder.server("a").max_conns_per_server(max_conns))
}

#[tokio::test(start_paused = true)]
async fn thousand_waiters_are_served_in_fifo_order() {
    let rig = rig(1);
    let mut conn = open(&rig, 1).await.remove(0);
    let id = conn.id();
    let mut callers = joined(&rig, 1_000);
    for caller in &mut callers {
        assert_eq!(caller.wakes(), 0);
        conn.release();
        assert_eq!(caller.wakes(), 1);
        conn = caller.served();
        assert_eq!(conn.id(), id);
    }
    settle().await;
    assert_eq!((wakes(&callers), rig.pool.status().waiters), (1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn each_release_and_each_attempt_wakes_one_waiter() {
    let rig = rig(3);
    let held = open(&rig, 3).await;
    let mut callers = joined(&rig, 50);
    settle().await;
    assert_eq!(wakes(&callers), 0);
    held.into_iter().for_each(Conn::release);
    settle().await;
    assert_eq!(wakes(&callers), 3);
    let served: Vec<_> = callers[..3].iter_mut().map(Caller::served).collect();
    // Each discarded connection frees a permit for one attempt.
    served.into_iter().for_each(Conn::discard);
    assert_eq!(wakes(&callers), 3);
    settle().await;
    assert_eq!(wakes(&callers), 6);
    assert_eq!(rig.connector.counts("a").attempts, 6);
    assert!(callers[3..6].iter().all(|caller| caller.wakes() == 1));
    // The passage of time wakes no waiter.
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!((wakes(&callers), rig.pool.status().waiters), (6, 44));
}

#[tokio::test]
async fn each_token_wakes_one_waiter() {
    let every = Duration::from_millis(100);
    let server = Server::new("a").max_rps(10.0).burst(1);
    let rig = Rig::manual(|builder| builder.server(server).max_conns_per_server(5).wait_timeout(None));
    // Five connections are idle, and no token is available.
    let mut held = open(&rig, 1).await;
    for _ in 0..4 {
        rig.clock.advance(every);
        held.extend(open(&rig, 1).await);
    }
    held.into_iter().for_each(Conn::release);
    assert_eq!(rig.pool.status().servers[0].idle, 5);
    let mut callers = joined(&rig, 5);
    for grants in 0..5 {
        settle().await;
        assert_eq!(wakes(&callers), grants);
        rig.clock.advance(every - Duration::from_micros(1));
        settle().await;
        assert_eq!(wakes(&callers), grants);
        rig.clock.advance(Duration::from_micros(1));
        settle().await;
        assert_eq!(callers[grants].wakes(), 1);
    }
    assert_eq!(wakes(&callers), 5);
    assert_eq!(callers.iter_mut().map(Caller::served).count(), 5);
}

/// Returns a pool with one waiter, an idle connection and an available token, before the background task has run.
async fn waiter_before_available_token() -> (Rig, Caller) {
    let server = Server::new("a").max_rps(1.0).burst(1);
    let rig = Rig::manual(|builder| builder.server(server).max_conns_per_server(2));
    open(&rig, 1).await.remove(0).release();
    let first = Caller::joined(&rig);
    settle().await;
    rig.clock.advance(SECOND);
    (rig, first)
}

#[tokio::test]
async fn acquire_does_not_overtake_waiter() {
    let (rig, mut first) = waiter_before_available_token().await;
    let mut newcomer = Caller::new(&rig, |pool| async move { pool.acquire().await });
    newcomer.assert_waits();
    // The newcomer's pass served the front waiter.
    assert_eq!((first.wakes(), newcomer.wakes()), (1, 0));
    first.served().release();
    newcomer.assert_waits();
    rig.clock.advance(SECOND);
    settle().await;
    newcomer.served().release();
}

#[tokio::test]
async fn try_acquire_does_not_overtake_and_reports_waiters() {
    let (rig, mut first) = waiter_before_available_token().await;
    let mut second = Caller::joined(&rig);
    // The join of `second` served the first waiter. The released connection and the next token are for `second`.
    first.served().release();
    rig.clock.advance(SECOND);
    match rig.pool.try_acquire() {
        Err(TryAcquireError::Unavailable(counts)) => assert_eq!(counts.waiters, 1),
        other => panic!("{other:?}"),
    }
    settle().await;
    second.served().release();
    rig.clock.advance(SECOND);
    rig.pool.try_acquire().expect("the wait queue is empty").release();
}

#[tokio::test]
async fn acquire_now_does_not_overtake_and_reports_waiters() {
    let (rig, mut first) = waiter_before_available_token().await;
    let attempts = rig.connector.total_counts().attempts;
    let mut newcomer = Caller::new(&rig, |pool| async move { pool.acquire_now().await });
    match newcomer.poll() {
        // The front waiter has been served, but not polled.
        Poll::Ready(Err(AcquireError::Unavailable(reason))) => assert_eq!(reason.counts().waiters, 0),
        other => panic!("{other:?}"),
    }
    settle().await;
    assert_eq!(rig.connector.total_counts().attempts, attempts, "without a token, acquire_now starts no attempt");
    first.served().release();
}

#[tokio::test(start_paused = true)]
async fn full_wait_queue_rejects_callers_immediately() {
    let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(1).max_waiters(3));
    let mut held = open(&rig, 1).await;
    let mut callers = joined(&rig, 3);
    let mut rejected = Caller::new(&rig, |pool| async move { pool.acquire().await });
    match rejected.poll() {
        Poll::Ready(Err(AcquireError::QueueFull { waiters })) => assert_eq!(waiters, 3),
        other => panic!("{other:?}"),
    }
    // A waiter that leaves or is served makes room in the queue.
    drop(callers.remove(1));
    callers.push(Caller::joined(&rig));
    held.remove(0).release();
    callers.push(Caller::joined(&rig));
    let mut conn = callers.remove(0).served();
    for mut caller in callers {
        conn.release();
        conn = caller.served();
    }
}

#[tokio::test(start_paused = true)]
async fn cancelled_waiter_passes_its_connection_on() {
    let rig = rig(1);
    let mut held = open(&rig, 1).await;
    let id = held[0].id();
    let [first, cancelled, mut next] = [(); 3].map(|()| Caller::joined(&rig));
    // A waiter that leaves before it is served leaves no gap.
    drop(cancelled);
    held.remove(0).release();
    assert_eq!((first.wakes(), next.wakes()), (1, 0));
    drop(first);
    assert_eq!(next.wakes(), 1);
    assert_eq!(next.served().id(), id);
    assert_eq!(rig.connector.counts("a").attempts, 1);
}

#[tokio::test]
async fn cancelled_waiter_passes_its_token_on() {
    let (rig, first) = waiter_before_available_token().await;
    let mut next = Caller::joined(&rig);
    assert_eq!((first.wakes(), next.wakes()), (1, 0));
    drop(first);
    // The clock has not moved: this is the same token.
    next.served().release();
    assert!(rig.pool.try_acquire().is_err());
}

#[tokio::test(start_paused = true)]
async fn waiter_that_receives_dead_connection_keeps_its_place() {
    let rig = rig(1);
    let mut held = open(&rig, 1).await;
    let dead = held[0].id();
    let [mut first, mut second] = [(); 2].map(|()| Caller::joined(&rig));
    rig.connector.kill_connections("a");
    held.remove(0).release();
    assert_eq!((first.wakes(), second.wakes()), (1, 0));
    // The waiter receives a dead connection, and an attempt replaces it.
    first.assert_waits();
    assert_eq!(rig.pool.status().waiters, 2);
    settle().await;
    assert_eq!((first.wakes(), second.wakes()), (2, 0));
    let conn = first.served();
    assert_ne!(conn.id(), dead);
    assert_eq!(rig.connector.counts("a").open, 1);
    second.assert_waits();
    conn.release();
    second.served().release();
}

// Found by fuzzing: a waiter rejoins at its old place even if a newcomer has filled the queue meanwhile.
#[tokio::test(start_paused = true)]
async fn waiter_that_receives_dead_connection_rejoins_full_queue() {
    let rig = Rig::paused(|builder| builder.server("a").max_conns_per_server(1).max_waiters(1));
    let mut held = open(&rig, 1).await;
    let mut first = Caller::joined(&rig);
    rig.connector.kill_connections("a");
    held.remove(0).release();
    let mut second = Caller::joined(&rig);
    first.assert_waits();
    let mut rejected = Caller::new(&rig, |pool| async move { pool.acquire().await });
    assert!(matches!(rejected.poll(), Poll::Ready(Err(AcquireError::QueueFull { waiters: 2 }))));
    settle().await;
    first.served().release();
    second.served().release();
}

#[tokio::test(start_paused = true)]
async fn timeout_reports_wait_and_reasons() {
    let hour = Duration::from_secs(3_600);
    let limited = Server::new("limited").max_rps(0.1).burst(1);
    let rig = Rig::paused(|builder| {
        let builder = builder.servers(["full", "down"]).server(limited).max_conns_per_server(1);
        builder.ejection(Ejection::new().consecutive_failures(1))
    });
    let mut full = None;
    for conn in open(&rig, 3).await {
        match &*server_of(&conn) {
            "full" => full = Some(conn),
            "down" => conn.fail_for("broken", hour),
            _ => conn.release(),
        }
    }
    let timeout = Duration::from_millis(250);
    let error = rig.pool.acquire_timeout(timeout).await.expect_err("no server can serve");
    let token_after = 10 * SECOND - timeout;
    let AcquireError::Timeout { waited, reason } = &error else { panic!("{error}") };
    assert!(*waited >= timeout && *waited <= timeout + TICK, "{waited:?}");
    let counts = reason.counts();
    assert_eq!((counts.full, counts.down, counts.limited, counts.empty), (1, 1, 1, 0));
    for server in reason.servers() {
        match (&*server.name, &server.reason) {
            ("full", Reason::Full { max_conns: 1 }) => {}
            ("down", Reason::Down { failures: 0, retry_after, cause: Some(cause), .. }) => {
                assert!(*retry_after <= hour - timeout && *retry_after >= hour - timeout - TICK, "{retry_after:?}");
                assert_eq!(cause.source().map(|source| source.to_string()).as_deref(), Some("broken"));
            }
            ("limited", Reason::Limited { retry_after }) => {
                assert!(*retry_after <= token_after && *retry_after >= token_after - TICK, "{retry_after:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(reason.servers().len(), 3);
    assert_eq!(error.retry_after(), reason.retry_after());
    assert!(error.retry_after().is_some_and(|after| after <= token_after && after >= token_after - TICK));
    let text = error.to_string();
    assert!(text.starts_with("timed out after 25") && text.contains("1 down, 1 rate limited, 1 full"), "{text}");
    // The caller has left the wait queue: a returned connection becomes idle.
    assert_eq!(rig.pool.status().waiters, 0);
    full.expect("one of three connections is to this server").release();
    rig.pool.try_acquire().expect("a connection is idle").release();
}

#[tokio::test]
async fn waits_without_timeout_do_not_end() {
    let year = Duration::from_secs(365 * 24 * 3_600);
    let bounded = Rig::manual(|builder| builder.server("a").max_conns_per_server(1));
    let endless = Rig::manual(|builder| builder.server("a").max_conns_per_server(1).wait_timeout(None));
    let mut held = open(&bounded, 1).await;
    held.extend(open(&endless, 1).await);
    let [mut limited, mut patient] = [Caller::joined(&bounded), Caller::joined(&endless)];
    // The default is 30 s.
    bounded.clock.advance(30 * SECOND - Duration::from_nanos(1));
    settle().await;
    limited.assert_waits();
    bounded.clock.advance(Duration::from_nanos(1));
    assert!(matches!(limited.poll(), Poll::Ready(Err(AcquireError::Timeout { waited, .. })) if waited == 30 * SECOND));
    for _ in 0..3 {
        endless.clock.advance(year);
        settle().await;
        patient.assert_waits();
    }
    assert_eq!(patient.wakes(), 0);
    // The connection's lifetime is over: it is closed, and an attempt opens another.
    held.remove(1).release();
    assert_eq!(patient.wakes(), 0);
    settle().await;
    assert_eq!(patient.wakes(), 1);
    patient.served().release();
}

#[tokio::test]
async fn acquire_now_waits_for_no_token_of_a_disabled_server() {
    let limited = Server::new("a").max_rps(1.0).burst(1);
    let rig = Rig::manual(|builder| builder.servers([limited, Server::new("b")]));
    rig.pool.disable("b", None).expect("it is registered");
    let _held = rig.pool.acquire().await.expect("it accepts");
    rig.connector.set_default(Connect::Slow(Duration::from_millis(800)));
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await, "its connection is there when the token comes");
    let refused = pin!(rig.pool.acquire_now());
    assert!(!poll_once(refused).await, "it has nothing to wait for");
}
