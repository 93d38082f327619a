//! Connects and acquires through stacks of tower's layers.
//!
//! Run it with the addresses of Redis servers:
//! `cargo run -p connring-tower --example tower_stack -- 127.0.0.1:6379 127.0.0.1:6380`.

use std::env;
use std::error::Error;
use std::time::Duration;

use connring::{AcquireOptions, Pool, PooledConn, Server, is_idle};
use connring_tower::{PoolService, connect_service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let connect = service_fn(|server: Server| async move { TcpStream::connect(server.address()).await });
    let connect = ServiceBuilder::new().concurrency_limit(4).service(connect);
    let connector = connect_service(connect).is_reusable(|conn, _| is_idle(conn));
    let pool = Pool::builder(connector).max_conns_per_server(1).servers(env::args().skip(1)).build()?;
    pool.warm_up(Duration::from_secs(5)).await;
    let mut conns = ServiceBuilder::new().load_shed().concurrency_limit(64).service(PoolService::new(pool));

    for _ in 0..4 {
        let mut conn = conns.ready().await?.call(AcquireOptions::new()).await?;
        conn.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        conn.read_exact(&mut answer).await?;
        println!("{} from {}", answer.escape_ascii(), PooledConn::info(&conn).server().address());
        conn.release();
    }

    let mut held = Vec::new();
    let error = loop {
        match conns.ready().await?.call(AcquireOptions::new().timeout(Duration::ZERO)).await {
            Ok(conn) => held.push(conn),
            Err(error) => break error,
        }
    };
    println!("{} in use: {error}", held.len());
    Ok(())
}
