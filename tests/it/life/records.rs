//! The record of a removed server outlives the removal for as long as it matters.

use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{Ejection, PooledConn, Server, ServerState, TryAcquireError};
use tokio::time::sleep;

use super::MS;
use crate::support::{Rig, ejects_at_once, refuse_one, settle};

const SECOND: Duration = Duration::from_secs(1);

fn state(rig: &Rig, name: &str) -> ServerState {
    let servers = rig.pool.status().servers;
    servers.iter().find(|server| *server.name == *name).expect("it is registered").state
}

fn again(rig: &Rig, server: &Server) {
    rig.pool.deregister(server.name()).expect("the server is registered");
    rig.pool.register(server.clone()).expect("the server is not registered");
}

#[tokio::test(start_paused = true)]
async fn permits_and_tokens_outlive_removal() {
    let limited = Server::new("a:1").max_rps(0.1).burst(2);
    let rig = Rig::paused(|builder| builder.server(limited.clone()).max_conns_per_server(2));
    let conn = rig.pool.acquire().await.expect("the server accepts");
    rig.pool.deregister("a:1").expect("the server is registered");
    let status = rig.pool.status();
    assert_eq!((status.servers[0].state, status.servers[0].open), (ServerState::Draining, 1));
    rig.pool.register(limited).expect("the server is not registered");
    // The permit is still held, and the token is still spent.
    let status = rig.pool.status();
    assert_eq!((status.servers.len(), status.servers[0].state, status.servers[0].open), (1, ServerState::Up, 1));
    let _second = rig.pool.acquire().await.expect("one token is left");
    match rig.pool.try_acquire() {
        Err(TryAcquireError::Unavailable(counts)) => assert_eq!(counts.limited, 1),
        other => panic!("{other:?}"),
    }
    // A connection from before the removal is closed on return.
    conn.release();
    sleep(11 * SECOND).await;
    let conn = rig.pool.acquire().await.expect("an attempt opens a new connection");
    assert_eq!(conn.id(), 3);
}

/// A discovery that flaps breaks no rate.
#[tokio::test(start_paused = true)]
async fn tokens_outlive_removal_without_connections() {
    let limited = Server::new("a:1").max_rps(1.0).burst(1);
    let rig = Rig::paused(|builder| builder.server(limited.clone()));
    let mut served = 0;
    for _ in 0..500 {
        match rig.pool.try_acquire() {
            Ok(conn) => {
                served += 1;
                conn.release();
            }
            Err(_) => sleep(10 * MS).await,
        }
        rig.pool.set_servers(["b:1"]).expect("in range");
        rig.pool.set_servers([limited.clone()]).expect("in range");
        settle().await;
    }
    assert!(served <= 6, "{served} in 5 s at one a second");
}

#[tokio::test(start_paused = true)]
async fn pause_outlives_removal_without_connections() {
    let rig = Rig::paused(|builder| {
        builder.server("a:1").backoff(30 * SECOND, 30 * SECOND).backoff_spread_ratio(0.0).outage_retry(None)
    });
    rig.connector.on_connect("a:1", Connect::Refuse);
    refuse_one(&rig, "a:1").await;
    let server = Server::new("a:1");
    for _ in 0..100 {
        let _ = rig.pool.acquire_timeout(MS).await;
        rig.pool.deregister("a:1").expect("the server is registered");
        assert!(rig.pool.status().servers.is_empty(), "nothing of it is open");
        sleep(100 * MS).await;
        rig.pool.register(server.clone()).expect("the server is not registered");
        assert!(matches!(state(&rig, "a:1"), ServerState::Down { failures: 1, .. }));
    }
    assert_eq!(rig.connector.counts("a:1").attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn ejection_outlives_removal_without_connections() {
    let rig = Rig::paused(|builder| ejects_at_once(builder.servers(["a:1", "b:1"]), SECOND));
    while state(&rig, "a:1") == ServerState::Up {
        let conn = rig.pool.acquire().await.expect("it accepts");
        match conn.address() {
            "a:1" => conn.fail_for("broken", 30 * SECOND),
            _ => conn.discard(),
        }
    }
    again(&rig, &Server::new("a:1"));
    let ServerState::Ejected { retry_after } = state(&rig, "a:1") else { panic!("{:?}", state(&rig, "a:1")) };
    assert_eq!(retry_after, 30 * SECOND);
    // It recovers as if it had never been away.
    sleep(31 * SECOND).await;
    for _ in 0..20 {
        rig.pool.acquire().await.expect("b serves").release();
        settle().await;
    }
    assert_eq!(state(&rig, "a:1"), ServerState::Up);
}

#[tokio::test(start_paused = true)]
async fn server_registered_again_is_new_once_nothing_of_it_matters() {
    let rig = Rig::paused(|builder| builder.server("a:1").backoff(SECOND, SECOND).backoff_spread_ratio(0.0));
    refuse_one(&rig, "a:1").await;
    rig.pool.deregister("a:1").expect("the server is registered");
    sleep(SECOND).await;
    rig.pool.register("a:1").expect("the server is not registered");
    let server = rig.pool.status().servers.remove(0);
    assert_eq!((server.state, server.connect_error), (ServerState::Up, None));
}

#[tokio::test(start_paused = true)]
async fn permit_of_removed_server_is_free_when_its_connection_ends() {
    let ends: [fn(PooledConn<ScriptedConnector>); 3] =
        [PooledConn::release, PooledConn::discard, |conn| conn.fail("broken")];
    for end in ends {
        let rig = Rig::paused(|b| b.server("a:1").max_conns_per_server(1).ejection(Ejection::new()));
        let conn = rig.pool.acquire().await.expect("the server accepts");
        again(&rig, &Server::new("a:1"));
        assert!(rig.pool.acquire_timeout(MS).await.is_err(), "its permit is still held");
        end(conn);
        rig.pool.acquire().await.expect("the permit is free").release();
        assert_eq!(rig.connector.counts("a:1").connected, 2);
    }
}
