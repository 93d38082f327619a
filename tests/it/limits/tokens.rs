//! A failed checkout spends no token.

use super::*;

/// Takes all tokens, and returns their number.
fn tokens_left(pool: &Pool<ScriptedConnector>) -> usize {
    let mut granted = 0;
    while let Ok(conn) = pool.try_acquire() {
        conn.release();
        granted += 1;
    }
    granted
}

fn five_tokens(max_conns: u32) -> Rig {
    Rig::manual(|b| b.server("a").max_conns_per_server(max_conns).max_rps(NO_RATE).burst(5).wait_timeout(SECOND))
}

/// Makes calls of each kind that get no connection. Those of `acquire` and `acquire_now` are dropped after three polls.
async fn fail_to_acquire(pool: &Pool<ScriptedConnector>) {
    for _ in 0..20 {
        assert!(pool.try_acquire().is_err());
        assert!(poll_at_most(3, pool.acquire_now()).await.is_none());
        assert!(poll_at_most(3, pool.acquire()).await.is_none());
    }
}

#[tokio::test]
async fn no_token_is_spent_without_idle_connection() {
    let rig = five_tokens(2);
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    fail_to_acquire(&rig.pool).await;
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(tokens_left(&rig.pool), 5);
}

#[tokio::test]
async fn no_token_is_spent_at_full_server() {
    let rig = five_tokens(1);
    let conn = rig.pool.acquire().await.expect("a new connection");
    fail_to_acquire(&rig.pool).await;
    conn.release();
    assert_eq!(tokens_left(&rig.pool), 4);
}

#[tokio::test]
async fn no_token_is_spent_on_dead_connection() {
    let rig = five_tokens(3);
    let [first, second] = [rig.pool.acquire().await, rig.pool.acquire().await];
    for conn in [first, second] {
        conn.expect("a new connection").release();
    }
    rig.connector.kill_connections("a");
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    fail_to_acquire(&rig.pool).await;
    assert_eq!(rig.connector.counts("a").reuse_checks, 2, "both connections were checked");
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(tokens_left(&rig.pool), 3);
}

#[tokio::test]
async fn no_token_is_spent_on_dead_connection_handed_to_waiter() {
    let rig = five_tokens(1);
    let conn = rig.pool.acquire().await.expect("a new connection");
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).is_pending());
    rig.connector.kill_connections("a");
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    conn.release();
    assert!(poll_once(waiter.as_mut()).is_pending(), "the waiter received a dead connection");
    settle().await;
    rig.clock.advance(SECOND / 2);
    rig.connector.on_connect("a", Connect::Ok);
    rig.clock.advance(SECOND / 2);
    settle().await;
    let Poll::Ready(Ok(conn)) = poll_once(waiter.as_mut()) else {
        panic!("an attempt opened a connection for the waiter")
    };
    conn.release();
    assert_eq!(tokens_left(&rig.pool), 3, "one token went to the first caller, one to the waiter");
}

#[tokio::test]
async fn no_token_is_spent_when_reuse_check_panics() {
    let rig = five_tokens(2);
    rig.pool.acquire().await.expect("a new connection").release();
    rig.connector.set_reuse("a", Reuse::Panic);
    assert!(catch_unwind(AssertUnwindSafe(|| rig.pool.try_acquire())).is_err());
    rig.connector.set_reuse("a", Reuse::Yes);
    rig.pool.acquire().await.expect("a new connection").release();
    assert_eq!(tokens_left(&rig.pool), 3);
    assert_eq!(numbers(&rig.pool), (1, 1, 0, 0), "the checked connection is closed");
}

#[tokio::test]
async fn no_token_is_spent_on_failed_attempts() {
    let rig = five_tokens(2);
    rig.connector.next_connects("a", [Connect::Refuse, Connect::LocalFault]);
    let down = rig.pool.acquire_now().await;
    assert!(matches!(down, Err(AcquireError::Unavailable(_))), "{down:?}");
    rig.clock.advance(SECOND);
    assert!(rig.pool.acquire_now().await.is_err(), "the probe fails with the local fault");
    rig.clock.advance(SECOND);
    settle().await;
    assert!(rig.pool.try_acquire().is_err(), "the call starts the next probe");
    settle().await;
    assert_eq!(rig.connector.counts("a").connected, 1);
    assert_eq!(tokens_left(&rig.pool), 5);
}

#[tokio::test]
async fn each_token_is_taken_by_one_thread() {
    const THREADS: usize = 8;
    for tokens in [1, 100, 4_000] {
        let burst = THREADS as u32 + tokens;
        let rig = Rig::manual(|b| b.server("a").max_rps(NO_RATE).burst(burst));
        // Each thread has a connection, so that only tokens are scarce.
        acquire_all(&rig.pool, THREADS).await.into_iter().for_each(PooledConn::release);
        let start = Barrier::new(THREADS);
        let race = || {
            start.wait();
            let mut granted = 0;
            loop {
                match rig.pool.try_acquire() {
                    Ok(conn) => conn.release(),
                    Err(TryAcquireError::Unavailable(counts)) if counts.limited == 1 => return granted,
                    Err(TryAcquireError::Unavailable(_)) => continue,
                    Err(error) => panic!("{error}"),
                }
                granted += 1;
            }
        };
        let granted: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(race)).collect();
            threads.into_iter().map(|thread| thread.join().expect("the task does not panic")).sum()
        });
        assert_eq!(granted, tokens);
    }
}

fn limited() -> Server {
    Server::new("a").max_rps(NO_RATE).burst(1)
}

/// Sets a limit at its first wake.
struct Limiter {
    pool: Pool<ScriptedConnector>,
    wakes: AtomicU32,
}

impl Wake for Limiter {
    fn wake(self: Arc<Self>) {
        if self.wakes.fetch_add(1, Ordering::Relaxed) == 0 {
            self.pool.set_servers([limited()]).expect("the settings are in range");
        }
    }
}

#[tokio::test]
async fn limit_set_while_waiters_are_served_applies_immediately() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(20).wait_timeout(None));
    let held = open(&rig, 20).await;
    rig.pool.set_servers([limited()]).expect("the settings are in range");
    held.into_iter().for_each(PooledConn::release);
    let _the_token = rig.pool.try_acquire().expect("a token is available");
    let limiter = Arc::new(Limiter { pool: rig.pool.clone(), wakes: AtomicU32::new(0) });
    let waker = Waker::from(Arc::clone(&limiter));
    let mut callers: Vec<_> = (0..19).map(|_| Box::pin(rig.pool.acquire())).collect();
    for caller in &mut callers {
        let polled = caller.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "19 connections are idle, but no token is available");
    }
    rig.pool.set_servers(["a"]).expect("the settings are in range");
    settle().await;
    // The waiters served before the first wake, and one for the burst of the new limit.
    let wakes = limiter.wakes.load(Ordering::Relaxed);
    assert!((1..=5).contains(&wakes), "{wakes} waiters were served");
}
