//! Commands, pipelines and transactions; the login.

use std::time::Duration;

use connring::{Connector, Pool, Server, UnixConnector};
use connring_real_servers::{redis, redis_with};
use connring_redis::{Error, RedisConnector};
use redis::{AsyncCommands, ErrorKind, RedisResult, cmd, pipe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::{chain, send, single};

#[tokio::test]
async fn commands_pipelines_and_scans_are_answered() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    let mut conn = pool.acquire().await.unwrap();
    let () = cmd("SET").arg("a").arg(1).query_async(&mut *conn).await.unwrap();
    let sum: i64 = conn.incr("a", 41).await.unwrap();
    assert_eq!(sum, 42);
    let missing: Option<String> = conn.get("b").await.unwrap();
    assert_eq!(missing, None);
    let (first, second): (String, i64) =
        pipe().set("b", "x").ignore().get("b").incr("a", 1).query_async(&mut *conn).await.unwrap();
    assert_eq!((first.as_str(), second), ("x", 43));
    let none: Vec<String> = pipe().query_async(&mut *conn).await.unwrap();
    assert!(none.is_empty());

    let values: Vec<i64> = (0..2000).collect();
    let () = conn.sadd("set", &values).await.unwrap();
    let mut seen = Vec::new();
    let mut members = conn.sscan::<_, i64>("set").await.unwrap();
    while let Some(member) = members.next_item().await {
        seen.push(member.unwrap());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, values);
}

#[tokio::test]
async fn server_that_reads_on_only_when_its_answers_are_read_causes_no_deadlock() {
    // It sends each request back, which is an array of two: a valid answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connector = RedisConnector::new();
    let server = Server::from(listener.local_addr().unwrap());
    let echo = tokio::spawn(async move {
        let (mut reader, mut writer) = listener.accept().await.unwrap().0.into_split();
        tokio::io::copy(&mut reader, &mut writer).await
    });
    let mut conn = connector.connect(&server).await.unwrap();
    // More than the buffers of two sockets hold.
    let value = "v".repeat(400_000);
    let mut requests = pipe();
    for _ in 0..80 {
        requests.cmd("ECHO").arg(&value);
    }
    let asking = requests.query_async::<Vec<(String, String)>>(&mut conn);
    let answers = timeout(Duration::from_secs(20), asking).await.expect("no deadlock").unwrap();
    assert_eq!(answers.len(), 80);
    assert!(answers.iter().all(|(_, answer)| *answer == value));
    drop(conn);
    echo.await.unwrap().unwrap();
}

#[tokio::test]
async fn surplus_answers_make_a_request_fail() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::from(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        stream.read_exact(&mut [0; 14]).await.unwrap();
        stream.write_all(b"+PONG\r\n+more\r\n").await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    });
    let error = RedisConnector::new().connect(&server).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { command: "PING", .. }), "{error:?}");
    assert!(chain(&error).contains("more answers than there were requests"), "{}", chain(&error));
}

#[tokio::test]
async fn error_answers_leave_the_connection_in_step() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    let mut conn = pool.acquire().await.unwrap();
    let () = conn.set("text", "x").await.unwrap();
    let error = conn.incr::<_, _, i64>("text", 1).await.unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");
    let error = pipe().incr("text", 1).get("text").query_async::<Vec<String>>(&mut *conn).await.unwrap_err();
    assert!(error.to_string().contains("not an integer"), "{error}");
    let results: Vec<RedisResult<String>> =
        pipe().ignore_errors().incr("text", 1).get("text").query_async(&mut *conn).await.unwrap();
    assert!(results[0].is_err());
    assert_eq!(results[1], Ok("x".to_owned()));
    assert_eq!(send::<String>(&mut conn, "ECHO same").await.unwrap(), "same");
    conn.release();
    assert_eq!(pool.status().totals.closed(), 0);
}

