//! The settings: from the command line. A file of settings would be read here, into the builder of the pool.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use connring::{Builder, Pool, TcpConnector};
use connring_hyper::HttpConnector;
use http_body_util::{Either, Empty};
use hyper::Request;

use crate::proxy::Backend;

/// A reverse proxy for HTTP/1.1 over several servers.
#[derive(Debug, Parser)]
#[command(name = "gateway")]
pub(crate) struct Settings {
    /// Where clients connect
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where `/status` and `/metrics` are; nowhere without it
    #[arg(long)]
    pub(crate) admin: Option<SocketAddr>,
    /// A server, as host:port; once for each
    #[arg(long = "server", required = true)]
    servers: Vec<String>,
    /// The most connections to each server
    #[arg(long, default_value_t = 100)]
    max_conns: u32,
    /// The most requests a second to each server
    #[arg(long)]
    max_rps: Option<f64>,
    /// The path of a page that shows whether a server can serve: asked for every second, and before a server that was
    /// down serves again
    #[arg(long)]
    check: Option<String>,
    /// Seconds for a connect
    #[arg(long, default_value = "1", value_parser = seconds)]
    connect_timeout: Duration,
    /// Seconds that a request may wait for a connection
    #[arg(long, default_value = "5", value_parser = seconds)]
    wait_timeout: Duration,
    /// Seconds from a request to the head of its response
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub(crate) head_timeout: Duration,
    /// Seconds for the requests that run at the end
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) grace: Duration,
}

impl Settings {
    /// The pool of the servers.
    pub(crate) fn pool(&self) -> Builder<Backend> {
        let mut connector = HttpConnector::new(TcpConnector::new());
        if let Some(path) = self.check.clone() {
            connector = connector.check_with(move || {
                let mut request = Request::new(Either::Right(Empty::new()));
                // A path that is none shows at each check.
                *request.uri_mut() = path.parse().unwrap_or_default();
                request
            });
        }
        let mut builder = Pool::builder(connector)
            .name("gateway")
            .servers(&self.servers)
            .max_conns_per_server(self.max_conns)
            .connect_timeout(self.connect_timeout)
            .wait_timeout(self.wait_timeout);
        if let Some(rps) = self.max_rps {
            builder = builder.max_rps(rps);
        }
        if self.check.is_some() {
            builder = builder.idle_check_interval(Duration::from_secs(1));
        }
        builder
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
