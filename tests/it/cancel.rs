//! Cancel safety: a future of the pool that is dropped at any await point leaks no permit, no connection, no probe and
//! no place in the wait queue.
//!
//! Each case polls the future `polls` times, runs the other tasks in between, drops the future and checks the pool.
//! `polls` rises until the future completes. A failed assertion prints its case.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use connring::test_util::{Connect, Reuse, ScriptedConnector};
use connring::{AcquireError, AcquireOptions, Pool, PooledConn, ServerState};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use crate::support::{Rig, server_of, settle};

const SERVERS: [&str; 2] = ["a:1", "b:1"];
/// The time that passes after each poll but the last. The sum exceeds every timeout.
const GAPS_MS: [u64; 10] = [0, 20, 40, 60, 100, 200, 500, 1_000, 1_000, 1_000];
const LONGER_THAN_ALL: Duration = Duration::from_secs(5);

/// The call whose future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Acquire,
    AcquireTimeout,
    AcquireNow,
    AcquireOwned,
    /// Avoids the first server.
    AcquireAvoiding,
    AcquireFresh,
    WarmUp,
    /// Of the first server, which is enabled again afterwards.
    Drain,
    Close,
    CloseTimeout,
}

/// The state of the pool when the call begins. There are two servers with one permit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// No connection.
    Empty,
    /// An idle connection at each server.
    Idle,
    /// An idle connection at each server, and no token.
    Limited,
    /// All connections are in use. They are returned after the first poll.
    Held,
    /// Both servers are down, and their retries are due.
    Down,
}

/// Whether another caller acquires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    None,
    /// Another caller joins before the first poll.
    Ahead,
    /// Another caller joins after the first poll.
    Behind,
}

#[derive(Debug, Clone)]
struct Case {
    call: Call,
    start: Start,
    /// The outcome of connect attempts once the call has begun.
    connect: Connect,
    reuse: Reuse,
    other: Other,
    /// Whether the other tasks run between the last poll and the drop.
    settled: bool,
}

