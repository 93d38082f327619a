//! The less loaded of two servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// How many requests 64 tasks get answered in ten seconds by four servers, of which one takes ten times as long.
async fn throughput(policy: LoadBalancing) -> usize {
    let rig = rig(|builder| {
        builder.load_balancing(policy).servers(["a", "b", "c", "slow"]).max_conns_per_server(64).wait_timeout(None)
    });
    let answers = Arc::new(AtomicUsize::new(0));
    let task = || {
        let (pool, answers) = (rig.pool.clone(), Arc::clone(&answers));
        tokio::spawn(async move {
            loop {
                let conn = pool.acquire().await.expect("the servers accept");
                sleep(if conn.address() == "slow" { MS * 100 } else { MS * 10 }).await;
                conn.release();
                answers.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let tasks: Vec<_> = (0..64).map(|_| task()).collect();
    sleep(SECOND * 10).await;
    tasks.iter().for_each(|task| task.abort());
    answers.load(Ordering::Relaxed)
}

#[tokio::test(start_paused = true)]
async fn slow_server_holds_up_fewer_callers_than_in_turn() {
    let (in_turn, least) = (throughput(LoadBalancing::RoundRobin).await, throughput(LoadBalancing::LeastInUse).await);
    assert!(2 * least >= 3 * in_turn, "{least} by the least in use, {in_turn} in turn");
}

#[tokio::test(start_paused = true)]
async fn servers_take_turns_without_load() {
    let rig = rig(|builder| builder.load_balancing(LoadBalancing::LeastInUse).servers(["a", "b", "c"]));
    release(open(&rig, 30).await);
    let order = turns(&rig, 300);
    assert!(order.iter().zip(&order[3..]).all(|(turn, later)| turn == later), "{order:?}");
    assert_eq!(shares(&order).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn busy_server_is_avoided_until_its_connections_end() {
    let rig = rig(|builder| builder.load_balancing(LoadBalancing::LeastInUse).servers(["a", "b"]));
    release(open(&rig, 20).await);
    let ends: [fn(Conn); 6] = [
        Conn::release,
        Conn::discard,
        |conn| drop(conn.detach()),
        |conn| conn.broken("dead"),
        drop,
        |mut conn| {
            conn.report_success();
            conn.release();
        },
    ];
    for end in ends {
        let busy = take_of(&rig, "a");
        assert_eq!(shares(&turns(&rig, 100)), BTreeMap::from([("b", 100)]));
        end(busy);
        // A connection that was closed is replaced.
        release(open(&rig, 20).await);
        assert_eq!(shares(&turns(&rig, 100)), BTreeMap::from([("a", 50), ("b", 50)]));
    }
}

#[tokio::test(start_paused = true)]
async fn connections_of_another_policy_do_not_count() {
    let rig = rig(|builder| builder.servers(["a", "b"]));
    release(open(&rig, 20).await);
    let before = take_of(&rig, "a");
    rig.pool.set_load_balancing(LoadBalancing::LeastInUse);
    assert_eq!(shares(&turns(&rig, 100)), BTreeMap::from([("a", 50), ("b", 50)]));
    let counted = take_of(&rig, "a");
    assert_eq!(shares(&turns(&rig, 100)), BTreeMap::from([("b", 100)]));
    rig.pool.set_load_balancing(LoadBalancing::RoundRobin);
    assert_eq!(shares(&turns(&rig, 100)), BTreeMap::from([("a", 50), ("b", 50)]));
    // Both ends are as the checkouts were.
    before.release();
    counted.release();
    rig.pool.set_load_balancing(LoadBalancing::LeastInUse);
    assert_eq!(shares(&turns(&rig, 100)), BTreeMap::from([("a", 50), ("b", 50)]));
}

#[tokio::test(start_paused = true)]
async fn less_loaded_server_without_idle_connection_is_connected_to() {
    let rig = rig(|builder| builder.load_balancing(LoadBalancing::LeastInUse).servers(["a", "b"]));
    let held = open(&rig, 4).await;
    let (of_a, of_b): (Vec<_>, Vec<_>) = held.into_iter().partition(|conn| server_of(conn) == "a");
    assert!(!of_a.is_empty() && !of_b.is_empty());
    // One connection to "b" is left, and in use; the others are idle or in use at "a".
    let mut of_b = of_b.into_iter();
    let _busy = of_b.next();
    of_b.for_each(Conn::discard);
    release(of_a);
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(rig.pool.acquire().await.expect("a connection is idle or can be opened"));
        settle().await;
    }
    let to_b = held.iter().filter(|conn| server_of(conn) == "b").count();
    assert!((4..=5).contains(&to_b), "{to_b} of 10");
}

#[tokio::test(start_paused = true)]
async fn less_loaded_server_serves_though_the_connection_that_was_found_has_expired() {
    for servers in [["a", "b"], ["b", "a"]] {
        let rig = rig(|builder| {
            let builder = builder.load_balancing(LoadBalancing::LeastInUse).servers(servers);
            builder.idle_timeout(SECOND * 60).maintenance(false)
        });
        let (mut of_a, mut of_b): (Vec<_>, Vec<_>) =
            open(&rig, 4).await.into_iter().partition(|conn| conn.address() == "a");
        of_b.remove(0).release();
        sleep(SECOND * 40).await;
        of_b.remove(0).release();
        of_a.remove(0).release();
        sleep(SECOND * 30).await;
        assert_eq!(turns(&rig, 1), ["b"], "the other one of a is in use");
        assert_eq!(rig.connector.counts("b").open, 1);
    }
}
