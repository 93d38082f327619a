//! How a server is dialled: the [`Connector`] trait and the connectors that come with the crate.

mod boxed;
mod function;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod scripted;
mod socket;
mod tcp;
#[cfg(unix)]
mod unix;

use std::error::Error;
use std::future::Future;
use std::time::Duration;

pub use self::boxed::{BoxConnector, BoxError};
pub use self::function::{FnConnector, connect_fn};
pub use self::tcp::TcpConnector;
#[cfg(unix)]
pub use self::unix::UnixConnector;

/// The way to dial one address.
///
/// The pool knows nothing of the protocol: a connection is whatever [`connect`](Connector::connect) returns.
/// What belongs to opening a connection (a TLS handshake, a login, reading a greeting) belongs in `connect`,
/// so that its failure counts against the server, and its time against the connect timeout.
///
/// # Examples
///
/// ```
/// use connring::Connector;
/// use tokio::io::DuplexStream;
///
/// struct InMemory;
///
/// impl Connector for InMemory {
///     type Conn = DuplexStream;
///     type Error = std::io::Error;
///
///     async fn connect(&self, _address: &str) -> Result<DuplexStream, std::io::Error> {
///         let (ours, _theirs) = tokio::io::duplex(64);
///         Ok(ours)
///     }
/// }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// An open connection.
    type Conn: Send + 'static;
    /// Why a dial failed.
    type Error: Error + Send + Sync + 'static;

    /// Opens one connection to `address`.
    ///
    /// Runs in a task of its own. The pool bounds it by the builder's `connect_timeout`.
    ///
    /// # Cancel safety
    ///
    /// The pool drops the future when the connect timeout is over, when the server is removed, when the pool
    /// closes and when the runtime goes. Whatever it opened by then must close in its drop.
    ///
    /// # Errors
    ///
    /// A failure takes the server down for its backoff, if [`blames_server`](Connector::blames_server) says so.
    ///
    /// # Panics
    ///
    /// A panic counts as a failure of the server. It ends the dial and nothing else.
    fn connect(&self, address: &str) -> impl Future<Output = Result<Self::Conn, Self::Error>> + Send;

    /// Whether a connection that was idle for `idle` may be handed out again. If not, it is closed.
    ///
    /// Called before each hand-out of a connection that was used or idle before, on the thread of the caller
    /// that acquires: it must be cheap and must not block. A connection fresh from its dial that goes straight
    /// to a caller who waits is not asked about. `idle` is coarse: in steps of up to 100 ms while upkeep
    /// runs.
    ///
    /// # Panics
    ///
    /// A panic closes the connection and goes on to the caller of `acquire`.
    fn is_reusable(&self, conn: &mut Self::Conn, idle: Duration) -> bool {
        let _ = (conn, idle);
        true
    }

    /// Whether a failed dial is the server's fault.
    ///
    /// If it is the client's own (out of descriptors, ports or buffers), dials to the server pause for the backoff and
    /// the server stays up.
    fn blames_server(&self, error: &Self::Error) -> bool {
        let _ = error;
        true
    }

    /// The same connector as a type that can be named in a struct, at the price of one box for each dial.
    fn boxed(self) -> BoxConnector<Self::Conn>
    where
        Self: Sized,
    {
        BoxConnector::new(self)
    }
}
