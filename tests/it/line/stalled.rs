//! A caller that is polled once and never again delays nobody.

use super::*;

/// A thousand callers that release at once what they get. Returns when the last got it.
fn a_thousand(rig: &Rig) -> JoinSet<Duration> {
    let mut callers = JoinSet::new();
    for _ in 0..1_000 {
        let (pool, clock) = (rig.pool.clone(), rig.clock.clone());
        callers.spawn(async move {
            pool.acquire().await.expect("it is served").release();
            clock.now()
        });
    }
    callers
}

async fn last(callers: JoinSet<Duration>) -> Duration {
    callers.join_all().await.into_iter().max().expect("there are a thousand")
}

/// A caller that was polled once holds up at most what is in its slot, and passes that on when it goes.
#[track_caller]
fn assert_passes_on(rig: &Rig, stalled: Caller) {
    let idle = rig.pool.status().servers[0].idle;
    assert_eq!(stalled.wakes(), 1);
    drop(stalled);
    assert_eq!(rig.pool.status().servers[0].idle, idle + 1);
}

/// Two connections are out and come back in that way: a thousand callers are served at that moment.
async fn assert_no_delay(give_back: fn(Conn)) {
    let rig = rig(2);
    let mut held = open(&rig, 2).await;
    let stalled = Caller::joined(&rig);
    let callers = a_thousand(&rig);
    settle().await;
    assert_eq!(rig.pool.status().waiters, 1_001);
    let given_back = rig.clock.now();
    held.drain(..).for_each(give_back);
    assert_eq!(last(callers).await, given_back);
    assert_passes_on(&rig, stalled);
}

#[tokio::test(start_paused = true)]
async fn who_is_polled_once_delays_no_release() {
    assert_no_delay(Conn::release).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_polled_once_delays_no_token() {
    // A burst of 101.
    let rig = Rig::paused(|builder| builder.server(Server::new("a").max_rps(10_000.0)).max_conns_per_server(4));
    open(&rig, 4).await.into_iter().for_each(Conn::release);
    while let Ok(conn) = rig.pool.try_acquire() {
        conn.release();
    }
    let stalled = Caller::joined(&rig);
    let callers = a_thousand(&rig);
    let started = rig.clock.now();
    let took = last(callers).await - started;
    let least = Duration::from_millis(100);
    assert!(took >= least && took <= least + 2 * TICK, "{took:?}");
    assert_passes_on(&rig, stalled);
}

#[tokio::test(start_paused = true)]
async fn who_is_polled_once_delays_no_end_of_a_backoff() {
    let backoff = Duration::from_millis(700);
    let rig = Rig::paused(|builder| {
        builder.server("a").max_conns_per_server(4).backoff(backoff, backoff).backoff_spread_ratio(0.0)
    });
    open(&rig, 1).await.remove(0).fail("broken");
    let failed = rig.clock.now();
    let stalled = Caller::joined(&rig);
    let callers = a_thousand(&rig);
    let took = last(callers).await - failed;
    assert!(took >= backoff && took <= backoff + TICK, "{took:?}");
    assert_passes_on(&rig, stalled);
}

#[tokio::test(start_paused = true)]
async fn who_is_polled_once_delays_no_freed_permit() {
    assert_no_delay(Conn::discard).await;
}
