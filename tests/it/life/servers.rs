//! Registering and removing servers.

use std::collections::HashSet;

use connring::test_util::Connect;
use connring::{AcquireError, Clock, CloseReason, Pool, PooledConn, Server, ServerError, ServerState, TryAcquireError};
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::sleep;

use super::{MS, Owned, acquiring, soon};
use crate::support::{Rig, server_of, settle};

/// Callers acquire connections and end them in all ways while servers are registered and removed. If `keeps`, one
/// server is always registered.
fn churn(keeps: bool) {
    const CALLERS: usize = 8;
    const ACQUIRES: usize = 400;
    let clock = Clock::system();
    let (owned, connector, alive) = Owned::new(&clock);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime can be built");
    runtime.block_on(async {
        let pool = Pool::builder(owned).server("a:1").max_conns_per_server(3).clock(clock).build();
        let pool = pool.expect("the settings are in range");
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let pool = pool.clone();
                tokio::spawn(async move {
                    let mut served = 0;
                    while served < ACQUIRES {
                        match pool.acquire().await {
                            Ok(conn) => {
                                yield_now().await;
                                match (caller + served) % 5 {
                                    0 => conn.discard(),
                                    1 => drop(conn),
                                    _ => conn.release(),
                                }
                                served += 1;
                            }
                            Err(AcquireError::NoServers) if !keeps => yield_now().await,
                            Err(error) => panic!("unexpected: {error}"),
                        }
                    }
                })
            })
            .collect();
        while !callers.iter().all(JoinHandle::is_finished) {
            pool.register("b:1").expect("the server is not registered");
            yield_now().await;
            pool.deregister("b:1").expect("the server is registered");
            pool.set_servers(["a:1", "c:1", "d:1"]).expect("the addresses are distinct");
            yield_now().await;
            pool.set_servers([Server::new("d:1").max_conns(1), "a:1".into()]).expect("the addresses are distinct");
            yield_now().await;
            if keeps {
                pool.set_servers(["a:1"]).expect("the addresses are distinct");
            } else {
                pool.set_servers([""; 0]).expect("an empty list is valid");
                yield_now().await;
                pool.register("a:1").expect("the server is not registered");
            }
        }
        for caller in callers {
            caller.await.expect("the caller sees no unexpected error");
        }
        pool.close().await;
        let counts = connector.total_counts();
        assert_eq!((counts.open, counts.in_flight), (0, 0));
        assert!(["a:1", "b:1", "c:1", "d:1"].iter().all(|server| connector.counts(server).max_open <= 3));
        assert_eq!(pool.status().servers.iter().map(|server| server.open).sum::<u32>(), 0);
        assert_eq!(pool.status().waiters, 0);
    });
    drop(runtime);
    assert!(alive.upgrade().is_none(), "the pool is freed");
}

#[test]
fn callers_are_served_while_servers_change() {
    churn(true);
}

#[test]
fn callers_fail_only_while_no_server_is_registered() {
    churn(false);
}

#[tokio::test(start_paused = true)]
async fn connection_of_removed_server_is_closed_on_return() {
    for by_set in [false, true] {
        let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(2));
        let conns = [rig.pool.acquire().await.unwrap(), rig.pool.acquire().await.unwrap()];
        match by_set {
            true => rig.pool.set_servers(["c:1"]).expect("the addresses are distinct"),
            false => ["a:1", "b:1"]
                .into_iter()
                .for_each(|server| rig.pool.deregister(server).expect("the server is registered")),
        }
        assert_eq!(rig.connector.total_counts().open, 2, "connections in use stay open");
        conns.into_iter().for_each(PooledConn::release);
        assert_eq!(rig.connector.total_counts().open, 0);
        assert_eq!(rig.pool.status().servers.len(), usize::from(by_set), "no server is draining");
    }
}

