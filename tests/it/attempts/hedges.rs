//! The delay after which a waiter is connected to another server as well.

use super::*;
use crate::support::open;

#[tokio::test(start_paused = true)]
async fn hedge_connects_to_next_server_after_delay() {
    for call in CALLS {
        let rig = Rig::paused(|builder| builder.servers(["a", "b", "c"]).hedge_delay(HEDGE));
        rig.connector.set_default(Connect::Never);
        rig.connector.on_connect("c", Connect::Slow(ms(20)));
        let started = rig.clock.now();
        let conn = call.call(&rig).await.expect("the third attempt succeeds");
        assert_eq!(server_of(&conn), "c", "{call:?}");
        let connect_log = connect_log(&rig);
        let order: Vec<_> = connect_log.iter().map(|(address, _)| address.as_str()).collect();
        assert_eq!(order, ["a", "b", "c"], "{call:?}");
        assert_eq!(connect_log[0].1, started);
        assert_at(connect_log[1].1, connect_log[0].1 + HEDGE);
        assert_at(connect_log[2].1, connect_log[1].1 + HEDGE);
        assert_at(rig.clock.now(), connect_log[2].1 + ms(20));
    }
}

/// Twice what a connect to the server takes, smoothed by an eighth: 80 ms, then 144 ms, which makes 88 ms.
#[tokio::test(start_paused = true)]
async fn default_hedge_delay_follows_time_of_connects() {
    let rig = Rig::paused(|builder| builder.servers(["a", "b"]));
    let mut held = Vec::new();
    for time in [80, 144] {
        rig.connector.set_default(Connect::Slow(ms(time)));
        for _ in 0..2 {
            held.push(rig.pool.acquire().await.expect("a server accepts"));
        }
    }
    assert_eq!(["a", "b"].map(|server| rig.connector.counts(server).attempts), [2, 2]);
    rig.connector.set_default(Connect::Never);
    rig.pool.acquire_timeout(ms(1_000)).await.expect_err("no server answers");
    let times: Vec<_> = connect_log(&rig).into_iter().skip(4).map(|(_, time)| time).collect();
    assert_eq!(times.len(), 2);
    assert_at(times[1], times[0] + ms(176));
}

/// The setting holds also where connecting usually takes longer: only orders wait for twice that time.
#[tokio::test(start_paused = true)]
async fn set_hedge_delay_holds_though_connects_take_longer() {
    let rig = Rig::paused(|builder| builder.servers(["a", "b"]).hedge_delay(HEDGE));
    rig.connector.set_default(Connect::Slow(5 * HEDGE));
    rig.pool.warm_up(10 * HEDGE).await;
    let held = open(&rig, 2).await;
    rig.connector.set_default(Connect::Never);
    rig.pool.acquire_timeout(20 * HEDGE).await.expect_err("no server answers");
    let times: Vec<_> = connect_log(&rig).into_iter().skip(2).map(|(_, time)| time).collect();
    assert_eq!(times.len(), 2);
    assert_at(times[1], times[0] + HEDGE);
    drop(held);
}

/// A connection that an attempt for waiters opened may come back soon: the next one starts a tenth of the usual connect
/// time later, if that is a millisecond or more. One that serves a minimum of idle connections gives its place up at
/// once.
#[tokio::test(start_paused = true)]
async fn only_attempts_for_waiters_keep_their_place_for_a_moment() {
    for (connect, for_waiters, starts) in [(100, true, [0, 110]), (100, false, [0, 100]), (5, true, [0, 5])] {
        let rig = Rig::paused(|builder| builder.server("a").max_concurrent_connects_per_server(1));
        rig.connector.set_default(Connect::Slow(ms(connect)));
        let warm_up = async {
            if !for_waiters {
                rig.pool.warm_up(ms(1_000)).await;
            }
        };
        let started = rig.clock.now();
        let ((), first, second) = tokio::join!(warm_up, rig.pool.acquire(), rig.pool.acquire());
        let log = connect_log(&rig);
        assert_eq!(log.len(), 2, "{connect} {for_waiters}");
        for ((_, time), start) in log.into_iter().zip(starts) {
            assert_at(time, started + ms(start));
        }
        drop((first, second));
    }
}
