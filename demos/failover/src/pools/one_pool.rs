//! The contestant connring: one pool over all servers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use connring::{AcquireError, BuildError, Pool, PooledConn, ServerState, ServerStatus, TcpConnector};
use tokio::net::TcpStream;

use super::{CONNECT_TIMEOUT, Contestant, MAX_CONNS_PER_SERVER, PoolView, ServerView, Tone};

/// The timeout of closing the pool.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(crate) struct OnePool(Pool<TcpConnector>);

impl OnePool {
    /// Opens the pool with the settings of an ordinary service.
    ///
    /// # Errors
    ///
    /// Returns an error if the builder refuses an address.
    pub(crate) fn open(servers: &[Arc<str>]) -> Result<Self, BuildError> {
        let pool = Pool::builder(TcpConnector::new())
            .max_conns_per_server(MAX_CONNS_PER_SERVER)
            .connect_timeout(CONNECT_TIMEOUT)
            .backoff(Duration::from_millis(100), Duration::from_secs(1))
            .wait_timeout(Duration::from_secs(5))
            .servers(servers.iter().cloned())
            .build()?;
        Ok(Self(pool))
    }
}

impl Contestant for OnePool {
    const TITLE: &'static str = "connring: one pool over all servers";

    type Conn = PooledConn<TcpConnector>;
    type Error = AcquireError<io::Error>;

    async fn acquire(&self) -> Result<Self::Conn, Self::Error> {
        self.0.acquire().await
    }

    fn server(conn: &Self::Conn) -> String {
        PooledConn::info(conn).server().address().to_owned()
    }

    fn stream(conn: &mut Self::Conn) -> &mut TcpStream {
        conn
    }

    fn release(conn: Self::Conn) {
        conn.release();
    }

    fn is_reused(conn: &Self::Conn) -> bool {
        PooledConn::info(conn).uses() > 0
    }

    fn fail(conn: Self::Conn, reason: io::Error) {
        conn.fail(reason);
    }

    fn broken(conn: Self::Conn, reason: io::Error) {
        conn.broken(reason);
    }

    fn add(&self, address: &str) -> io::Result<()> {
        self.0.register(address).map_err(io::Error::other)
    }

    fn remove(&self, address: &str) -> io::Result<()> {
        self.0.deregister(address).map_err(io::Error::other)
    }

    fn view(&self) -> PoolView {
        let status = self.0.status();
        PoolView { servers: status.servers.iter().map(view).collect(), waiting: status.waiters }
    }

    async fn close(&self) -> Result<(), String> {
        self.0.close_timeout(CLOSE_TIMEOUT).await.map_err(|error| error.to_string())
    }
}

fn view(server: &ServerStatus) -> ServerView {
    let mut retry_after = None;
    let (state, tone) = match server.state {
        ServerState::Up => ("up".into(), Tone::Good),
        ServerState::Recovering => ("recovering".into(), Tone::Uncertain),
        ServerState::Down { failures, retry_after: after } => {
            retry_after = Some(after);
            let plural = if failures == 1 { "" } else { "s" };
            (format!("down, {failures} failure{plural}"), Tone::Bad)
        }
        ServerState::Ejected { retry_after: after } => {
            retry_after = Some(after);
            ("ejected".into(), Tone::Bad)
        }
        ServerState::Probing { .. } => {
            retry_after = Some(Duration::ZERO);
            ("down, trying".into(), Tone::Bad)
        }
        ServerState::Draining => ("draining".into(), Tone::Uncertain),
        other => (format!("{other:?}"), Tone::Neutral),
    };
    ServerView {
        address: server.address.clone(),
        state,
        tone,
        idle: server.idle,
        in_use: server.in_use as usize,
        connecting: Some(server.connecting),
        retry_after,
    }
}
