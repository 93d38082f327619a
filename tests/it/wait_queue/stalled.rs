//! A waiter that is polled only once does not delay the others.

use super::*;

/// Spawns a thousand callers. Each releases its connection immediately and returns the time at which it was served.
fn thousand_callers(rig: &Rig) -> JoinSet<Duration> {
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let (pool, clock) = (rig.pool.clone(), rig.clock.clone());
        callers.spawn(async move {
            pool.acquire().await.expect("the caller is served").release();
            clock.now()
        });
    }
    callers
}

async fn last_served_at(callers: JoinSet<Duration>) -> Duration {
    callers.join_all().await.into_iter().max().expect("there are a thousand callers")
}

/// Asserts that a stalled waiter holds at most the one connection that it was served with, and returns it when dropped.
#[track_caller]
fn assert_passes_on(rig: &Rig, stalled: Caller) {
    let idle = rig.pool.status().servers[0].idle;
    assert_eq!(stalled.wakes(), 1);
    drop(stalled);
    assert_eq!(rig.pool.status().servers[0].idle, idle + 1);
}

/// Asserts that a thousand callers are served at the time at which the two connections in use are returned.
async fn assert_no_delay(return_conn: fn(Conn)) {
    let rig = rig(2);
    let mut held = open(&rig, 2).await;
    let stalled = Caller::joined(&rig);
    let callers = thousand_callers(&rig);
    settle().await;
    assert_eq!(rig.pool.status().waiters, 1_001);
    let returned_at = rig.clock.now();
    held.drain(..).for_each(return_conn);
    assert_eq!(last_served_at(callers).await, returned_at);
    assert_passes_on(&rig, stalled);
}

#[tokio::test(start_paused = true)]
async fn stalled_waiter_does_not_delay_releases() {
    assert_no_delay(Conn::release).await;
}

#[tokio::test(start_paused = true)]
async fn stalled_waiter_does_not_delay_tokens() {
    // A burst of 101.
    let rig = Rig::paused(|builder| builder.server(Server::new("a").max_rps(10_000.0)).max_conns_per_server(4));
    open(&rig, 4).await.into_iter().for_each(Conn::release);
    while let Ok(conn) = rig.pool.try_acquire() {
        conn.release();
    }
    let stalled = Caller::joined(&rig);
    let callers = thousand_callers(&rig);
    let started = rig.clock.now();
    let took = last_served_at(callers).await - started;
    let least = Duration::from_millis(100);
    assert!(took >= least && took <= least + 2 * TICK, "{took:?}");
    assert_passes_on(&rig, stalled);
}

#[tokio::test(start_paused = true)]
async fn stalled_waiter_does_not_delay_end_of_backoff() {
    let backoff = Duration::from_millis(700);
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(4).backoff(backoff, backoff).backoff_spread_ratio(0.0)
    });
    refuse_one(&rig, "a").await;
    let failed = rig.clock.now();
    let stalled = Caller::joined(&rig);
    let callers = thousand_callers(&rig);
    let took = last_served_at(callers).await - failed;
    // The probe's connection is in the stalled waiter's slot, so the recovery ends after an interval, not by a return.
    assert!(took >= 2 * backoff && took <= 2 * backoff + TICK, "{took:?}");
    assert_passes_on(&rig, stalled);
}

#[tokio::test(start_paused = true)]
async fn stalled_waiter_does_not_delay_freed_permits() {
    assert_no_delay(Conn::discard).await;
}
