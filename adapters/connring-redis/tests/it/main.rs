//! Against redis-server itself.

#![cfg(unix)]

mod commands;
mod cut_short;
mod faults;
mod state;

use std::error::Error;
use std::time::Duration;

use connring::{Builder, Pool, PooledConn};
use connring_real_servers::RealServer;
use connring_redis::RedisConnector;
use redis::{FromRedisValue, RedisResult, cmd};
use tokio::time::{sleep, timeout};

type Conn = PooledConn<RedisConnector>;

/// Of a pool with one connection to one server, so that the next caller gets what the last one had.
fn single(connector: RedisConnector, server: &RealServer) -> Pool<RedisConnector> {
    Pool::builder(connector).max_conns_per_server(1).server(server.address()).build().unwrap()
}

/// Of a pool over several servers.
fn over(servers: &[RealServer]) -> Builder<RedisConnector> {
    Pool::builder(RedisConnector::new()).servers(servers.iter().map(RealServer::address))
}

/// Sends one command, given in words.
async fn send<T: FromRedisValue>(conn: &mut Conn, words: &str) -> RedisResult<T> {
    let mut words = words.split(' ');
    let mut request = cmd(words.next().unwrap_or_default());
    for word in words {
        request.arg(word);
    }
    request.query_async(&mut **conn).await
}

/// An error and its sources.
fn chain(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.unwrap_or_else(|_| panic!("in vain: {what}"));
}
