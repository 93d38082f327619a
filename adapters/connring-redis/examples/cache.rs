//! One pool over three Redis servers, with a timeout for each request, and a verdict on the server where one is due.
//!
//! Run it with the addresses of one or more servers:
//! `cargo run -p connring-redis --example cache -- 127.0.0.1:6379 127.0.0.1:6380`. Then stop one of them while it runs.

use std::env;
use std::io;
use std::time::Duration;

use connring::{Pool, PooledConn};
use connring_redis::RedisConnector;
use redis::{AsyncCommands, ErrorKind, RedisError, ServerErrorKind};
use tokio::time::{sleep, timeout};

/// Adds to a counter of the server whose turn it is. Fails after a second at the latest, plus the wait for a
/// connection.
async fn count(pool: &Pool<RedisConnector>, key: &str) -> Result<(String, u64), RedisError> {
    let mut conn = pool.acquire().await.map_err(io::Error::other)?;
    let server = PooledConn::info(&conn).server().address().to_owned();
    match timeout(Duration::from_secs(1), conn.incr(key, 1)).await {
        Ok(Ok(number)) => {
            conn.release();
            Ok((server, number))
        }
        Ok(Err(error)) => {
            match error.kind() {
                // The connection ended: the server may have restarted.
                ErrorKind::Io => conn.broken(&error),
                // It answers, but cannot serve.
                ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::BusyLoading) => conn.fail(&error),
                // An answer as any other: a wrong type, a missing permission.
                _ => conn.release(),
            }
            Err(error)
        }
        // The request is cut short: the connection is closed, and its server is blamed.
        Err(elapsed) => {
            conn.fail(elapsed);
            Err(io::Error::from(io::ErrorKind::TimedOut).into())
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connector = RedisConnector::new().client_name("cache");
    let pool = Pool::builder(connector).servers(env::args().skip(1)).build()?;
    for _ in 0..10 {
        match count(&pool, "visits").await {
            Ok((server, number)) => println!("{server}: visit {number}"),
            Err(error) => println!("{error}"),
        }
        sleep(Duration::from_millis(200)).await;
    }
    println!("{}", pool.status());
    Ok(())
}