#[tokio::test]
async fn transactions_return_the_answer_of_exec_or_the_cause_of_its_failure() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    let mut conn = pool.acquire().await.unwrap();
    let (one, two): (i64, i64) = pipe().atomic().incr("n", 1).incr("n", 1).query_async(&mut *conn).await.unwrap();
    assert_eq!((one, two), (1, 2));
    let none: Vec<String> = pipe().atomic().query_async(&mut *conn).await.unwrap();
    assert!(none.is_empty());
    let refused = pipe().atomic().incr("n", 1).cmd("GET").query_async::<Vec<i64>>(&mut *conn).await.unwrap_err();
    assert!(refused.to_string().contains("wrong number of arguments for 'get'"), "{refused}");
    assert_eq!(send::<i64>(&mut conn, "GET n").await.unwrap(), 2);

    // Another client changes a watched key.
    let () = send(&mut conn, "WATCH n").await.unwrap();
    let other = single(RedisConnector::new(), &server);
    let () = other.acquire().await.unwrap().set("n", 10).await.unwrap();
    let changed: Option<Vec<i64>> = pipe().atomic().incr("n", 1).query_async(&mut *conn).await.unwrap();
    assert_eq!(changed, None);
}

#[tokio::test]
async fn refused_commands_are_named_and_not_sent() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    let mut conn = pool.acquire().await.unwrap();
    for words in ["SUBSCRIBE news", "monitor", "HELLO 3", "CLIENT REPLY OFF", "QUIT"] {
        let error = send::<String>(&mut conn, words).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Client, "{words}");
    }
    let error = pipe().get("x").cmd("SUBSCRIBE").arg("a").query_async::<Vec<String>>(&mut *conn).await.unwrap_err();
    assert_eq!(error.detail(), Some("SUBSCRIBE"));
    assert!(redis::Cmd::new().query_async::<String>(&mut *conn).await.is_err());
    assert_eq!(send::<String>(&mut conn, "ECHO same").await.unwrap(), "same");
    conn.release();
    assert_eq!(pool.status().totals.closed(), 0);
}

#[tokio::test]
async fn login_selects_user_database_and_name() {
    let Some(server) = redis_with(&["--requirepass", "secret", "--user", "shop", "on", ">pw", "~*", "+@all"]) else {
        return;
    };
    let connector = || RedisConnector::new().database(3).client_name("checkout");
    for (connector, user) in [(connector().password("secret"), "default"), (connector().login("shop", "pw"), "shop")] {
        assert!(!format!("{connector:?}").contains("secret"), "{connector:?}");
        let pool = single(connector, &server);
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(send::<String>(&mut conn, "ACL WHOAMI").await.unwrap(), user);
        let client: String = send(&mut conn, "CLIENT INFO").await.unwrap();
        assert!(client.contains(" name=checkout ") && client.contains(" db=3 "), "{client}");
        assert_eq!(redis::aio::ConnectionLike::get_db(&*conn), 3);
    }
}

#[tokio::test]
async fn refused_login_is_a_failed_connect_that_names_the_command_and_the_answer() {
    let Some(server) = redis_with(&["--requirepass", "secret"]) else { return };
    let connector = || RedisConnector::new().password("secret");
    for (connector, step, text) in [
        (RedisConnector::new(), "PING", "Authentication required"),
        (RedisConnector::new().password("wrong"), "AUTH", "WRONGPASS"),
        (RedisConnector::new().login("nobody", "x"), "AUTH", "WRONGPASS"),
        (connector().database(99), "SELECT", "out of range"),
        (connector().client_name("two words"), "CLIENT SETNAME", "cannot contain spaces"),
    ] {
        let error = connector.connect(&Server::from(server.address())).await.unwrap_err();
        assert!(matches!(error, Error::Answer { command, .. } if command == step), "{error:?}");
        assert!(chain(&error).contains(text), "{}", chain(&error));
    }
    let pool = single(RedisConnector::new().password("wrong"), &server);
    let error = pool.acquire_now().await.unwrap_err();
    assert!(chain(&error).contains("WRONGPASS"), "{}", chain(&error));
}

#[tokio::test]
async fn streams_of_another_connector_carry_it() {
    let Some(server) = redis_with(&["--unixsocket", "redis.sock"]) else { return };
    let socket = server.folder().join("redis.sock");
    let connector = RedisConnector::over(UnixConnector::new()).database(1);
    let pool = Pool::builder(connector).server(socket.to_str().unwrap()).build().unwrap();
    let mut conn = pool.acquire().await.unwrap();
    let () = conn.set("a", 1).await.unwrap();
    conn.release();
    assert_eq!(pool.acquire().await.unwrap().get::<_, i64>("a").await.unwrap(), 1);
    assert_eq!(pool.status().totals.connects, 1);
}
