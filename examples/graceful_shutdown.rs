//! A service that ends well: at a SIGTERM it accepts no more clients, answers those that it has, and closes its pool.
//!
//! Run it with `cargo run --example graceful_shutdown`, on Unix. The server behind the pool and the clients run in this
//! program, which sends the SIGTERM to itself.

use connring::{Pool, TcpConnector};
use tokio::io::{self, AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep, timeout};

#[cfg(not(unix))]
fn main() {}

#[cfg(unix)]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let backend = TcpListener::bind("127.0.0.1:0").await?;
    let pool = Pool::builder(TcpConnector::new()).server(backend.local_addr()?).build()?;
    tokio::spawn(serve_slowly(backend));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let clients: JoinSet<_> = (0..5).map(|_| ask(address)).collect();
    let mut sigterm = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;

    let (mut requests, mut accepted) = (JoinSet::new(), 0);
    loop {
        tokio::select! {
            _ = sigterm.recv() => break,
            Some(ended) = requests.join_next() => println!("a request ended: {ended:?}"), // Or the set grows for ever.
            result = listener.accept() => match result.inspect_err(|error| println!("accept failed: {error}")) {
                Ok((client, _)) => {
                    requests.spawn(answer(client, pool.clone()));
                    accepted += 1;
                }
                Err(_) => sleep(Duration::from_millis(100)).await, // A lack of descriptors, for example, passes.
            },
        }
        if accepted == 5 {
            std::process::Command::new("sh").args(["-c", "kill $PPID"]).status()?;
        }
    }

    println!("SIGTERM: {} requests are running", requests.len());
    drop(listener); // A load balancer that connects is refused, and takes another instance.
    println!("the requests ended: {:?}", timeout(Duration::from_secs(10), requests.join_all()).await);
    println!("the pool is closed: {:?}", pool.close_timeout(Duration::from_secs(5)).await);
    assert!(clients.join_all().await.iter().all(Result::is_ok), "each client got its answer");
    Ok(())
}

async fn ask(service: std::net::SocketAddr) -> io::Result<usize> {
    let mut stream = TcpStream::connect(service).await?;
    stream.write_all(b"hello").await?;
    stream.read_exact(&mut [0; 5]).await
}

/// Passes a request of five bytes on to the server behind the pool.
async fn answer(mut client: TcpStream, pool: Pool<TcpConnector>) -> io::Result<()> {
    let mut bytes = [0; 5];
    client.read_exact(&mut bytes).await?;
    let mut conn = pool.acquire().await.map_err(io::Error::other)?;
    conn.write_all(&bytes).await?;
    conn.read_exact(&mut bytes).await?;
    conn.release();
    client.write_all(&bytes).await
}

/// Echoes after a while.
async fn serve_slowly(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            sleep(Duration::from_millis(200)).await;
            let (mut reader, mut writer) = stream.split();
            copy(&mut reader, &mut writer).await
        });
    }
}
