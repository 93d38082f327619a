//! Asks Redis servers in turn, through the manager of bb8-redis.
//!
//! Run it with the addresses of servers:
//! `cargo run -p connring-bb8 --example bb8_redis -- 127.0.0.1:6379 127.0.0.1:6380`.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use bb8_redis::RedisConnectionManager;
use bb8_redis::redis::cmd;
use connring::{Pool, PooledConn};
use connring_bb8::Bb8Connector;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connector =
        Bb8Connector::new(|server| RedisConnectionManager::new(format!("redis://{}", server.address())).map(Arc::new));
    let pool = Pool::builder(connector).servers(env::args().skip(1)).build()?;
    pool.warm_up(Duration::from_secs(5)).await;
    for _ in 0..4 {
        let mut conn = pool.acquire().await?;
        let pong: String = cmd("PING").query_async(&mut **conn).await?;
        println!("{pong} from {}", PooledConn::info(&conn).server().address());
        conn.release();
    }
    Ok(())
}
