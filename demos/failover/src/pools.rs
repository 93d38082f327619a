//! The two ways to reach many servers that are compared.

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

/// The most connections to one server.
const MAX_CONNS_PER_SERVER: u32 = 32;

/// How long a connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A pool, or several of them with the code that chooses one, as the load uses it.
pub(crate) trait Contestant: Clone + Send + Sync + 'static {
    /// What it is, for headings.
    const TITLE: &'static str;

    type Conn: Send;
    type Error: Error + Send;

    fn acquire(&self) -> impl Future<Output = Result<Self::Conn, Self::Error>> + Send;

    /// The address of the server that the connection leads to.
    fn server(conn: &Self::Conn) -> String;

    fn stream(conn: &mut Self::Conn) -> &mut TcpStream;

    /// Returns the connection for reuse.
    fn release(conn: Self::Conn);

    /// Closes the connection and, where the contestant keeps account of failures, reports one.
    fn fail(conn: Self::Conn, reason: io::Error);

    /// Adds a server.
    ///
    /// # Errors
    ///
    /// When the contestant refuses it.
    fn add(&self, address: &str) -> io::Result<()>;

    /// Removes a server.
    ///
    /// # Errors
    ///
    /// When the server is not there.
    fn remove(&self, address: &str) -> io::Result<()>;

    fn view(&self) -> PoolView;

    /// Closes it. Returns why connections stayed open, if any did.
    fn close(&self) -> impl Future<Output = Result<(), String>>;
}

/// A snapshot for the table.
pub(crate) struct PoolView {
    pub(crate) servers: Vec<ServerView>,
    /// Acquires that wait.
    pub(crate) waiting: usize,
}

/// A snapshot of one server.
pub(crate) struct ServerView {
    pub(crate) address: Arc<str>,
    pub(crate) state: String,
    pub(crate) tone: Tone,
    pub(crate) idle: usize,
    pub(crate) in_use: usize,
    /// Connects that are running, if the contestant counts them.
    pub(crate) connecting: Option<u32>,
    /// When the server is tried again, if it is down.
    pub(crate) retry_after: Option<Duration>,
}

/// Whether a state is good news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Uncertain,
    Bad,
    /// The contestant has no opinion.
    Neutral,
}
