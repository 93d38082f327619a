//! The limit on checkouts per second: no window exceeds the bound, and the rate is fully used.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{Builder, PooledConn, Server};

use crate::limits::Random;
use crate::support::{Rig, server_of, settle};

const SECOND_NS: u64 = 1_000_000_000;
/// A rate at which a second is a whole number of the bucket's units, and so low that no token arrives during a test.
const NO_RATE: f64 = 1.0 / 131_072.0;

/// Checks each checkout against the bound, in every window that ends with it: for all `i <= j`,
/// `j - i + 1 <= burst + rate × (t_j - t_i)`. Exact: counted in 10⁻⁹ tokens.
struct Ledger {
    burst: u64,
    rps: u64,
    now_ns: u64,
    /// The tokens that the rate has given since the start.
    earned: i128,
    granted: u64,
    /// The minimum of `i - earned at t_i` over all checkouts so far.
    least: i128,
}

impl Ledger {
    fn new(rps: u64, burst: u64) -> Self {
        Self { burst, rps, now_ns: 0, earned: 0, granted: 0, least: i128::MAX }
    }

    fn advance(&mut self, now: Duration) {
        let now_ns = now.as_nanos() as u64;
        self.earned += i128::from(now_ns - self.now_ns) * i128::from(self.rps);
        self.now_ns = now_ns;
    }

    fn set_rate(&mut self, now: Duration, rps: u64) {
        self.advance(now);
        self.rps = rps;
    }

    fn grant(&mut self, now: Duration) {
        self.advance(now);
        let nano_tokens = |tokens: u64| i128::from(tokens) * i128::from(SECOND_NS);
        self.least = self.least.min(nano_tokens(self.granted) - self.earned);
        self.granted += 1;
        let worst = nano_tokens(self.granted) - self.earned - self.least;
        let burst = nano_tokens(self.burst);
        assert!(worst <= burst, "checkout {} at {now:?} exceeds the bound by {}", self.granted, worst - burst);
    }

    /// ⌊burst + rate × T⌋, if the whole burst was used.
    fn allowed(&self) -> u64 {
        self.burst + (self.earned / i128::from(SECOND_NS)) as u64
    }

    fn assert_all_was_granted(&self) {
        let (granted, allowed) = (self.granted, self.allowed());
        assert!(granted.abs_diff(allowed) <= 1, "{granted} of {allowed} at {} rps", self.rps);
    }
}

/// A pool of one server with this rate and without expiry.
fn limited(rps: f64, burst: u32) -> impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    move |b| {
        let server = Server::new("a").max_rps(rps).burst(burst);
        b.server(server).idle_timeout(None).max_lifetime(None).wait_timeout(None)
    }
}

/// Checks out until no token is left.
fn drain(rig: &Rig, ledger: &mut Ledger) {
    while let Ok(conn) = rig.pool.try_acquire() {
        ledger.grant(rig.clock.now());
        conn.release();
    }
}

/// Steps of the clock that lose no token: the tokens of each step fit into the burst.
#[derive(Debug, Clone, Copy)]
enum Steps {
    /// Steps of equal length.
    Regular,
    /// Steps of random length, at most the longest.
    Odd,
}

impl Steps {
    fn draw(self, longest_ns: u64, random: &mut Random) -> Duration {
        match self {
            Self::Regular => Duration::from_nanos(longest_ns),
            Self::Odd => Duration::from_nanos(random.below(longest_ns + 1)),
        }
    }
}

/// Rate, burst, and the longest step, in which at most `burst - 1` tokens arrive.
const RATES: [(u64, u32, u64); 5] = [
    (3, 4, SECOND_NS),
    (1_000, 11, 10_000_000),
    (300_000, 301, 1_000_000),
    (10_000_000, 1_001, 100_000),
    (10_000_000, 2, 100),
];

#[tokio::test]
async fn checkouts_equal_burst_plus_rate() {
    for (rps, burst, longest_ns) in RATES {
        for steps in [Steps::Regular, Steps::Odd] {
            let rig = Rig::manual(limited(rps as f64, burst));
            let mut ledger = Ledger::new(rps, u64::from(burst));
            let mut random = Random(rps);
            rig.pool.acquire().await.expect("a new connection").release();
            ledger.grant(rig.clock.now());
            while ledger.granted < 50_000 {
                drain(&rig, &mut ledger);
                rig.clock.advance(steps.draw(longest_ns, &mut random));
            }
            drain(&rig, &mut ledger);
            ledger.advance(rig.clock.now());
            ledger.assert_all_was_granted();
        }
    }
}

