//! Weighted turns, and slow start.

use super::*;

/// Turns are not computed twice within this time.
const TICK: Duration = Duration::from_millis(100);

fn weighted(builder: Builder<ScriptedConnector>) -> Builder<ScriptedConnector> {
    let weights = [("a", 5), ("b", 3), ("c", 2)].map(|(address, weight)| Server::new(address).weight(weight));
    builder.load_balancing(LoadBalancing::Weighted).servers(weights).max_conns_per_server(2)
}

#[tokio::test(start_paused = true)]
async fn weighted_shares_are_exact_over_each_period() {
    let rig = rig(weighted);
    fill(&rig).await;
    let order = turns(&rig, 1_000);
    for period in order.windows(10) {
        assert_eq!(shares(period), BTreeMap::from([("a", 5), ("b", 3), ("c", 2)]));
    }
}

#[tokio::test(start_paused = true)]
async fn share_of_down_server_goes_to_others_in_proportion_to_their_weights() {
    let rig = rig(weighted);
    fill(&rig).await;
    take_of(&rig, "a").fail_for("broken", SECOND * 10);
    assert_eq!(shares(&turns(&rig, 10_000)), BTreeMap::from([("b", 6_000), ("c", 4_000)]));
    // It is probed and comes back.
    while rig.pool.status().servers[0].state != ServerState::Up {
        turns(&rig, 1);
        sleep(SECOND).await;
    }
    let order = turns(&rig, 10_000);
    let shares = shares(&order);
    assert!((4_950..=5_050).contains(&shares["a"]) && (2_950..=3_050).contains(&shares["b"]), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn weighted_turns_follow_changes_at_once_but_not_twice_within_a_tick() {
    let rig = rig(weighted);
    fill(&rig).await;
    sleep(TICK).await;
    let weigh = async |weight| {
        rig.pool.update(Server::new("c").weight(weight)).expect("in range");
        settle().await;
        shares(&turns(&rig, 840))["c"]
    };
    assert_eq!([weigh(4).await, weigh(6).await], [280, 280]);
    sleep(TICK - MS).await;
    assert_eq!(shares(&turns(&rig, 840))["c"], 280);
    sleep(MS).await;
    settle().await;
    assert_eq!(shares(&turns(&rig, 840))["c"], 360);
}

#[tokio::test(start_paused = true)]
async fn weighted_turns_are_kept_without_maintenance() {
    let rig = rig(|builder| weighted(builder).maintenance(false));
    fill(&rig).await;
    settle().await;
    for (weight, share) in [(4, 280), (6, 360)] {
        rig.pool.update(Server::new("c").weight(weight)).expect("in range");
        sleep(TICK * 2).await;
        settle().await;
        assert_eq!(shares(&turns(&rig, 840))["c"], share);
    }
}

#[tokio::test(start_paused = true)]
async fn equal_weights_rotate_strictly() {
    let rig = rig(|builder| builder.load_balancing(LoadBalancing::Weighted).servers(["a", "b", "c"]));
    release(open(&rig, 30).await);
    let order = turns(&rig, 300);
    assert!(order.iter().zip(&order[3..]).all(|(turn, later)| turn == later), "{order:?}");
    assert_eq!(shares(&order).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn weights_and_policy_change_while_running() {
    let rig = rig(weighted);
    fill(&rig).await;
    sleep(TICK).await;
    rig.pool.update(Server::new("a").weight(1)).expect("in range");
    settle().await;
    let changed = BTreeMap::from([("a", 1_000), ("b", 3_000), ("c", 2_000)]);
    assert_eq!(shares(&turns(&rig, 6_000)), changed);
    rig.pool.set_load_balancing(LoadBalancing::RoundRobin);
    assert_eq!(shares(&turns(&rig, 300)), BTreeMap::from([("a", 100), ("b", 100), ("c", 100)]));
    // Weights that change under another policy count when it is weighted again.
    let servers = [("a", 100), ("b", 300), ("c", 1)].map(|(address, weight)| Server::new(address).weight(weight));
    rig.pool.set_servers(servers).expect("in range");
    assert_eq!(rig.pool.status().servers[1].weight, 300);
    rig.pool.set_load_balancing(LoadBalancing::Weighted);
    assert_eq!(shares(&turns(&rig, 401)), BTreeMap::from([("a", 100), ("b", 300), ("c", 1)]));
}

#[tokio::test(start_paused = true)]
async fn share_of_weighted_server_without_idle_connection_is_spread() {
    let rig = rig(weighted);
    fill(&rig).await;
    let mut held = vec![take_of(&rig, "a")];
    held.push(take_of(&rig, "a"));
    let order = turns(&rig, 10_000);
    let shares = shares(&order);
    // Half of the turns are those of "a".
    assert!((5_400..=5_600).contains(&shares["b"]) && (4_400..=4_600).contains(&shares["c"]), "{shares:?}");
    release(held);
}

#[tokio::test(start_paused = true)]
async fn server_that_replaces_another_has_its_own_weight_and_starts_slowly() {
    replaced(None, 5_000).await;
    replaced(Some(SECOND * 10), 500).await;
}

/// Asserts how many turns a server gets that replaces another, beside 500 of the others.
async fn replaced(slow_start: Option<Duration>, at_first: usize) {
    let rig = rig(|builder| weighted(builder).slow_start(slow_start).backoff(MS, MS));
    fill(&rig).await;
    sleep(TICK).await;
    // It takes over the number of "a".
    let servers = [("x", 50), ("b", 3), ("c", 2)].map(|(address, weight)| Server::new(address).weight(weight));
    rig.pool.set_servers(servers).expect("in range");
    release(open(&rig, 6).await);
    sleep(TICK).await;
    settle().await;
    let order = turns(&rig, at_first + 500);
    assert_eq!(shares(&order), BTreeMap::from([("x", at_first), ("b", 300), ("c", 200)]), "{slow_start:?}");
    sleep(SECOND * 11).await;
    settle().await;
    assert_eq!(shares(&turns(&rig, 5_500)), BTreeMap::from([("x", 5_000), ("b", 300), ("c", 200)]));
}

#[tokio::test(start_paused = true)]
async fn tier_that_comes_into_use_within_a_tick_is_shared_by_its_servers() {
    let rig = rig(|builder| {
        let servers = [("a", 0), ("b", 0), ("c", 1), ("d", 1)].map(|(address, tier)| Server::new(address).tier(tier));
        builder.load_balancing(LoadBalancing::Weighted).servers(servers).max_conns_per_server(2)
    });
    for name in ["a", "b"] {
        rig.pool.disable(name, None).expect("it is registered");
    }
    release(open(&rig, 4).await);
    for name in ["a", "b"] {
        rig.pool.enable(name).expect("it is registered");
    }
    release(open(&rig, 4).await);
    sleep(SECOND).await;
    assert_eq!(shares(&turns(&rig, 1_000)), BTreeMap::from([("a", 500), ("b", 500)]));
    for name in ["a", "b"] {
        rig.pool.disable(name, None).expect("it is registered");
        settle().await;
    }
    // The turns are still those of "b".
    assert_eq!(shares(&turns(&rig, 1_000)), BTreeMap::from([("c", 500), ("d", 500)]));
}

#[tokio::test(start_paused = true)]
async fn added_server_starts_slowly() {
    let rig = rig(|builder| {
        let builder = builder.load_balancing(LoadBalancing::Weighted).slow_start(SECOND * 10);
        builder.servers(["a", "b"]).max_conns_per_server(2).backoff(MS, MS)
    });
    fill(&rig).await;
    sleep(TICK).await;
    assert_eq!(shares(&turns(&rig, 1_000)), BTreeMap::from([("a", 500), ("b", 500)]), "servers of the start");
    rig.pool.register("c").expect("it is new");
    // Opens its connections.
    release(open(&rig, 6).await);
    assert_ramps(&rig, "c").await;
}

#[tokio::test(start_paused = true)]
async fn server_that_comes_up_again_starts_slowly() {
    let rig = rig(|builder| {
        let builder = builder.load_balancing(LoadBalancing::Weighted).slow_start(SECOND * 10);
        builder.servers(["a", "b", "c"]).max_conns_per_server(2)
    });
    fill(&rig).await;
    settle().await;
    take_of(&rig, "c").fail_for("broken", SECOND);
    while rig.pool.status().servers[2].state != ServerState::Recovering {
        turns(&rig, 1);
        sleep(MS * 100).await;
    }
    assert_ramps(&rig, "c").await;
}

/// Asserts that the share of a server, which began to serve just now, rises from a tenth to the whole of that of each
/// other one within ten seconds.
async fn assert_ramps(rig: &Rig, address: &str) {
    let began = rig.clock.now();
    for (seconds, least, most) in [(0, 0.09, 0.12), (3, 0.27, 0.33), (5, 0.47, 0.53), (9, 0.87, 0.93), (11, 1.0, 1.0)] {
        sleep((began + SECOND * seconds).saturating_sub(rig.clock.now())).await;
        settle().await;
        let order = turns(rig, 3_000);
        let of_server = shares(&order)[address] as f64;
        let part = of_server / ((3_000.0 - of_server) / 2.0);
        assert!((least - 0.002..=most + 0.002).contains(&part), "{part} after {seconds} s");
    }
}
