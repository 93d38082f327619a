//! The settings: flags, and a TOML file for those of the pool. A flag wins over the file.

use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use connring::{Builder, Pool, PoolConfig, TcpConnector};
use connring_hyper::HttpConnector;
use http_body_util::{Either, Empty};
use hyper::Request;

use crate::proxy::Backend;

/// In place of defaults of the library, which the list of flags names.
const DEFAULTS: &str = "Unless set otherwise, the gateway has 100 connections to a server at most, 1 s for a connect, \
                        5 s for the wait for a connection, and with --check an idle check every second.";

/// A reverse proxy for HTTP/1.1 over several servers.
#[derive(Debug, Parser)]
#[command(name = "gateway", after_help = DEFAULTS)]
pub(crate) struct Settings {
    /// Where clients connect
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
    /// Where `/status` and `/metrics` are served; if not set, they are not
    #[arg(long)]
    pub(crate) admin: Option<SocketAddr>,
    /// A TOML file with settings of the pool, under the names of the flags below, with underscores
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    pool: PoolConfig,
    /// The path of a page that shows whether a server can serve: asked for every second, and before a server that was
    /// down serves again
    #[arg(long)]
    check: Option<String>,
    /// Seconds in which a server takes nothing of a request and sends no head of a response, or a client sends nothing
    /// more of a request that it has begun
    #[arg(long, default_value = "30", value_parser = seconds)]
    pub(crate) head_timeout: Duration,
    /// Seconds in which a server sends nothing more of a response that it has begun
    #[arg(long, default_value = "60", value_parser = seconds)]
    pub(crate) body_timeout: Duration,
    /// Seconds for the requests that run at the end
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) grace: Duration,
}

impl Settings {
    /// The pool of the servers.
    pub(crate) fn pool(&self) -> Result<Builder<Backend>, Box<dyn Error>> {
        let mut connector = HttpConnector::new(TcpConnector::new());
        if let Some(path) = self.check.clone() {
            connector = connector.check_with(move || {
                let mut request = Request::new(Either::Right(Empty::new()));
                // A path that is none shows at each check.
                *request.uri_mut() = path.parse().unwrap_or_default();
                request
            });
        }
        let file = match &self.config {
            Some(path) => toml::from_str(&fs::read_to_string(path)?)?,
            None => PoolConfig::default(),
        };
        let mut builder = Pool::builder(connector)
            .name("gateway")
            .max_conns_per_server(100)
            .connect_timeout(Duration::from_secs(1))
            .wait_timeout(Duration::from_secs(5));
        if self.check.is_some() {
            builder = builder.idle_check_interval(Duration::from_secs(1));
        }
        Ok(builder.config(self.pool.clone().or(file)))
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
