//! What a caller leaves on its connection.

use connring::{PooledConn, ServerState};
use connring_real_servers::{redis, redis_with};
use connring_redis::RedisConnector;
use redis::{AsyncCommands, ErrorKind, ServerErrorKind, pipe};

use crate::{over, send, single, until};

/// How often the server was sent `RESET`.
async fn resets(conn: &mut crate::Conn) -> String {
    let stats: String = send(conn, "INFO commandstats").await.unwrap();
    stats.lines().find(|line| line.starts_with("cmdstat_reset:")).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn next_caller_finds_the_connection_as_new() {
    let Some(server) = redis_with(&["--requirepass", "secret", "--user", "guest", "on", ">pw", "~*", "+@all"]) else {
        return;
    };
    let pool = single(RedisConnector::new().password("secret").database(2).client_name("ours"), &server);
    let other = single(RedisConnector::new().password("secret").database(2), &server);
    let id: i64 = send(&mut pool.acquire().await.unwrap(), "CLIENT ID").await.unwrap();
    for (round, words) in
        ["SELECT 5", "MULTI", "WATCH n", "AUTH guest pw", "CLIENT SETNAME x", "RESET", "GET n"].into_iter().enumerate()
    {
        let mut conn = pool.acquire().await.unwrap();
        let _: redis::Value = send(&mut conn, words).await.unwrap();
        if round % 2 == 0 {
            conn.release();
        } else {
            drop(conn);
        }
        let () = other.acquire().await.unwrap().set("n", round).await.unwrap();

        let mut conn = pool.acquire().await.unwrap();
        let n: Option<Vec<usize>> = pipe().atomic().get("n").query_async(&mut *conn).await.unwrap();
        assert_eq!(n, Some(vec![round]), "after {words}");
        let client: String = send(&mut conn, "CLIENT INFO").await.unwrap();
        for field in [format!("id={id} "), " name=ours ".to_owned(), " db=2 ".to_owned(), " user=default ".to_owned()] {
            assert!(client.contains(&field), "{field} after {words}: {client}");
        }
    }
}

#[tokio::test]
async fn transaction_that_ended_needs_no_reset() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    for words in [
        &["WATCH n", "MULTI", "INCR n", "EXEC"][..],
        &["MULTI", "GET", "EXEC"],
        &["MULTI", "DISCARD"],
        &["WATCH n", "UNWATCH"],
    ] {
        let mut conn = pool.acquire().await.unwrap();
        for command in words {
            let _ = send::<redis::Value>(&mut conn, command).await;
        }
        conn.release();
    }
    assert_eq!(resets(&mut pool.acquire().await.unwrap()).await, "");

    // Neither ends anything: one is queued, one is an error.
    for words in [&["MULTI", "UNWATCH"][..], &["WATCH n", "EXEC"]] {
        let mut conn = pool.acquire().await.unwrap();
        for command in words {
            let _ = send::<redis::Value>(&mut conn, command).await;
        }
        conn.release();
    }
    let resets = resets(&mut pool.acquire().await.unwrap()).await;
    assert!(resets.starts_with("cmdstat_reset:calls=2,"), "{resets}");
    assert_eq!(pool.status().totals.connects, 1);
}

#[tokio::test]
async fn connection_that_was_told_of_loading_is_closed_and_its_server_blamed() {
    let Some(primary) = redis_with(&["--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0"]) else {
        return;
    };
    let slow = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"];
    let Some(replica) = redis_with(&slow) else { return };
    let source = single(RedisConnector::new(), &primary);
    let () = send(&mut source.acquire().await.unwrap(), "DEBUG POPULATE 20000").await.unwrap();

    let pool = over(std::slice::from_ref(&replica)).build().unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let () = send(&mut conn, &format!("REPLICAOF 127.0.0.1 {}", primary.port())).await.unwrap();
    let error = loop {
        if let Err(error) = conn.get::<_, Option<String>>("x").await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::BusyLoading), "{error}");
    drop(conn);
    until("the connection is closed", async || pool.status().servers[0].open == 0).await;
    assert_eq!(pool.status().totals.failures, 1);

    // A new connection is refused for the same reason, so that other servers would serve.
    let error = pool.acquire_now().await.map(|conn| PooledConn::info(&conn)).unwrap_err();
    assert!(crate::chain(&error).contains("loading"), "{}", crate::chain(&error));
    assert!(matches!(pool.status().servers[0].state, ServerState::Down { .. }));
}