type Dropped = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Case {
    fn rig(&self) -> Rig {
        let ms = Duration::from_millis;
        Rig::paused(|builder| {
            let builder = builder
                .servers(SERVERS)
                .max_conns_per_server(1)
                .connect_timeout(ms(300))
                .backoff(ms(100), ms(200))
                .hedge_delay(ms(50))
                .wait_timeout(ms(2_000))
                .max_lifetime(None)
                .idle_timeout(None)
                .maintenance(false);
            if self.start == Start::Limited { builder.max_rps(4.0).burst(1) } else { builder }
        })
    }

    /// Brings the pool into the start state. Returns the connections in use.
    async fn begin(&self, rig: &Rig) -> Vec<PooledConn<ScriptedConnector>> {
        let mut held = Vec::new();
        match self.start {
            Start::Empty => {}
            Start::Idle | Start::Limited | Start::Held => {
                for _ in SERVERS {
                    held.push(rig.pool.acquire().await.expect("the server accepts"));
                }
            }
            Start::Down => {
                rig.connector.set_default(Connect::Refuse);
                rig.pool.acquire_timeout(Duration::from_millis(1)).await.expect_err("the server refuses");
                advance(Duration::from_millis(160)).await;
            }
        }
        if self.start != Start::Held {
            held.drain(..).for_each(PooledConn::release);
        }
        rig.connector.set_default(self.connect.clone());
        SERVERS.iter().for_each(|server| rig.connector.set_reuse(server, self.reuse));
        held
    }

    fn future(&self, pool: Pool<ScriptedConnector>) -> Dropped {
        fn release<E>(acquired: Result<PooledConn<ScriptedConnector>, E>) {
            if let Ok(conn) = acquired {
                conn.release();
            }
        }
        let timeout = Duration::from_millis(150);
        match self.call {
            Call::Acquire => Box::pin(async move { release(pool.acquire().await) }),
            Call::AcquireTimeout => Box::pin(async move { release(pool.acquire_timeout(timeout).await) }),
            Call::AcquireNow => Box::pin(async move { release(pool.acquire_now().await) }),
            Call::AcquireOwned => Box::pin(async move { release(pool.acquire_owned().await) }),
            Call::AcquireAvoiding => {
                let options = AcquireOptions::new().timeout(timeout).avoid([SERVERS[0]]);
                Box::pin(async move { release(pool.acquire_with(options).await) })
            }
            Call::AcquireFresh => {
                let options = AcquireOptions::new().timeout(timeout).fresh();
                Box::pin(async move { release(pool.acquire_with(options).await) })
            }
            Call::WarmUp => Box::pin(async move {
                pool.warm_up(timeout).await;
            }),
            Call::Drain => Box::pin(async move {
                pool.drain(SERVERS[0], timeout).await.expect("it is registered");
            }),
            Call::Close => Box::pin(async move { pool.close().await }),
            Call::CloseTimeout => Box::pin(async move {
                let _ = pool.close_timeout(timeout).await;
            }),
        }
    }

    /// Whether it may close connections of an open pool.
    fn replaces(&self) -> bool {
        matches!(self.call, Call::AcquireFresh | Call::Drain)
    }

    fn closes(&self) -> bool {
        matches!(self.call, Call::Close | Call::CloseTimeout)
    }

    /// Drops the future after `polls` polls. Returns whether it had completed before.
    async fn run(&self, polls: usize) -> bool {
        let rig = self.rig();
        let mut held = self.begin(&rig).await;
        let mut other = None;
        if self.other == Other::Ahead {
            other = Some(acquire_and_release(&rig.pool));
            settle_a_little().await;
        }
        let mut future = self.future(rig.pool.clone());
        let mut ended = false;
        for (poll, &gap_ms) in GAPS_MS.iter().enumerate().take(polls) {
            if poll_ends(&mut future).await {
                ended = true;
                break;
            }
            if poll + 1 == polls && !self.settled {
                break;
            }
            if poll == 0 {
                if self.other == Other::Behind {
                    other = Some(acquire_and_release(&rig.pool));
                    settle_a_little().await;
                }
                held.drain(..).for_each(PooledConn::release);
            }
            let mut left = gap_ms;
            // In steps so short that no connect timeout takes the client for stalled.
            loop {
                advance(Duration::from_millis(left.min(50))).await;
                settle_a_little().await;
                left = left.saturating_sub(50);
                if left == 0 {
                    break;
                }
            }
        }
        drop(future);
        if self.call == Call::Drain {
            rig.pool.enable(SERVERS[0]).expect("it is registered");
        }
        held.drain(..).for_each(PooledConn::release);
        sleep(LONGER_THAN_ALL).await;
        if let Some(other) = other {
            self.holds(polls, other.is_finished(), "the other caller is not stuck");
        }
        self.check_counts(&rig, polls);
        if self.closes() && polls > 0 {
            self.check_closed(&rig, polls).await;
        } else {
            self.check_usable(&rig, polls).await;
        }
        drop(rig);
        settle().await;
        self.holds(polls, Handle::current().metrics().num_alive_tasks() == 0, "no task is left");
        ended
    }

    fn holds(&self, polls: usize, condition: bool, what: &str) {
        assert!(condition, "violated: {what}; after {polls} polls of {self:?}");
    }

    /// Asserts that no call and no attempt runs, and that all open connections are idle.
    fn check_counts(&self, rig: &Rig, polls: usize) {
        let status = rig.pool.status();
        let mut idle = 0;
        self.holds(polls, status.waiters == 0, "the wait queue is empty");
        for server in &status.servers {
            self.holds(polls, !matches!(server.state, ServerState::Probing { .. }), "no probe is left");
            self.holds(polls, server.connecting == 0, "no attempt is counted");
            self.holds(
                polls,
                server.in_use == 0 && server.open as usize == server.idle,
                "all open connections are idle",
            );
            let counts = rig.connector.counts(&server.address);
            self.holds(polls, counts.open == server.open, "permits and connections are equally many");
            self.holds(polls, counts.in_flight == 0, "no attempt is left in the connector");
            self.holds(polls, counts.max_open <= 1, "connections never exceeded permits");
            idle += server.idle as u64;
        }
        let total = rig.connector.total_counts();
        self.holds(polls, status.closed || u64::from(total.open) == idle, "the pool holds all open connections");
        if self.reuse == Reuse::Yes && !status.closed && !self.replaces() {
            self.holds(polls, total.connected == idle, "no connection was lost");
            if matches!(self.start, Start::Idle | Start::Held | Start::Limited) {
                self.holds(polls, total.attempts == 2, "no connection was opened twice");
            }
        }
    }

    async fn check_closed(&self, rig: &Rig, polls: usize) {
        self.holds(polls, rig.pool.status().closed, "the pool is closed");
        self.holds(polls, rig.connector.total_counts().open == 0, "all connections are closed");
        let mut close: Dropped = Box::pin({
            let pool = rig.pool.clone();
            async move { pool.close().await }
        });
        self.holds(polls, poll_ends(&mut close).await, "closing again completes immediately");
        self.holds(
            polls,
            matches!(rig.pool.acquire().await, Err(AcquireError::Closed)),
            "callers get the error Closed",
        );
    }

    /// Asserts that exactly the two permits are available.
    async fn check_usable(&self, rig: &Rig, polls: usize) {
        rig.connector.set_default(Connect::Ok);
        SERVERS.iter().for_each(|server| rig.connector.set_reuse(server, Reuse::Yes));
        let mut held = Vec::new();
        for _ in SERVERS {
            let acquired = rig.pool.acquire_timeout(LONGER_THAN_ALL).await;
            self.holds(polls, acquired.is_ok(), "a later acquire gets a connection");
            held.extend(acquired);
        }
        self.holds(polls, server_of(&held[0]) != server_of(&held[1]), "each server has its permit");
        let third = rig.pool.acquire_timeout(Duration::from_millis(1)).await;
        self.holds(polls, matches!(third, Err(AcquireError::Timeout { .. })), "no server has an additional permit");
        self.holds(polls, rig.connector.total_counts().open == 2, "both connections are open");
    }
}

