//! One pool over three servers: acquires a connection, uses it and releases it, nine times.
//!
//! Run it with `cargo run --example first_pool`. The three echo servers run in this program.

use std::error::Error;
use std::time::Duration;

use connring::{Pool, PooledConn, TcpConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let addresses = [start_echo_server().await?, start_echo_server().await?, start_echo_server().await?];
    let pool = Pool::builder(TcpConnector::new())
        .max_conns_per_server(8)
        .connect_timeout(Duration::from_secs(1))
        .servers(addresses)
        .build()?;

    for _ in 0..9 {
        let mut conn = pool.acquire().await?;
        conn.write_all(b"hello").await?;
        let mut answer = [0; 5];
        conn.read_exact(&mut answer).await?; // An early return closes the connection.
        println!("{} answered {}", PooledConn::info(&conn).server().address(), answer.escape_ascii());
        conn.release(); // Returns the connection for reuse.
    }

    for server in pool.status().servers {
        println!("{}: {:?}, {} open, {} idle", server.address, server.state, server.open, server.idle);
    }
    Ok(())
}

async fn start_echo_server() -> std::io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    Ok(address)
}
