//! What the pool keeps for its policies.

use std::time::Duration;

use tokio::time::sleep;

use super::{pool, shared};
use crate::ejection::Ejection;
use crate::load_balancing::LoadBalancing;
use crate::raw::TICK;
use crate::server::Server;

#[tokio::test]
async fn no_use_is_counted_once_all_connections_are_back_whatever_the_policy_was_meanwhile() {
    let rig = pool(|builder| builder.servers(["a", "b"]).load_balancing(LoadBalancing::LeastInUse));
    let in_use = || {
        let list = shared(&rig.pool).servers.list();
        list.iter().map(|(_, entry)| entry.server().in_use.get()).sum::<u32>()
    };
    let mut held = Vec::new();
    for (policy, counted) in
        [(LoadBalancing::LeastInUse, 4), (LoadBalancing::RoundRobin, 4), (LoadBalancing::LeastInUse, 8)]
    {
        rig.pool.set_load_balancing(policy);
        for _ in 0..4 {
            held.push(rig.pool.acquire().await.expect("they accept"));
        }
        assert_eq!(in_use(), counted, "{policy:?}");
    }
    let mut ends = held.into_iter().enumerate();
    let mut end_half = || {
        for (index, conn) in ends.by_ref().take(6) {
            match index % 4 {
                0 => drop(conn.detach()),
                1 => conn.fail("broken"),
                _ => conn.release(),
            }
        }
    };
    end_half();
    rig.pool.set_load_balancing(LoadBalancing::Weighted);
    end_half();
    assert_eq!(in_use(), 0);
}

#[tokio::test]
async fn weighted_turns_follow_the_servers_that_are_up() {
    let rig = pool(|builder| {
        let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0);
        let builder = builder.ejection(ejection).load_balancing(LoadBalancing::Weighted).max_conns_per_server(1);
        builder.server(Server::new("heavy").weight(65_535)).servers(["a", "b"])
    });
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(rig.pool.acquire().await.expect("they accept"));
    }
    let heavy = held.iter().position(|conn| conn.address() == "heavy").expect("each is connected to");
    let turns_after_tick = async || {
        rig.clock.advance(TICK);
        sleep(Duration::from_millis(1)).await;
        let list = shared(&rig.pool).servers.list();
        (list.turns.len(), list.version)
    };
    let (turns, version) = turns_after_tick().await;
    assert!(turns > 10_000, "each has one");
    assert_eq!(turns_after_tick().await, (turns, version), "without a change they stay");
    held.swap_remove(heavy).fail("broken");
    assert_eq!(turns_after_tick().await.0, 2);
    rig.pool.set_load_balancing(LoadBalancing::RoundRobin);
    let list = turns_after_tick().await;
    held.swap_remove(0).fail("broken");
    assert_eq!((turns_after_tick().await, list.0), (list, 0), "in turn none are computed");
}