/// Polls once. Returns whether the future has completed or panicked.
async fn poll_ends(future: &mut Dropped) -> bool {
    poll_fn(|cx| {
        let poll = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx)));
        Poll::Ready(!matches!(poll, Ok(Poll::Pending)))
    })
    .await
}

fn acquire_and_release(pool: &Pool<ScriptedConnector>) -> JoinHandle<()> {
    let pool = pool.clone();
    tokio::spawn(async move {
        if let Ok(conn) = pool.acquire().await {
            conn.release();
        }
    })
}

/// Runs the other tasks long enough for an attempt, a grant and a release in turn.
async fn settle_a_little() {
    for _ in 0..12 {
        tokio::task::yield_now().await;
    }
}

/// Runs all cases of these calls.
fn run_all(calls: &[Call]) {
    let slow = Connect::Slow(Duration::from_millis(70));
    let connects = [Connect::Ok, Connect::Refuse, Connect::LocalFault, slow, Connect::Never, Connect::Panic];
    let mut cases = Vec::new();
    for &call in calls {
        for start in [Start::Empty, Start::Idle, Start::Limited, Start::Held, Start::Down] {
            for connect in &connects {
                for reuse in [Reuse::Yes, Reuse::No, Reuse::Panic] {
                    // A new connection is not checked for reuse.
                    if reuse != Reuse::Yes && matches!(start, Start::Empty | Start::Down) {
                        continue;
                    }
                    for other in [Other::None, Other::Ahead, Other::Behind] {
                        for settled in [false, true] {
                            cases.push(Case { call, start, connect: connect.clone(), reuse, other, settled });
                        }
                    }
                }
            }
        }
    }
    let mut dropped = 0;
    for case in &cases {
        for polls in 0.. {
            assert!(polls <= GAPS_MS.len(), "the call never completes: {case:?}");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
            if runtime.expect("a runtime can be built").block_on(case.run(polls)) {
                break;
            }
            dropped += 1;
        }
    }
    assert!(dropped > cases.len(), "most futures have an await point: {dropped} drops in {} cases", cases.len());
}

#[test]
fn dropped_acquire_leaks_nothing() {
    run_all(&[Call::Acquire]);
}

#[test]
fn dropped_acquire_timeout_leaks_nothing() {
    run_all(&[Call::AcquireTimeout]);
}

#[test]
fn dropped_acquire_now_leaks_nothing() {
    run_all(&[Call::AcquireNow]);
}

#[test]
fn dropped_acquire_with_wishes_leaks_nothing() {
    run_all(&[Call::AcquireOwned, Call::AcquireAvoiding, Call::AcquireFresh]);
}

#[test]
fn dropped_warm_up_and_drain_leak_nothing() {
    run_all(&[Call::WarmUp, Call::Drain]);
}

#[test]
fn dropped_close_leaks_nothing() {
    run_all(&[Call::Close, Call::CloseTimeout]);
}
