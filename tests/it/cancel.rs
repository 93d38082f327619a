//! A future of the pool that is dropped, at whatever await point, takes nothing with it: no permit, no connection, no
//! probe, no place in the line.
//!
//! Each case polls the future `polls` times, lets everybody else run in between, drops it, and looks at what is left;
//! `polls` rises until the future ends by itself. A case that fails prints itself.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use connring::test_util::{Connect, Reuse, ScriptedConnector};
use connring::{AcquireError, Pool, PooledConn, ServerState};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{advance, sleep};

use crate::support::{Rig, server_of, settle};

const SERVERS: [&str; 2] = ["a:1", "b:1"];
/// What passes after each poll but the last. Together they are longer than every timeout.
const GAPS_MS: [u64; 10] = [0, 20, 40, 60, 100, 200, 500, 1_000, 1_000, 1_000];
const LONGER_THAN_ALL: Duration = Duration::from_secs(5);

/// The call whose future is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Acquire,
    AcquireTimeout,
    AcquireNow,
    Close,
    CloseTimeout,
}

/// What the call finds. There are two servers with one permit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// No connection.
    Empty,
    /// An idle connection at each server.
    Idle,
    /// The same, but no token for a while.
    Limited,
    /// All connections are out. They come back after the first poll.
    Held,
    /// Both servers are down, and their retries are due.
    Down,
}

/// Whether somebody else acquires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Other {
    Nobody,
    /// Before the first poll.
    Ahead,
    /// After it.
    Behind,
}

#[derive(Debug, Clone)]
struct Case {
    call: Call,
    start: Start,
    /// How dials end once the call has begun.
    dial: Connect,
    reuse: Reuse,
    other: Other,
    /// Whether the others run between the last poll and the drop.
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

    /// Brings about what the call finds. Returns the connections that are out.
    async fn begin(&self, rig: &Rig) -> Vec<PooledConn<ScriptedConnector>> {
        let mut held = Vec::new();
        match self.start {
            Start::Empty => {}
            Start::Idle | Start::Limited | Start::Held => {
                for _ in SERVERS {
                    held.push(rig.pool.acquire().await.expect("dials succeed"));
                }
            }
            Start::Down => {
                rig.connector.set_default(Connect::Refuse);
                rig.pool.acquire_timeout(Duration::from_millis(1)).await.expect_err("dials are refused");
                advance(Duration::from_millis(160)).await;
            }
        }
        if self.start != Start::Held {
            held.drain(..).for_each(PooledConn::release);
        }
        rig.connector.set_default(self.dial.clone());
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
            Call::Close => Box::pin(async move { pool.close().await }),
            Call::CloseTimeout => Box::pin(async move {
                let _ = pool.close_timeout(timeout).await;
            }),
        }
    }

    fn closes(&self) -> bool {
        matches!(self.call, Call::Close | Call::CloseTimeout)
    }

    /// Drops the future after `polls` polls. True if it had ended before.
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
            advance(Duration::from_millis(gap_ms)).await;
            settle_a_little().await;
        }
        drop(future);
        held.drain(..).for_each(PooledConn::release);
        sleep(LONGER_THAN_ALL).await;
        if let Some(other) = other {
            self.holds(polls, other.is_finished(), "nobody waits for ever");
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
        assert!(condition, "not so: {what}; after {polls} polls of {self:?}");
    }

    /// Nothing is under way, and what is open is idle.
    fn check_counts(&self, rig: &Rig, polls: usize) {
        let status = rig.pool.status();
        let mut idle = 0;
        self.holds(polls, status.waiters == 0, "nobody waits");
        for server in &status.servers {
            self.holds(polls, !matches!(server.state, ServerState::Probing { .. }), "no probe is left");
            self.holds(polls, server.connecting == 0, "no dial is under way");
            self.holds(polls, server.in_use == 0 && server.open as usize == server.idle, "what is open is idle");
            let counts = rig.connector.counts(&server.address);
            self.holds(polls, counts.open == server.open, "each permit is a connection, and each connection has one");
            self.holds(polls, counts.in_flight == 0, "no dial is left alone");
            self.holds(polls, counts.max_open <= 1, "there were never more connections than permits");
            idle += server.idle as u64;
        }
        let total = rig.connector.total_counts();
        self.holds(polls, status.closed || u64::from(total.open) == idle, "all connections are the pool's");
        if self.reuse == Reuse::Yes && !status.closed {
            self.holds(polls, total.connected == idle, "no connection was lost");
            if matches!(self.start, Start::Idle | Start::Held | Start::Limited) {
                self.holds(polls, total.attempts == 2, "no connection was dialled anew");
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
        self.holds(polls, poll_ends(&mut close).await, "closing again ends at once");
        self.holds(polls, matches!(rig.pool.acquire().await, Err(AcquireError::Closed)), "callers learn of it");
    }

    /// Both permits can be had, and no third.
    async fn check_usable(&self, rig: &Rig, polls: usize) {
        rig.connector.set_default(Connect::Ok);
        SERVERS.iter().for_each(|server| rig.connector.set_reuse(server, Reuse::Yes));
        let mut held = Vec::new();
        for _ in SERVERS {
            let acquired = rig.pool.acquire_timeout(LONGER_THAN_ALL).await;
            self.holds(polls, acquired.is_ok(), "a further acquire has a connection");
            held.extend(acquired);
        }
        self.holds(polls, server_of(&held[0]) != server_of(&held[1]), "each server has its permit");
        let third = rig.pool.acquire_timeout(Duration::from_millis(1)).await;
        self.holds(polls, matches!(third, Err(AcquireError::Timeout { .. })), "no server has a permit more");
        self.holds(polls, rig.connector.total_counts().open == 2, "both connections are open");
    }
}

/// Polls once. True if the future has ended, or panicked.
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

/// Enough for a chain of dial, grant and release.
async fn settle_a_little() {
    for _ in 0..12 {
        tokio::task::yield_now().await;
    }
}

/// Runs all cases of some calls.
fn run_all(calls: &[Call]) {
    let slow = Connect::Slow(Duration::from_millis(70));
    let dials = [Connect::Ok, Connect::Refuse, Connect::LocalFault, slow, Connect::Never, Connect::Panic];
    let mut cases = Vec::new();
    for &call in calls {
        for start in [Start::Empty, Start::Idle, Start::Limited, Start::Held, Start::Down] {
            for dial in &dials {
                for reuse in [Reuse::Yes, Reuse::No, Reuse::Panic] {
                    // A connection fresh from its dial is not asked about.
                    if reuse != Reuse::Yes && matches!(start, Start::Empty | Start::Down) {
                        continue;
                    }
                    for other in [Other::Nobody, Other::Ahead, Other::Behind] {
                        for settled in [false, true] {
                            cases.push(Case { call, start, dial: dial.clone(), reuse, other, settled });
                        }
                    }
                }
            }
        }
    }
    let mut dropped = 0;
    for case in &cases {
        for polls in 0.. {
            assert!(polls <= GAPS_MS.len(), "never ends: {case:?}");
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
fn a_dropped_acquire_loses_nothing() {
    run_all(&[Call::Acquire]);
}

#[test]
fn a_dropped_acquire_timeout_loses_nothing() {
    run_all(&[Call::AcquireTimeout]);
}

#[test]
fn a_dropped_acquire_now_loses_nothing() {
    run_all(&[Call::AcquireNow]);
}

#[test]
fn a_dropped_close_loses_nothing() {
    run_all(&[Call::Close, Call::CloseTimeout]);
}
