//! Servers that are full, killed, restarted and promoted. Each test has servers of its own.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connring::{CloseReason, ConnectFault, Connector, Ejection, Pool, PooledConn, Server, ServerState};
use connring_postgres::{Error, PostgresConnector, TargetRole};
use connring_real_servers::{RealServer, postgres, postgres_standby, postgres_with};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

fn connector() -> PostgresConnector {
    PostgresConnector::new("user=postgres dbname=postgres".parse().unwrap())
}

/// The name of its server.
fn name(conn: &PooledConn<PostgresConnector>) -> String {
    PooledConn::info(conn).server().name().to_owned()
}

/// The answer to a question that has this answer alone.
async fn echo(client: &Client, number: i32) -> Result<i32, tokio_postgres::Error> {
    Ok(client.query_one("SELECT $1::int", &[&number]).await?.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_with_as_many_slots_as_the_pool_refuses_none() {
    let Some(server) = postgres_with(&["max_connections=4", "superuser_reserved_connections=0"]) else { return };
    let pool = Pool::builder(connector()).max_conns_per_server(4).server(server.address()).build().unwrap();
    let work = |worker: i32| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for round in 0..25 {
                let conn = pool.acquire().await.unwrap();
                assert_eq!(echo(&conn, round).await.unwrap(), round);
                match (worker + round) % 5 {
                    0 => conn.release(),
                    1 => conn.discard(),
                    2 => {
                        let slow = conn.batch_execute("SELECT pg_sleep(60)");
                        assert!(timeout(Duration::from_millis(5), slow).await.is_err());
                        conn.discard();
                    }
                    3 => drop(conn),
                    _ => {
                        conn.release();
                        pool.reset();
                    }
                }
            }
        })
    };
    for worker in (0..8).map(work).collect::<Vec<_>>() {
        worker.await.unwrap();
    }
    let totals = pool.status().totals;
    assert!(!server.output().contains("too many clients"), "{}", server.output());
    assert!(totals.closes(CloseReason::Discarded) > 50 && totals.closes(CloseReason::Reset) > 0, "{totals:?}");

    // And one that is full is the server's fault.
    pool.close().await;
    let address = Server::new(server.address());
    let connector = connector();
    let mut open = Vec::new();
    while open.len() < 4 {
        // The last ones of the pool may not be closed yet.
        open.extend(connector.connect(&address).await);
    }
    let error = connector.connect(&address).await.unwrap_err();
    assert_eq!(connector.classify(&error), ConnectFault::Server);
    assert!(
        matches!(&error, Error::Postgres(error) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)),
        "{error:?}"
    );
}

/// Its server has one slot.
async fn pool_of_one_slot(goodbye_timeout: Duration) -> Option<(RealServer, Pool<PostgresConnector>)> {
    let server = postgres_with(&["max_connections=1", "max_wal_senders=0", "superuser_reserved_connections=0"])?;
    let pool = Pool::builder(connector()).max_conns_per_server(1).goodbye_timeout(goodbye_timeout);
    let pool = pool.server(server.address()).build().unwrap();
    Some((server, pool))
}

#[tokio::test]
async fn goodbye_that_the_pool_gives_up_cancels_the_request_and_holds_the_slot() {
    let Some((server, pool)) = pool_of_one_slot(Duration::from_millis(1)).await else { return };
    for round in 0..5 {
        let conn = pool.acquire().await.unwrap();
        assert!(timeout(Duration::from_millis(20), conn.batch_execute("SELECT pg_sleep(60)")).await.is_err());
        conn.release();
        pool.reset();
        assert_eq!(echo(&pool.acquire().await.unwrap(), round).await.unwrap(), round);
    }
    assert_eq!(pool.status().totals.connect_failures, 0, "{}", server.output());
}

#[tokio::test]
async fn slot_of_a_session_that_outlives_its_goodbye_is_held() {
    let Some((server, pool)) = pool_of_one_slot(Duration::from_millis(600)).await else { return };
    let conn = pool.acquire().await.unwrap();
    let process: i32 = conn.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let process = &*process.to_string();
    let signal = |name| assert!(Command::new("kill").args([name, process]).status().unwrap().success());
    signal("-STOP");
    conn.release();
    pool.reset();
    // Longer than the goodbye, and than the second that a connection without a permit may take; not than both.
    let resume = async {
        sleep(Duration::from_millis(1_200)).await;
        signal("-CONT");
    };
    let (conn, ()) = tokio::join!(pool.acquire(), resume);
    assert_eq!(echo(&conn.unwrap(), 7).await.unwrap(), 7);
    assert_eq!(pool.status().totals.connect_failures, 0, "{}", server.output());
}

