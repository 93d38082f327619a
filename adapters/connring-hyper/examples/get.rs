//! Asks several servers for the same page, once a second, and says which one answered.
//!
//! `cargo run -p connring-hyper --example get -- 127.0.0.1:8081 127.0.0.1:8082`

use std::env;
use std::time::Duration;

use connring::{AcquireOptions, ConnInfo, Pool, TcpConnector};
use connring_hyper::{HttpClient, HttpConnector};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let connector = HttpConnector::new(TcpConnector::new());
    let pool = Pool::builder(connector).min_idle_per_server(1).servers(env::args().skip(1)).build()?;
    let client = HttpClient::new(pool).head_timeout(Duration::from_millis(500));
    for number in 1..=11 {
        let request = || Request::get("/hello").body(Empty::<Bytes>::new());
        let mut result = client.send(request()?).await;
        if let Err(error) = &result {
            println!("{number}: {error}");
            // A GET is safe to send twice.
            result = client.send_with(AcquireOptions::new().avoid(error.server()), request()?).await;
        }
        let response = result?;
        let server = response.extensions().get::<ConnInfo>().map(|info| info.server().name().to_owned());
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        println!("{number}: {status} from {}: {}", server.unwrap_or_default(), String::from_utf8_lossy(&body).trim());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    println!("\n{}", client.pool().status());
    Ok(())
}
