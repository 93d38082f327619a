//! A token is never spent on a hand-out that fails.

use super::*;

/// How many connections are handed out until there is no token.
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

/// Calls that find nothing, of each kind; those of `acquire` leave after a few polls.
async fn fail_to_acquire(pool: &Pool<ScriptedConnector>) {
    for _ in 0..20 {
        assert!(pool.try_acquire().is_err());
        assert!(poll_at_most(3, pool.acquire_now()).await.is_none());
        assert!(poll_at_most(3, pool.acquire()).await.is_none());
    }
}

#[tokio::test]
async fn no_token_is_spent_where_no_connection_is_idle() {
    let rig = five_tokens(2);
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    fail_to_acquire(&rig.pool).await;
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(tokens_left(&rig.pool), 5);
}

#[tokio::test]
async fn no_token_is_spent_at_a_full_server() {
    let rig = five_tokens(1);
    let conn = rig.pool.acquire().await.expect("a new connection");
    fail_to_acquire(&rig.pool).await;
    conn.release();
    assert_eq!(tokens_left(&rig.pool), 4);
}

#[tokio::test]
async fn no_token_is_spent_on_a_dead_connection() {
    let rig = five_tokens(3);
    let [first, second] = [rig.pool.acquire().await, rig.pool.acquire().await];
    for conn in [first, second] {
        conn.expect("a new connection").release();
    }
    rig.connector.kill_connections("a");
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    fail_to_acquire(&rig.pool).await;
    assert_eq!(rig.connector.counts("a").reuse_checks, 2, "both were looked at");
    rig.clock.advance(SECOND);
    settle().await;
    assert_eq!(tokens_left(&rig.pool), 3);
}

#[tokio::test]
async fn no_token_is_spent_on_a_connection_that_dies_on_its_way_to_a_waiter() {
    let rig = five_tokens(1);
    let conn = rig.pool.acquire().await.expect("a new connection");
    let mut waiter = pin!(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).is_pending());
    rig.connector.kill_connections("a");
    rig.connector.on_connect("a", Connect::Slow(SECOND));
    conn.release();
    assert!(poll_once(waiter.as_mut()).is_pending(), "it was given a dead one");
    settle().await;
    rig.clock.advance(SECOND / 2);
    rig.connector.on_connect("a", Connect::Ok);
    rig.clock.advance(SECOND / 2);
    settle().await;
    let Poll::Ready(Ok(conn)) = poll_once(waiter.as_mut()) else { panic!("it was dialled for") };
    conn.release();
    assert_eq!(tokens_left(&rig.pool), 3, "one was the holder's, one the waiter's");
}

#[tokio::test]
async fn no_token_is_spent_when_the_check_panics() {
    let rig = five_tokens(2);
    rig.pool.acquire().await.expect("a new connection").release();
    rig.connector.set_reuse("a", Reuse::Panic);
    assert!(catch_unwind(AssertUnwindSafe(|| rig.pool.try_acquire())).is_err());
    rig.connector.set_reuse("a", Reuse::Yes);
    rig.pool.acquire().await.expect("a new connection").release();
    assert_eq!(tokens_left(&rig.pool), 3);
    assert_eq!(numbers(&rig.pool), (1, 1, 0, 0), "what the check broke is closed");
}

#[tokio::test]
async fn no_token_is_spent_on_connects_that_fail() {
    let rig = five_tokens(2);
    rig.connector.next_connects("a", [Connect::Refuse, Connect::LocalFault]);
    let down = rig.pool.acquire_now().await;
    assert!(matches!(down, Err(AcquireError::Unavailable(_))), "{down:?}");
    rig.clock.advance(SECOND);
    assert!(rig.pool.acquire_now().await.is_err(), "the probe meets the fault");
    settle().await;
    rig.clock.advance(SECOND);
    assert!(rig.pool.try_acquire().is_err(), "the probe goes on");
    settle().await;
    assert_eq!(rig.connector.counts("a").connected, 1);
    assert_eq!(tokens_left(&rig.pool), 5);
}

#[tokio::test]
async fn threads_that_race_get_each_token_once() {
    const THREADS: usize = 8;
    for tokens in [1, 100, 4_000] {
        let burst = THREADS as u32 + tokens;
        let rig = Rig::manual(|b| b.server("a").max_rps(NO_RATE).burst(burst));
        // A connection for each thread, so that nothing but tokens is scarce.
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

/// Sets a limit when it is woken first.
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
async fn a_limit_that_is_set_while_the_line_is_served_holds_from_then_on() {
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(20).wait_timeout(None));
    let held = open(&rig, 20).await;
    rig.pool.set_servers([limited()]).expect("the settings are in range");
    held.into_iter().for_each(PooledConn::release);
    let _the_token = rig.pool.try_acquire().expect("there is a token");
    let limiter = Arc::new(Limiter { pool: rig.pool.clone(), wakes: AtomicU32::new(0) });
    let waker = Waker::from(Arc::clone(&limiter));
    let mut callers: Vec<_> = (0..19).map(|_| Box::pin(rig.pool.acquire())).collect();
    for caller in &mut callers {
        let polled = caller.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending(), "19 are idle, but no token is there");
    }
    rig.pool.set_servers(["a"]).expect("the settings are in range");
    settle().await;
    // Those that were served before the first was woken, and one for the new limit's burst.
    let wakes = limiter.wakes.load(Ordering::Relaxed);
    assert!((1..=5).contains(&wakes), "{wakes} were served");
}