#[tokio::test]
async fn checkouts_from_wait_queue_equal_burst_plus_rate() {
    for (rps, burst, longest_ns) in RATES {
        for steps in [Steps::Regular, Steps::Odd] {
            let rig = Rig::manual(limited(rps as f64, burst));
            let ledger = Arc::new(Mutex::new(Ledger::new(rps, u64::from(burst))));
            let mut random = Random(rps);
            for _ in 0..16 {
                let (pool, clock, ledger) = (rig.pool.clone(), rig.clock.clone(), Arc::clone(&ledger));
                tokio::spawn(async move {
                    while let Ok(conn) = pool.acquire().await {
                        ledger.lock().expect("the lock is not poisoned").grant(clock.now());
                        conn.release();
                    }
                });
            }
            let granted = || ledger.lock().expect("the lock is not poisoned").granted;
            while granted() < 3_000 {
                let mut before = u64::MAX;
                while before != granted() {
                    before = granted();
                    settle().await;
                }
                rig.clock.advance(steps.draw(longest_ns, &mut random));
            }
            let mut before = u64::MAX;
            while before != granted() {
                before = granted();
                settle().await;
            }
            rig.pool.close().await;
            let mut ledger = ledger.lock().expect("the lock is not poisoned");
            ledger.advance(rig.clock.now());
            ledger.assert_all_was_granted();
        }
    }
}

#[tokio::test]
async fn default_burst_is_one_plus_ten_milliseconds_of_rate_rounded_up() {
    for (rps, burst) in [(3.0, 2), (99.0, 2), (100.0, 2), (101.0, 3), (1_000.0, 11), (300_000.0, 3_001)] {
        let rig = Rig::manual(|b| b.server("a").max_rps(rps));
        let mut ledger = Ledger::new(rps as u64, burst);
        rig.pool.acquire().await.expect("a new connection").release();
        ledger.grant(rig.clock.now());
        drain(&rig, &mut ledger);
        assert_eq!(ledger.granted, burst, "{rps} rps");
    }
}

#[tokio::test]
async fn idle_time_earns_at_most_burst() {
    let rig = Rig::manual(limited(1_000.0, 7));
    let mut ledger = Ledger::new(1_000, 7);
    rig.pool.acquire().await.expect("a new connection").release();
    ledger.grant(rig.clock.now());
    for seconds in [0, 1, 10, 100_000] {
        rig.clock.advance(Duration::from_secs(seconds));
        drain(&rig, &mut ledger);
    }
    assert_eq!(ledger.granted, 4 * 7);
}

#[tokio::test]
async fn each_server_has_its_own_rate() {
    let slow = Server::new("slow").max_rps(NO_RATE).burst(3);
    let fast = Server::new("fast").max_rps(NO_RATE).burst(100);
    let rig = Rig::manual(|b| b.servers([slow, fast]));
    let mut served = [0, 0];
    let mut count = |conn: PooledConn<ScriptedConnector>| {
        served[usize::from(server_of(&conn) == "fast")] += 1;
        conn.release();
    };
    let held = [rig.pool.acquire().await, rig.pool.acquire().await];
    held.into_iter().for_each(|conn| count(conn.expect("a new connection")));
    while let Ok(conn) = rig.pool.try_acquire() {
        count(conn);
    }
    assert_eq!(served, [3, 100]);
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Checks out a connection, and makes `N` callers wait for it.
async fn held_with_waiters<const N: usize>(
    rig: &Rig,
) -> (PooledConn<ScriptedConnector>, [Pin<Box<impl Future + use<'_, N>>>; N]) {
    let held = rig.pool.acquire().await.expect("a new connection");
    let mut waiters = std::array::from_fn(|_| Box::pin(rig.pool.acquire()));
    for waiter in &mut waiters {
        assert!(poll_once(waiter.as_mut()).is_pending());
    }
    (held, waiters)
}

#[tokio::test]
async fn cancelled_waiter_returns_its_token_exactly() {
    let rig = Rig::manual(|b| limited(NO_RATE, 3)(b).max_conns_per_server(1));
    let mut ledger = Ledger::new(0, 3);
    let (held, [waiter]) = held_with_waiters(&rig).await;
    ledger.grant(rig.clock.now());
    held.release();
    assert!(rig.pool.try_acquire().is_err(), "the waiter was served with the connection");
    drop(waiter);
    drain(&rig, &mut ledger);
    assert_eq!(ledger.granted, 3);
}

#[tokio::test]
async fn cancelled_waiter_passes_connection_and_token_on() {
    let rig = Rig::manual(|b| limited(NO_RATE, 2)(b).max_conns_per_server(1));
    let (held, [first, mut second]) = held_with_waiters(&rig).await;
    held.release();
    assert!(poll_once(second.as_mut()).is_pending(), "the first waiter has the last token");
    drop(first);
    assert!(poll_once(second.as_mut()).is_ready(), "the second waiter has the token and the connection");
    assert_eq!(rig.pool.try_acquire().err().and_then(|error| error.retry_after()), Some(Duration::from_secs(131_072)));
}

#[tokio::test]
async fn token_taken_before_another_is_forfeited() {
    // Two waiters are served with a connection and a token each.
    let rig = Rig::manual(|b| limited(NO_RATE, 5)(b).max_conns_per_server(2));
    let mut ledger = Ledger::new(0, 5);
    let other = rig.pool.acquire().await.expect("a new connection");
    let (held, [first, second]) = held_with_waiters(&rig).await;
    for conn in [other, held] {
        ledger.grant(rig.clock.now());
        conn.release();
    }
    // The first token was taken before the second, so it is lost. The second is returned.
    drop(first);
    drop(second);
    drain(&rig, &mut ledger);
    assert_eq!(ledger.granted, 4);
}

/// Whether a waiter was woken, and thus served.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn bound_holds_when_served_waiters_leave() {
    for seed in 0..4 {
        let rig = Rig::manual(|b| limited(1_000.0, 11)(b).max_conns_per_server(4));
        let mut ledger = Ledger::new(1_000, 11);
        let mut random = Random(seed);
        let mut waiters = Vec::new();
        let mut left_with_a_token = 0;
        for _ in 0..500 {
            let joining = random.below(8);
            waiters.extend((0..joining).map(|_| (Box::pin(rig.pool.acquire()), Arc::new(Woken(true.into())))));
            // Repeats until no waiter is served, so that each checkout counts at the time at which its token was taken.
            while waiters.iter().any(|(_, woken)| woken.0.load(Ordering::SeqCst)) {
                for (mut waiter, woken) in std::mem::take(&mut waiters) {
                    if woken.0.swap(false, Ordering::SeqCst) && random.below(3) == 0 {
                        left_with_a_token += 1;
                        continue;
                    }
                    match waiter.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(&woken)))) {
                        Poll::Ready(conn) => {
                            ledger.grant(rig.clock.now());
                            conn.expect("the wait has no timeout").release();
                        }
                        Poll::Pending => waiters.push((waiter, woken)),
                    }
                }
                settle().await;
            }
            rig.clock.advance(Duration::from_nanos(random.below(6_000_000)));
            settle().await;
        }
        assert!(
            left_with_a_token > 100 && ledger.granted > 500,
            "seed {seed}: {left_with_a_token}, {}",
            ledger.granted
        );
    }
}

