//! Unit tests of code that uses a pool: no sockets, and no real time passes. They need the feature `test-util` of
//! connring and that of tokio.
//!
//! Run them with `cargo test --example testing`. `cargo run --example testing` calls the code that they test.

use std::convert::Infallible;
use std::time::Duration;

use connring::{Connector, Pool, PooledConn, Server, connect_fn};

/// The code under test: a handler that has 500 ms to find a server, and otherwise says when to ask again.
async fn handle<C: Connector>(pool: &Pool<C>) -> String {
    match pool.acquire_timeout(Duration::from_millis(500)).await {
        Ok(conn) => {
            let text = format!("200 by {}", PooledConn::info(&conn).server().name());
            conn.release();
            text
        }
        Err(error) => {
            let seconds = error.retry_after().map_or(1, |after| after.as_secs() + 1);
            format!("503, retry after {seconds} s")
        }
    }
}

#[tokio::main]
async fn main() {
    let pool = Pool::builder(connect_fn(|_: Server| async { Ok::<_, Infallible>(()) })).server("a").build();
    println!("{}", handle(&pool.expect("the settings are in range")).await);
}

#[cfg(test)]
mod tests {
    use connring::Clock;
    use connring::test_util::{Connect, ScriptedConnector};

    use super::*;

    /// A pool of two servers, and the script of their connector, on tokio's paused time.
    fn pool() -> (Pool<ScriptedConnector>, ScriptedConnector) {
        let clock = Clock::tokio();
        let script = ScriptedConnector::new(clock.clone());
        let builder = Pool::builder(script.clone()).clock(clock).servers(["a", "b"]);
        let pool = builder.backoff(Duration::from_secs(5), Duration::from_secs(5)).outage_retry(None).build();
        (pool.expect("the settings are in range"), script)
    }

    #[tokio::test(start_paused = true)]
    async fn request_is_served_while_one_server_hangs() {
        let (pool, script) = pool();
        script.on_connect("a", Connect::Never);
        for _ in 0..3 {
            assert_eq!(handle(&pool).await, "200 by b");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn client_is_told_when_to_ask_again_while_all_servers_refuse() {
        let (pool, script) = pool();
        script.set_default(Connect::Refuse);
        let answer = handle(&pool).await;
        assert!(answer.starts_with("503, retry after "), "{answer}");
        // The servers come back, and it is time to ask again.
        script.set_default(Connect::Ok);
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(handle(&pool).await.starts_with("200"));
    }
}
