//! The spread of lifetimes.

use super::*;

fn idle(rig: &Rig) -> usize {
    rig.pool.status().servers[0].idle
}

#[tokio::test]
async fn hundred_connections_opened_together_end_evenly_for_an_hour() {
    let rig = Rig::manual(|b| {
        let b = b.server("a").max_conns_per_server(150).min_idle_per_server(100);
        b.max_lifetime(secs(60))
    });
    settle().await;
    assert_eq!(idle(&rig), 100);
    let closed = |rig: &Rig| rig.connector.total_counts().connected - u64::from(open_now(rig));
    let (mut before, mut most) = (0, 0);
    for second in 0..3_600 {
        for _ in 0..5 {
            rig.clock.advance(TICK * 2);
            settle().await;
            assert!(idle(&rig) >= 100, "{} idle in second {second}", idle(&rig));
        }
        most = most.max(closed(&rig) - before);
        before = closed(&rig);
    }
    assert!(most <= 10, "{most} were closed in one second");
    assert!(before >= 100 * 59, "{before} were closed");
}

#[tokio::test]
async fn thousand_connections_opened_together_end_spread_over_their_jitter() {
    let rig = Rig::manual(|b| {
        let b = b.server("a").max_conns_per_server(1_000).idle_timeout(None);
        b.max_lifetime(secs(1_000)).max_lifetime_jitter_ratio(0.2)
    });
    open(&rig, 1_000).await.into_iter().for_each(PooledConn::release);
    for _ in 0..800 {
        rig.clock.advance(secs(1));
        settle().await;
    }
    assert_eq!(open_now(&rig), 1_000);
    // 5 a second, over 200 seconds.
    for tens in 1..=20 {
        for _ in 0..10 {
            rig.clock.advance(secs(1));
            settle().await;
        }
        let expected = 1_000 - 50 * tens;
        assert!(open_now(&rig).abs_diff(expected) <= 6, "{} are open, {expected} expected", open_now(&rig));
    }
}

/// All permits are in use, so none is replaced before.
#[tokio::test]
async fn few_connections_are_closed_for_their_lifetime_by_one_sweep_and_their_permits_are_used_at_once() {
    let rig = Rig::manual(|b| {
        let b = b.server("a").max_conns_per_server(40).min_idle_per_server(20).idle_timeout(None);
        b.max_lifetime(secs(60)).max_lifetime_jitter_ratio(0.0)
    });
    settle().await;
    open(&rig, 40).await.into_iter().for_each(PooledConn::release);
    advance_smoothly(&rig, secs(59)).await;
    for closed in [0, 8, 16] {
        assert_eq!((rig.connector.total_counts().attempts, open_now(&rig)), (40 + closed, 40));
        advance_smoothly(&rig, secs(1)).await;
    }
}