#[tokio::test]
async fn bound_holds_across_change_of_rate() {
    let rates = [1_000, 50, 20_000, 3, 999];
    for seed in 0..4 {
        let rig = Rig::manual(limited(1_000.0, 20));
        let mut ledger = Ledger::new(1_000, 20);
        let mut random = Random(seed);
        rig.pool.acquire().await.expect("a new connection").release();
        ledger.grant(rig.clock.now());
        drain(&rig, &mut ledger);
        for _ in 0..4_000 {
            // Fewer tokens than half the burst arrive before and after the change, so that none is lost.
            rig.clock.advance(Duration::from_nanos(random.below(9 * SECOND_NS / ledger.rps)));
            let rps = rates[random.below(5) as usize];
            rig.pool.set_servers([Server::new("a").max_rps(rps as f64).burst(20)]).expect("the settings are in range");
            ledger.set_rate(rig.clock.now(), rps);
            rig.clock.advance(Duration::from_nanos(random.below(9 * SECOND_NS / rps)));
            drain(&rig, &mut ledger);
        }
        ledger.assert_all_was_granted();
    }
}

#[tokio::test]
async fn repeated_changes_of_rate_and_burst_grant_no_token() {
    let rig = Rig::manual(limited(1_000.0, 10));
    let mut ledger = Ledger::new(0, 100);
    rig.pool.acquire().await.expect("a new connection").release();
    ledger.grant(rig.clock.now());
    for _ in 0..20 {
        for (rps, burst) in [(1_000.0, 10), (10_000.0, 100), (3.0, 10)] {
            rig.pool.set_servers([Server::new("a").max_rps(rps).burst(burst)]).expect("the settings are in range");
            drain(&rig, &mut ledger);
        }
    }
    assert!(ledger.granted >= 10);
}

#[tokio::test]
async fn new_rate_applies_to_waiters_immediately() {
    let rig = Rig::manual(limited(NO_RATE, 1));
    rig.pool.acquire().await.expect("a new connection").release();
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).is_pending());
    settle().await;
    rig.pool.set_servers([Server::new("a").max_rps(1_000.0).burst(1)]).expect("the settings are in range");
    settle().await;
    rig.clock.advance(Duration::from_micros(999));
    settle().await;
    assert!(poll_once(waiter.as_mut()).is_pending());
    rig.clock.advance(Duration::from_micros(1));
    settle().await;
    assert!(poll_once(waiter.as_mut()).is_ready());
}
