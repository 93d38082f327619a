//! What one caller leaves behind never reaches the next one. Against a real server, which the tests share.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use connring::{AcquireError, CloseReason, ConnectFault, Connector, Pool, PooledConn, Server, ServerState};
use connring_postgres::{Error, PostgresConnector, Reset};
use connring_real_servers::{RealServer, postgres};
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config};

/// The server of the tests that run, and gone with the last of them.
fn server() -> Option<Arc<RealServer>> {
    static SERVER: Mutex<Weak<RealServer>> = Mutex::new(Weak::new());
    let mut server = SERVER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    server.upgrade().or_else(|| {
        let started = Arc::new(postgres()?);
        *server = Arc::downgrade(&started);
        Some(started)
    })
}

fn config() -> Config {
    "user=postgres dbname=postgres".parse().unwrap()
}

/// A pool of one connection.
fn pool(server: &RealServer, connector: PostgresConnector) -> Pool<PostgresConnector> {
    Pool::builder(connector).max_conns_per_server(1).server(server.address()).build().unwrap()
}

/// The first column of the only row, as text.
async fn ask(client: &Client, query: &str) -> Result<Option<String>, tokio_postgres::Error> {
    let row = client.query_one(&format!("SELECT ({query})::text"), &[]).await?;
    Ok(row.get(0))
}

async fn process(client: &Client) -> String {
    ask(client, "pg_backend_pid()").await.unwrap().unwrap()
}

#[tokio::test]
async fn released_connection_is_reused() {
    let Some(server) = server() else { return };
    let pool = pool(&server, PostgresConnector::new(config()));
    let conn = pool.acquire().await.unwrap();
    let first = process(&conn).await;
    conn.release();
    let conn = pool.acquire().await.unwrap();
    assert_eq!((PooledConn::info(&conn).uses(), process(&conn).await), (1, first));
}

#[tokio::test]
async fn open_transaction_does_not_reach_the_next_caller() {
    let Some(server) = server() else { return };
    let pool = pool(&server, PostgresConnector::new(config()));
    for (is_released, fails) in [(true, false), (true, true), (false, false), (false, true)] {
        let conn = pool.acquire().await.unwrap();
        let first = process(&conn).await;
        conn.batch_execute("BEGIN; CREATE TABLE left_open()").await.unwrap();
        if fails {
            assert!(conn.batch_execute("no statement").await.is_err());
        }
        if is_released {
            conn.release()
        } else {
            drop(conn)
        }

        let conn = pool.acquire().await.unwrap();
        let exists = ask(&conn, "to_regclass('left_open')").await.unwrap();
        assert_eq!((process(&conn).await, exists), (first, None), "released: {is_released}, failed: {fails}");
        // In a transaction it would be refused.
        conn.batch_execute("VACUUM pg_am").await.unwrap();
        conn.release();
    }
    assert!(!server.output().contains("no transaction in progress"), "{}", server.output());
}

#[tokio::test]
async fn transaction_whose_begin_was_cut_short_does_not_reach_the_next_caller() {
    let Some(server) = server() else { return };
    let pool = pool(&server, PostgresConnector::new(config()));
    let conn = pool.acquire().await.unwrap();
    // Sent, and its answer is never read.
    assert!(conn.batch_execute("BEGIN").now_or_never().is_none());
    conn.release();
    let conn = pool.acquire().await.unwrap();
    conn.batch_execute("VACUUM pg_am").await.unwrap();
}

#[tokio::test]
async fn settings_are_reset_where_the_session_is() {
    let Some(server) = server() else { return };
    let is_set = "current_setting('work_mem') = '7MB'";
    for (reset, expected) in [(Reset::Transaction, "true"), (Reset::Session, "false")] {
        let pool = pool(&server, PostgresConnector::new(config()).reset(reset));
        let conn = pool.acquire().await.unwrap();
        let first = process(&conn).await;
        conn.batch_execute("SET work_mem = '7MB'").await.unwrap();
        // A type that the client looks up by statements of its own.
        conn.query_one("SELECT typacl FROM pg_type LIMIT 1", &[]).await.unwrap();
        conn.release();
        let conn = pool.acquire().await.unwrap();
        assert_eq!((process(&conn).await, ask(&conn, is_set).await.unwrap().as_deref()), (first, Some(expected)));
        conn.query_one("SELECT typlen, ROW(1, typacl) FROM pg_type LIMIT 1", &[]).await.unwrap();
    }
}

#[tokio::test]
async fn dropped_slow_requests_are_cancelled_and_their_connection_is_reused() {
    let Some(server) = server() else { return };
    let pool = pool(&server, PostgresConnector::new(config()));
    let conn = pool.acquire().await.unwrap();
    let first = process(&conn).await;
    let slow = "SELECT pg_sleep(60)";
    // Two of them, one behind the other.
    let both = async { tokio::join!(conn.batch_execute(slow), conn.batch_execute(slow)) };
    assert!(timeout(Duration::from_millis(100), both).await.is_err());
    drop(conn);

    let conn = pool.acquire_timeout(Duration::from_secs(10)).await.unwrap();
    assert_eq!((ask(&conn, "42").await.unwrap().as_deref(), process(&conn).await), (Some("42"), first));
    assert_eq!(pool.status().totals.failures, 0);
}

