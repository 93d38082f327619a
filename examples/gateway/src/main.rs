//! A reverse proxy for HTTP/1.1: clients in front, several servers behind one connring pool.

mod headers;
mod pages;
mod proxy;
mod serve;
mod settings;

use std::error::Error;
use std::io;

use clap::Parser;
use connring_hyper::HttpClient;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::settings::Settings;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let settings = Settings::parse();
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let pool = settings.pool()?.build()?;
    let client = HttpClient::new(pool.clone())
        .head_timeout(settings.head_timeout)
        .body_timeout(settings.body_timeout)
        .verdict(proxy::verdict);

    let front = TcpListener::bind(settings.listen).await?;
    if let Some(address) = settings.admin {
        let (admin, pool) = (TcpListener::bind(address).await?, pool.clone());
        // Until the end of the program: its end is of interest, too.
        tokio::spawn(serve::serve(admin, std::future::pending(), move |_, request| {
            let page = pages::page(&pool, request.uri().path());
            async { page }
        }));
    }
    eprintln!("gateway: http://{}", settings.listen);

    let requests = serve::serve(front, terminated()?, move |from, request| {
        let client = client.clone();
        async move { proxy::forward(&client, from, request).await }
    })
    .await;
    // No new ones come. Those that run end, or the time does.
    if tokio::time::timeout(settings.grace, requests.shutdown()).await.is_err() {
        eprintln!("gateway: requests still run after {:?}", settings.grace);
    }
    pool.close_timeout(settings.grace).await?;
    eprintln!("gateway: closed");
    Ok(())
}

/// Ends at SIGTERM or SIGINT.
fn terminated() -> io::Result<impl Future<Output = ()> + Send> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