#[tokio::test]
async fn connection_of_removed_server_that_is_registered_again_closes_as_removed() {
    let rig = Rig::manual(|builder| builder.server("a:1"));
    let conn = rig.pool.acquire().await.expect("the server accepts");
    rig.pool.deregister("a:1").expect("it is registered");
    rig.pool.register("a:1").expect("it is not registered");
    conn.release();
    let reset = rig.pool.acquire().await.expect("the server accepts");
    rig.pool.reset();
    reset.release();
    let totals = rig.pool.status().totals;
    assert_eq!((totals.closes(CloseReason::Removed), totals.closes(CloseReason::Reset)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn calls_fail_immediately_without_servers() {
    let rig = Rig::paused(|builder| builder);
    assert!(matches!(soon(rig.pool.acquire()).await, Err(AcquireError::NoServers)));
    assert!(matches!(soon(rig.pool.acquire_now()).await, Err(AcquireError::NoServers)));
    assert!(matches!(soon(rig.pool.acquire_timeout(MS)).await, Err(AcquireError::NoServers)));
    assert!(matches!(rig.pool.try_acquire(), Err(TryAcquireError::NoServers)));
    rig.pool.register("a:1").expect("the server is not registered");
    soon(rig.pool.acquire()).await.expect("the server accepts").release();
}

#[tokio::test(start_paused = true)]
async fn waiters_fail_when_last_server_is_removed() {
    for by_set in [false, true] {
        let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).wait_timeout(None));
        rig.connector.set_default(Connect::Never);
        let now = tokio::spawn({
            let pool = rig.pool.clone();
            async move { pool.acquire_now().await }
        });
        settle().await;
        let waiters = [(); 3].map(|()| acquiring(&rig.pool));
        settle().await;
        rig.pool.deregister("b:1").expect("the server is registered");
        settle().await;
        assert_eq!(rig.pool.status().waiters, 4, "one server is left");
        match by_set {
            true => rig.pool.set_servers([""; 0]).expect("an empty list is valid"),
            false => rig.pool.deregister("a:1").expect("the server is registered"),
        }
        for waiter in waiters {
            assert!(matches!(soon(waiter).await, Ok(Err(AcquireError::NoServers))));
        }
        assert!(matches!(soon(now).await, Ok(Err(AcquireError::NoServers))));
        assert_eq!(rig.connector.total_counts().open, 0, "running attempts are ended");
    }
}

#[tokio::test(start_paused = true)]
async fn waiter_is_served_by_new_server() {
    let rig = Rig::paused(|builder| builder.server("a:1").wait_timeout(None));
    rig.connector.on_connect("a:1", Connect::Never);
    let waiter = acquiring(&rig.pool);
    settle().await;
    // The waiter's attempt hangs. It ends with its server, and an attempt at the new server starts.
    rig.pool.set_servers(["b:1"]).expect("the addresses are distinct");
    let conn = soon(waiter).await.expect("the task does not panic").expect("the server accepts");
    assert_eq!(server_of(&conn), "b:1");
}

#[tokio::test(start_paused = true)]
async fn set_servers_keeps_connections_of_servers_that_stay() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(1));
    let conns = [rig.pool.acquire().await.unwrap(), rig.pool.acquire().await.unwrap()];
    let ids = conns.each_ref().map(|conn| (server_of(conn), conn.id()));
    let [first, second] = conns;
    first.release();
    rig.pool.set_servers(["c:1", "b:1", "a:1"]).expect("the addresses are distinct");
    second.release();
    let listed: Vec<_> = rig.pool.status().servers.iter().map(|server| server.address.to_string()).collect();
    assert_eq!(listed, ["a:1", "b:1", "c:1"], "servers that stay keep their places");
    let mut again = HashSet::new();
    let conns = [rig.pool.try_acquire().unwrap(), rig.pool.try_acquire().unwrap()];
    for conn in &conns {
        again.insert((server_of(conn), conn.id()));
    }
    assert_eq!(again, HashSet::from(ids));
    // Connections of removed servers are closed immediately, or on return.
    conns.into_iter().for_each(PooledConn::release);
    rig.pool.set_servers(["c:1"]).expect("the addresses are distinct");
    settle().await;
    assert_eq!(rig.connector.counts("a:1").open + rig.connector.counts("b:1").open, 0);
}