#[tokio::test]
async fn pools_of_clones_wait_for_the_slots_of_each_other() {
    let server = postgres_with(&["max_connections=1", "max_wal_senders=0", "superuser_reserved_connections=0"]);
    let Some(server) = server else { return };
    let connector = connector();
    let pool = || Pool::builder(connector.clone()).server(server.address()).build().unwrap();
    let (first, second) = (pool(), pool());
    for round in 0..5 {
        let (one, other) = if round % 2 == 0 { (&first, &second) } else { (&second, &first) };
        let conn = one.acquire().await.unwrap();
        assert!(timeout(Duration::from_millis(20), conn.batch_execute("SELECT pg_sleep(60)")).await.is_err());
        conn.discard();
        let conn = other.acquire().await.unwrap();
        assert_eq!(echo(&conn, round).await.unwrap(), round);
        conn.discard();
    }
    let failures = [first, second].map(|pool| pool.status().totals.connect_failures);
    assert_eq!(failures, [0, 0], "{}", server.output());
}

#[tokio::test]
async fn pending_requests_of_a_connection_that_fails_fail_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Server::from(listener.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut message = [0; 1024];
        assert!(stream.read(&mut message).await.unwrap() > 0);
        // The login succeeds, and the server is ready.
        stream.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await.unwrap();
        assert!(stream.read(&mut message).await.unwrap() > 0);
        // A message of an impossible length, and the server waits for the next request.
        stream.write_all(b"?\0\0\0\0").await.unwrap();
        while stream.read(&mut message).await.unwrap() > 0 {}
    };
    let ask = async {
        let conn = connector().connect(&address).await.unwrap();
        let both = async { tokio::join!(conn.batch_execute("SELECT 1"), conn.batch_execute("SELECT 2")) };
        let (first, second) = timeout(Duration::from_millis(500), both).await.expect("they fail at once");
        assert!(first.unwrap_err().is_closed() && second.unwrap_err().is_closed());
        assert!(conn.driver_error().is_some_and(|error| error.to_string().contains("communicating")), "{conn:?}");
        // Dropped after the server has seen the end.
        conn
    };
    let (_, _conn) =
        timeout(Duration::from_secs(10), async { tokio::join!(serve, ask) }).await.expect("the end is seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_server_gives_no_wrong_answer() {
    let Some(mut server) = postgres() else { return };
    let pool = Pool::builder(connector()).max_conns_per_server(4).server(server.address()).build().unwrap();
    let (right, failed) = (&*Box::leak(Box::new(AtomicU64::new(0))), &*Box::leak(Box::new(AtomicU64::new(0))));
    let work = |worker: i32| {
        let pool = pool.clone();
        tokio::spawn(async move {
            for round in 0.. {
                let Ok(conn) = pool.acquire().await else { return };
                let number = worker * 1_000_000 + round;
                match timeout(Duration::from_secs(5), echo(&conn, number)).await {
                    Ok(Ok(answer)) => {
                        assert_eq!(answer, number);
                        right.fetch_add(1, Ordering::Relaxed);
                        // Some cut a request short.
                        match round % 4 {
                            0 => drop(timeout(Duration::ZERO, echo(&conn, -number)).await),
                            _ => conn.release(),
                        }
                    }
                    Ok(Err(error)) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        conn.broken(error);
                    }
                    Err(elapsed) => conn.fail(elapsed),
                }
            }
        })
    };
    let workers: Vec<_> = (0..8).map(work).collect();
    for _ in 0..2 {
        let before = right.load(Ordering::Relaxed);
        while right.load(Ordering::Relaxed) < before + 200 {
            sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        while !matches!(pool.status().servers[0].state, ServerState::Down { .. } | ServerState::Probing { .. }) {
            sleep(Duration::from_millis(5)).await;
        }
        // It says that it starts up before it serves.
        server.start_again();
    }
    let before = right.load(Ordering::Relaxed);
    while right.load(Ordering::Relaxed) < before + 200 {
        sleep(Duration::from_millis(5)).await;
    }
    pool.close().await;
    for worker in workers {
        worker.await.unwrap();
    }
    // A kill costs at most the requests that ran, and those that met a connection whose end was not seen yet.
    assert!(failed.load(Ordering::Relaxed) <= 2 * 8, "{failed:?} failed, {right:?} answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_of_primaries_follows_a_failover() {
    let settings = ["max_connections=10", "hot_standby_feedback=on"];
    let Some(mut first) = postgres_with(&settings) else { return };
    let Some(second) = postgres_standby(&first, &settings) else { return };
    let servers = || [Server::named("first", first.address()), Server::named("second", second.address())];
    let primaries = Pool::builder(connector().role(TargetRole::Primary)).servers(servers()).build().unwrap();
    let replicas = Pool::builder(connector().role(TargetRole::Replica)).servers(servers());
    let replicas = replicas.idle_check_interval(Duration::from_millis(100)).build().unwrap();

    for _ in 0..10 {
        let (primary, replica) = (primaries.acquire().await.unwrap(), replicas.acquire().await.unwrap());
        primary.batch_execute("CREATE TABLE IF NOT EXISTS written()").await.unwrap();
        assert!(replica.batch_execute("CREATE TABLE refused()").await.is_err());
        assert_eq!((&*name(&primary), &*name(&replica)), ("first", "second"));
        primary.release();
        replica.release();
    }

    first.kill();
    let admin = connector().connect(&Server::new(second.address())).await.unwrap();
    admin.batch_execute("SELECT pg_promote()").await.unwrap();
    let primary = loop {
        match primaries.acquire().await {
            // The end of an idle connection to the killed one may not be seen yet.
            Ok(conn) if name(&conn) == "first" => conn.discard(),
            conn => break conn.unwrap(),
        }
    };
    assert_eq!(name(&primary), "second");
    primary.batch_execute("CREATE TABLE written_again()").await.unwrap();

    // No server is a replica now. A check closes the connection that was opened to one.
    while replicas.status().servers.iter().any(|server| server.open > 0) {
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(replicas.status().totals.closes(CloseReason::CheckFailed), 1);
    assert!(replicas.acquire_timeout(Duration::from_millis(300)).await.is_err());
    let second = &replicas.status().servers[1];
    assert!(!matches!(second.state, ServerState::Up), "{second:?}");
    assert!(second.connect_error.as_ref().is_some_and(|error| error.contains("not a Replica")), "{second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_of_the_wrong_role_counts_as_not_serving_and_a_worse_tier_takes_over() {
    let settings = ["max_connections=10", "hot_standby_feedback=on"];
    let Some(primary) = postgres_with(&settings) else { return };
    let Some(mut first) = postgres_standby(&primary, &settings) else { return };
    let Some(mut second) = postgres_standby(&primary, &settings) else { return };
    let primary = Server::named("primary", primary.address());
    let standbys = [Server::named("first", first.address()), Server::named("second", second.address())];

    for (ratio, is_ejected) in [(0.5, false), (0.7, true)] {
        let pool = Pool::builder(connector().role(TargetRole::Replica)).server(primary.clone());
        let pool = pool.servers(standbys.clone()).ejection(Ejection::new().max_ejected_ratio(ratio)).build().unwrap();
        let report = pool.warm_up(Duration::from_secs(20)).await;
        let missing: Vec<_> = report.servers.iter().map(|server| (&*server.name, server.missing)).collect();
        assert_eq!(missing, [("primary", 1), ("first", 0), ("second", 0)]);
        assert!(report.waited < Duration::from_secs(19), "it ends before its time: {report:?}");
        let conn = pool.acquire().await.unwrap();
        let failed = name(&conn);
        conn.fail_for("slow", Duration::from_secs(60));
        let status = pool.status();
        let server = status.servers.iter().find(|server| *server.name == *failed).unwrap();
        assert_eq!(matches!(server.state, ServerState::Ejected { .. }), is_ejected, "{ratio}: {server:?}");
    }

    let reads = Pool::builder(connector()).server(primary.tier(1)).servers(standbys).build().unwrap();
    for _ in 0..10 {
        let conn = reads.acquire().await.unwrap();
        assert_ne!(name(&conn), "primary");
        conn.release();
    }
    first.kill();
    second.kill();
    loop {
        let conn = reads.acquire().await.unwrap();
        match &*name(&conn) {
            "primary" => break,
            // The end of an idle connection may not be seen yet.
            _ => conn.discard(),
        }
    }
}

#[tokio::test]
async fn hang_is_found_by_the_recycling_of_a_dropped_connection() {
    let Some(server) = postgres() else { return };
    let millis = Duration::from_millis;
    // By the cancel, which takes 50 ms and 1 s, or before it by the connect timeout.
    for (connect_timeout, at_least, at_most) in [(5_000, 950, 4_000), (300, 200, 950)] {
        let pool = Pool::builder(connector()).connect_timeout(millis(connect_timeout)).server(server.address());
        let pool = pool.build().unwrap();
        let conn = pool.acquire().await.unwrap();
        server.stop();
        // Longer than `abandoned_after`, which has no effect here.
        assert!(timeout(millis(400), conn.batch_execute("SELECT 1")).await.is_err());
        drop(conn);
        let is_counted = async {
            while pool.status().totals.failures == 0 {
                sleep(millis(5)).await;
            }
        };
        let mut is_counted = std::pin::pin!(is_counted);
        assert!(timeout(millis(at_least), &mut is_counted).await.is_err(), "{connect_timeout}: too early");
        assert!(timeout(millis(at_most - at_least), is_counted).await.is_ok(), "{connect_timeout}: too late");
        server.resume();
        assert_eq!(pool.status().totals.failures, 1);
        assert_eq!(pool.status().totals.closes(CloseReason::RecycleFailed), 1);
    }
}
