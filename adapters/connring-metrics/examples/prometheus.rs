//! The metrics of a pool as the page that Prometheus reads: three servers, one of which refuses, and callers that wait.
//!
//! Run it with `cargo run -p connring-metrics --example prometheus`: it prints the page after two seconds. With an
//! address, as in `-- 127.0.0.1:9185`, it also serves the page there, and goes on. Let Prometheus read it each second
//! and import `grafana.json` to Grafana.

use std::env;
use std::time::Duration;

use connring::{Pool, Server, TcpConnector};
use connring_metrics::{BUCKETS, facade};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // The recorder comes first: it is told units and descriptions.
    let prometheus = PrometheusBuilder::new().with_recommended_naming(true).set_buckets(BUCKETS)?.install_recorder()?;

    let builder = Pool::builder(TcpConnector::new()).name("sessions").observer(facade::observer("sessions"));
    let pool = builder.max_conns_per_server(4).build()?;
    let export = facade::Export::new(&pool);

    for name in ["db-1", "db-2"] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        pool.register(Server::named(name, listener.local_addr()?.to_string()))?;
        tokio::spawn(echo(listener));
    }
    // Nothing listens there once the listener is gone.
    let refused = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    pool.register(Server::named("db-3", refused.to_string()))?;
    for number in 0..12 {
        tokio::spawn(call(pool.clone(), number));
    }
    sleep(Duration::from_secs(2)).await;

    export.update();
    print!("{}", prometheus.render());
    match env::args().nth(1) {
        Some(address) => serve(TcpListener::bind(address).await?, &prometheus, &export).await,
        None => Ok(()),
    }
}

/// Answers each request on each connection with the request.
async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut request = [0; 4];
            while stream.read_exact(&mut request).await.is_ok() && stream.write_all(&request).await.is_ok() {}
        });
    }
}

/// Sends requests for ever. Each hundredth connection is discarded.
async fn call(pool: Pool<TcpConnector>, number: u32) {
    for round in number.. {
        let Ok(mut conn) = pool.acquire().await else { return };
        let mut answer = [0; 4];
        let asked = conn.write_all(b"ping").await.and(conn.read_exact(&mut answer).await.map(drop));
        sleep(Duration::from_millis(10)).await;
        match asked {
            Ok(()) if round % 100 == 0 => conn.discard(),
            Ok(()) => conn.release(),
            Err(error) => conn.broken(&error),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Serves the page to one client after the other.
async fn serve(
    listener: TcpListener,
    page: &PrometheusHandle,
    export: &facade::Export,
) -> Result<(), Box<dyn std::error::Error>> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        export.update();
        let page = page.render();
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain; version=0.0.4";
        let answer = format!("{head}\r\nContent-Length: {}\r\n\r\n{page}", page.len());
        // A client that has gone gets no page.
        if stream.read(&mut [0; 4096]).await.is_ok() {
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }
}