#[tokio::test(start_paused = true)]
async fn set_servers_with_error_changes_nothing() {
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(2));
    rig.pool.acquire().await.expect("the server accepts").release();
    let a = || Server::new("a:1").max_conns(7);
    let before = format!("{:?}", rig.pool.status());
    let set = |servers: Vec<Server>| rig.pool.set_servers(servers).expect_err("the list has an error");
    assert_eq!(set(vec![a(), "c:1".into(), a()]), ServerError::Duplicate { name: "a:1".into() });
    assert_eq!(set(vec![a(), "c:1".into(), "".into()]), ServerError::EmptyAddress { name: "".into() });
    let error = set(vec![a(), "c:1".into(), Server::new("d:1").max_conns(0)]);
    assert!(matches!(error, ServerError::OutOfRange { setting: "max_conns", .. }));
    assert_eq!(format!("{:?}", rig.pool.status()), before);
    rig.pool.try_acquire().expect("the connection is still idle").release();
}

#[tokio::test(start_paused = true)]
async fn set_servers_applies_new_limits() {
    let rig = Rig::paused(|builder| builder.server("a:1").max_conns_per_server(3));
    let mut conns = Vec::new();
    for _ in 0..3 {
        conns.push(rig.pool.acquire().await.expect("the server accepts"));
    }
    rig.pool.set_servers([Server::new("a:1").max_conns(1).max_rps(5.0).burst(1)]).expect("the settings are in range");
    let server = rig.pool.status().servers[0].clone();
    assert_eq!((server.max_conns, server.max_rps, server.open), (1, Some(5.0), 3));
    // Returned connections are closed until the lowered maximum is reached.
    conns.into_iter().for_each(PooledConn::release);
    assert_eq!(rig.connector.total_counts().open, 1);
    // The rate limit applies.
    rig.pool.try_acquire().expect("a token is available").release();
    assert!(rig.pool.try_acquire().is_err());
    sleep(200 * MS).await;
    rig.pool.try_acquire().expect("a token is available again").release();
    // A server without limits of its own has the builder's.
    rig.pool.set_servers(["a:1"]).expect("the addresses are distinct");
    let server = rig.pool.status().servers[0].clone();
    assert_eq!((server.max_conns, server.max_rps), (3, None));
}

#[tokio::test]
async fn servers_are_told_with_their_settings() {
    let connector = connring::test_util::ScriptedConnector::new(Clock::manual());
    let servers = [Server::new("a:1").max_conns(3), Server::named("second", "b:1").tag("zone", "west")];
    let pool = Pool::builder(connector).servers(servers.clone()).build().expect("in range");
    assert_eq!(pool.servers(), servers);
    pool.deregister("a:1").expect("it is registered");
    assert_eq!(pool.servers(), servers[1..]);
}

#[tokio::test]
async fn status_knows_each_server_by_its_name() {
    let rig = Rig::manual(|builder| builder.servers([Server::named("db", "a"), Server::new("b")]));
    let held = rig.pool.acquire().await.expect("a server accepts");
    let name = PooledConn::info(&held).server().name().to_owned();
    rig.pool.deregister(&name).expect("it is registered");
    let status = rig.pool.status();
    let of = |name: &str| status.server(name).map(|server| (&*server.address, server.state));
    assert_eq!(of(&name).map(|(_, state)| state), Some(ServerState::Draining));
    assert_eq!((of("a"), of("db").map(|(address, _)| address)), (None, Some("a")));
    held.release();
    assert!(rig.pool.status().server(&name).is_none());
}
