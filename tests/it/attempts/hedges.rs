//! The delay after which a waiter is connected to another server as well.

use super::*;

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