#[tokio::test]
async fn late_cancel_does_not_reach_the_next_request() {
    let Some(server) = server() else { return };
    let pool = pool(&server, PostgresConnector::new(config()));
    // The requests end about when the cancel arrives, some 50 ms after the drop.
    for step in 0..25 {
        let conn = pool.acquire().await.unwrap();
        let slow = format!("SELECT pg_sleep({})", 0.045 + f64::from(step) * 0.001);
        assert!(conn.batch_execute(&slow).now_or_never().is_none());
        drop(conn);
        let conn = pool.acquire().await.unwrap();
        conn.batch_execute("SELECT pg_sleep(0.003)").await.unwrap();
        conn.release();
    }
}

#[tokio::test]
async fn discarded_connection_ends_its_request_at_the_server() {
    let Some(server) = server() else { return };
    let watcher = PostgresConnector::new(config()).connect(&Server::new(server.address())).await.unwrap();
    let pool = pool(&server, PostgresConnector::new(config()));
    let conn = pool.acquire().await.unwrap();
    let process = process(&conn).await;
    assert!(timeout(Duration::from_millis(100), conn.batch_execute("SELECT pg_sleep(60)")).await.is_err());
    conn.discard();
    // Opened when the server has closed the other.
    let _conn = pool.acquire().await.unwrap();
    let left = ask(&watcher, &format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {process}")).await.unwrap();
    assert_eq!(left.as_deref(), Some("0"));
}

#[tokio::test]
async fn idle_connections_that_the_server_ended_reach_no_caller() {
    let Some(server) = server() else { return };
    let watcher = PostgresConnector::new(config()).connect(&Server::new(server.address())).await.unwrap();
    let mut config = config();
    config.application_name("ended");
    let pool = Pool::builder(PostgresConnector::new(config)).server(server.address()).build().unwrap();
    let conns = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
    conns.into_iter().for_each(PooledConn::release);

    let ours = "FROM pg_stat_activity WHERE application_name = 'ended'";
    watcher.batch_execute(&format!("SELECT pg_terminate_backend(pid) {ours}")).await.unwrap();
    while ask(&watcher, &format!("SELECT count(*) {ours}")).await.unwrap().as_deref() != Some("0") {}
    // The pool has noticed.
    while pool.status().servers[0].open > 0 {
        sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..3 {
        let conn = pool.acquire().await.unwrap();
        assert_eq!(ask(&conn, "7").await.unwrap().as_deref(), Some("7"));
        conn.release();
    }
    assert_eq!(pool.status().totals.closes(CloseReason::Unfit), 3);
}

#[tokio::test]
async fn what_the_client_asks_for_in_vain_is_not_the_servers_fault() {
    let Some(server) = server() else { return };
    let address = Server::new(server.address());
    let admin = PostgresConnector::new(config()).connect(&address).await.unwrap();
    admin.batch_execute("CREATE ROLE locked LOGIN PASSWORD 'right'").await.unwrap();
    let rules = server.folder().join("data/pg_hba.conf");
    let others = std::fs::read_to_string(&rules).unwrap();
    std::fs::write(&rules, format!("host all locked 127.0.0.1/32 scram-sha-256\n{others}")).unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    let is_locked =
        async || PostgresConnector::new("user=locked dbname=postgres".parse().unwrap()).connect(&address).await;
    while is_locked().await.is_ok() {}

    for (config, code) in [
        ("user=locked password=wrong dbname=postgres", Some(SqlState::INVALID_PASSWORD)),
        ("user=locked dbname=postgres", None),
        ("user=nobody dbname=postgres", Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION)),
        ("user=postgres dbname=missing", Some(SqlState::INVALID_CATALOG_NAME)),
        ("user=postgres dbname=postgres options='-c no_such_setting=1'", Some(SqlState::UNDEFINED_OBJECT)),
    ] {
        let connector = PostgresConnector::new(config.parse().unwrap());
        let error = connector.connect(&address).await.unwrap_err();
        assert_eq!(connector.classify(&error), ConnectFault::Client, "{config}: {error:?}");
        let Error::Postgres(error) = error else { panic!("{error}") };
        assert_eq!(error.code(), code.as_ref(), "{config}");
    }
    let pool = pool(&server, PostgresConnector::new("user=nobody dbname=postgres".parse().unwrap()));
    let error = pool.acquire_timeout(Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(error, AcquireError::Timeout { .. }), "{error}");
    let cause = pool.status().servers[0].connect_error.clone().unwrap();
    assert!(cause.contains("nobody"), "{cause}");
    assert_eq!(pool.status().servers[0].state, ServerState::Up);
    let right = "user=locked password=right dbname=postgres".parse().unwrap();
    PostgresConnector::new(right).connect(&address).await.unwrap();
}
