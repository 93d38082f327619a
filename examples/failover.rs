//! A server dies in the middle of a request. The caller tries the request again at another server, and the pool uses
//! that one alone from then on.
//!
//! Run it with `cargo run --example failover`. The two servers run in this program.

use std::error::Error;
use std::io;
use std::time::Duration;

use connring::{AcquireOptions, Pool, PooledConn, Server, TcpConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dying = Server::named("dying", start_server(2).await?);
    let well = Server::named("well", start_server(usize::MAX).await?);
    let pool = Pool::builder(TcpConnector::new()).max_conns_per_server(1).servers([dying, well]).build()?;

    for request in 1..=10 {
        println!("request {request} was answered by {}", ask(&pool).await?);
        sleep(Duration::from_millis(10)).await;
    }
    for server in pool.status().servers {
        println!("{}: {:?}, last error: {:?}", server.name, server.state, server.connect_error);
    }
    Ok(())
}

/// Asks one server, and where that fails another one. Safe, since the request may be sent twice.
async fn ask(pool: &Pool<TcpConnector>) -> Result<String, Box<dyn Error>> {
    let mut failed: Option<String> = None;
    loop {
        // Soft: if it is the only server that serves, it is taken again.
        let mut conn = pool.acquire_with(AcquireOptions::new().avoid(failed.clone())).await?;
        let server = PooledConn::info(&conn).server().name().to_owned();
        match exchange(&mut conn).await {
            Ok(()) => {
                conn.release();
                return Ok(server);
            }
            Err(error) if failed.is_none() => {
                println!("{server} failed: {error}");
                match PooledConn::info(&conn).is_new() {
                    true => conn.fail(&error),
                    // Connections that have been idle as long close, too.
                    false => conn.broken(&error),
                }
                failed = Some(server);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping").await?;
    stream.read_exact(&mut [0; 4]).await?;
    Ok(())
}

/// Answers that many requests, one connection after the other, and dies at the next one.
async fn start_server(mut requests: usize) -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4];
            while stream.read_exact(&mut request).await.is_ok() {
                let Some(left) = requests.checked_sub(1) else { return };
                requests = left;
                let _ = stream.write_all(b"pong").await;
            }
        }
    });
    Ok(address)
}
