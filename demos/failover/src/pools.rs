//! The contestants: two ways to use several servers.

mod one_pool;
mod pool_per_server;

use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

pub(crate) use one_pool::OnePool;
pub(crate) use pool_per_server::PoolPerServer;

/// The maximum of connections to one server.
const MAX_CONNS_PER_SERVER: u32 = 32;

/// The timeout of a connect attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A pool as the load uses it, or several pools with the code that chooses one of them.
pub(crate) trait Contestant: Clone + Send + Sync + 'static {
    /// The name of the contestant in headings.
    const TITLE: &'static str;

    type Conn: Send;
    type Error: Error + Send;

    fn acquire(&self) -> impl Future<Output = Result<Self::Conn, Self::Error>> + Send;

    /// Returns the address of the connection's server.
    fn server(conn: &Self::Conn) -> String;

    fn stream(conn: &mut Self::Conn) -> &mut TcpStream;

    /// Returns the connection for reuse.
    fn release(conn: Self::Conn);

    /// Returns whether the connection was used before.
    fn is_reused(conn: &Self::Conn) -> bool;

    /// Closes the connection and reports a failure of its server, if the contestant counts failures.
    fn fail(conn: Self::Conn, reason: io::Error);

    /// Closes a connection that turned out dead. Its server may have restarted since it was used last, so this counts
    /// as no failure.
    fn broken(conn: Self::Conn, reason: io::Error);

    /// Adds a server.
    ///
    /// # Errors
    ///
    /// Returns an error if the contestant refuses the server.
    fn add(&self, address: &str) -> io::Result<()>;

    /// Removes a server.
    ///
    /// # Errors
    ///
    /// Returns an error if the contestant does not have the server.
    fn remove(&self, address: &str) -> io::Result<()>;

    fn view(&self) -> PoolView;

    /// Closes the contestant. Returns an error if connections stayed open.
    fn close(&self) -> impl Future<Output = Result<(), String>>;
}

/// A snapshot of a contestant, for the table.
pub(crate) struct PoolView {
    pub(crate) servers: Vec<ServerView>,
    /// Waiting acquires.
    pub(crate) waiting: usize,
}

/// A snapshot of one server.
pub(crate) struct ServerView {
    pub(crate) address: Arc<str>,
    pub(crate) state: String,
    pub(crate) tone: Tone,
    pub(crate) idle: usize,
    pub(crate) in_use: usize,
    /// Running connect attempts, if the contestant counts them.
    pub(crate) connecting: Option<u32>,
    /// The time until the next retry, if the server is down.
    pub(crate) retry_after: Option<Duration>,
}

/// The colour category of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Uncertain,
    Bad,
    /// The contestant does not track the state.
    Neutral,
}
