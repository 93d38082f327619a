//! One lock-free async connection pool over many servers, for any protocol.
//!
//! A caller asks the [`Pool`] for a connection. The pool hands out an open one to a live server, in round-robin order,
//! within each server's limits on connections and on rate, and keeps away from a server that is broken until its
//! backoff is over.
//!
//! # Example
//!
//! Three servers, of which one refuses. Here a closure stands for the dial; for real ones there are [`TcpConnector`],
//! [`UnixConnector`] and your own [`Connector`].
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::io;
//!
//! use connring::{Pool, PooledConn, Server, ServerState, connect_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let connector = connect_fn(|server: Server| async move {
//!     if server.address() == "b" { return Err(io::Error::from(io::ErrorKind::ConnectionRefused)) }
//!     Ok(server)
//! });
//! let pool = Pool::builder(connector).servers(["a", "b", "c"]).build()?;
//!
//! let mut served = BTreeMap::new();
//! for _ in 0..100 {
//!     let conn = pool.acquire().await?;
//!     *served.entry(PooledConn::info(&conn).server().address().to_owned()).or_insert(0) += 1;
//!     tokio::task::yield_now().await; // here a request would be sent and its answer read
//!     conn.release(); // only this makes it reusable: a drop closes it
//! }
//!
//! assert_eq!(served.into_keys().collect::<Vec<_>>(), ["a", "c"]);
//! assert_ne!(pool.status().servers[1].state, ServerState::Up);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | item | what it is |
//! |---|---|
//! | [`Pool`] | the handle that users clone: acquire, servers, status, close |
//! | [`Builder`] | every knob, with its default and its range in one table |
//! | [`PooledConn`] | a connection in a caller's hands: release, close, fail, detach |
//! | [`Server`] | an address, and where its limits differ from the pool's |
//! | [`Connector`] | how one address is dialled, and whether an idle connection is still good |
//! | [`TcpConnector`], [`UnixConnector`], [`connect_fn`], [`BoxConnector`] | connectors that come with the crate |
//! | [`AcquireError`], [`TryAcquireError`] | why there is no connection, and when there may be one |
//! | [`PoolStatus`] | a snapshot |
//! | [`Clock`] | the time: the system's, tokio's, or one that a test moves |
//!
//! # How an acquire goes
//!
//! 1. **Pass.** Starting at the next server in turn, each server that is up is asked for an idle connection and, if its
//!    rate is limited, for a token. The [`Connector`] is asked whether the connection is still good. The pool takes no
//!    lock and allocates nothing. If no server is up, idle connections of those that are down are the last resort.
//! 2. **Dial.** A server that was found empty is dialled in the background; a server whose backoff is over is probed,
//!    by exactly one dial. A dial is a task of its own: no caller waits behind it, and whatever it brings serves
//!    whoever waits first.
//! 3. **Line.** Who found nothing joins the line and is served in the order of joining, by whatever comes first: a
//!    release, a dial, a token. If a dial takes longer than [`hedge_delay`](Builder::hedge_delay), the next server is
//!    dialled too.
//!
//! [`Pool::try_acquire`] ends after the pass, [`Pool::acquire_now`] after dials of its own, and [`Pool::acquire`] after
//! [`wait_timeout`](Builder::wait_timeout) at the latest. Any of them may be dropped at any await point.
//!
//! # A request, and when to send it again
//!
//! A connection that broke may have been closed by its server while it was idle: close it and take another. A server
//! that answers no more has failed: say so with [`fail`](PooledConn::fail), and it is left alone for its backoff.
//!
//! ```
//! use std::io;
//! use std::time::Duration;
//!
//! use connring::{Pool, TcpConnector};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::TcpStream;
//! use tokio::time::timeout;
//!
//! async fn ping(conn: &mut TcpStream) -> io::Result<[u8; 7]> {
//!     let mut answer = [0; 7];
//!     conn.write_all(b"PING\r\n").await?;
//!     conn.read_exact(&mut answer).await?;
//!     Ok(answer)
//! }
//!
//! async fn ask(pool: &Pool<TcpConnector>) -> io::Result<[u8; 7]> {
//!     let mut tries = 1;
//!     loop {
//!         let mut conn = pool.acquire().await.map_err(io::Error::other)?;
//!         let failure = match timeout(Duration::from_secs(1), ping(&mut conn)).await {
//!             Ok(Ok(answer)) => {
//!                 conn.release();
//!                 return Ok(answer);
//!             }
//!             Ok(Err(broken)) => {
//!                 conn.discard();
//!                 broken
//!             }
//!             Err(silent) => {
//!                 conn.fail(silent);
//!                 io::ErrorKind::TimedOut.into()
//!             }
//!         };
//!         // A PING may be sent twice; whether your request may, only you know.
//!         if tries == 3 {
//!             return Err(failure);
//!         }
//!         tries += 1;
//!     }
//! }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let address = listener.local_addr()?;
//! # let server = tokio::spawn(async move {
//! #     let mut request = [0; 6];
//! #     // The first connection is closed after the request, the second one answers.
//! #     listener.accept().await.unwrap().0.read_exact(&mut request).await.unwrap();
//! #     let mut second = listener.accept().await.unwrap().0;
//! #     second.read_exact(&mut request).await.unwrap();
//! #     second.write_all(b"+PONG\r\n").await.unwrap();
//! # });
//! # let pool = Pool::builder(TcpConnector::new()).max_conns_per_server(1).server(address).build()?;
//! # assert_eq!(&ask(&pool).await?, b"+PONG\r\n");
//! # server.await?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it does not do
//!
//! - It retries no request. A server may close a connection at the very moment at which it is handed out, so the first
//!   request on it may fail: retry what is safe to retry.
//! - It reuses no connection that was not [released](PooledConn::release): one that was dropped half-way through an
//!   answer would give the rest of it to its next user.
//! - It chooses servers in turn, without weights; it discovers none; and its limits hold for one process.
//! - It runs on tokio alone.
//!
//! # Events
//!
//! Each change of a server's state is one `tracing` event, with the fields `server` and `state`: `registered`, `down`
//! (with `cause`, `failures` and `retry_after`), `probing`, `trial`, `up`, `draining`, `gone`. Without `state`
//! are a failure that was reported and took no server down, and a pause of dials by the client's own fault. An acquire
//! or a release that changes nothing has no event.
//!
//! `down` and the pause are at level `WARN`, the failure that took no server down at `DEBUG`, all others at `INFO`.
//!
//! # Features
//!
//! | feature | default | cost |
//! |---|---|---|
//! | `test-util` | off | no dependency; compiles the scripted connector of `connring::test_util` |

mod acquire;
mod builder;
mod clock;
mod conn;
mod conn_info;
mod connector;
mod dial;
mod error;
mod idle_first;
mod pool;
mod raw;
mod reserve;
mod serve;
mod server;
mod settings;
mod status;
mod sync;
mod upkeep;
mod watch;

pub use crate::builder::Builder;
pub use crate::clock::Clock;
pub use crate::conn::PooledConn;
pub use crate::conn_info::ConnInfo;
#[cfg(unix)]
pub use crate::connector::UnixConnector;
pub use crate::connector::{BoxConnector, BoxError, Connector, FnConnector, TcpConnector, connect_fn};
pub use crate::error::{
    AcquireError, BuildError, CloseTimeout, Counts, Failure, Reason, ServerError, ServerReport, TryAcquireError,
    Unavailable,
};
pub use crate::pool::Pool;
pub use crate::server::Server;
pub use crate::status::{PoolStatus, ServerState, ServerStatus};

#[cfg(feature = "test-util")]
pub mod test_util {
    //! A scripted connector, for tests of code that uses a pool. Feature `test-util`.
    //!
    //! On tokio's paused time (`start_paused = true`, of tokio's feature `test-util`) no test waits for real. Give the
    //! pool and its connector the same [`Clock`](crate::Clock): a pool left on the default one waits in real time, and
    //! keeps a processor busy meanwhile.
    //!
    //! The connections carry no bytes. For code that reads and writes, let a [`connect_fn`](crate::connect_fn) return
    //! one end of a `tokio::io::duplex`.
    //!
    //! # Examples
    //!
    //! ```
    //! use std::time::Duration;
    //!
    //! use connring::test_util::{Connect, ScriptedConnector};
    //! use connring::{AcquireError, Clock, Pool, PooledConn};
    //!
    //! # #[tokio::main(flavor = "current_thread", start_paused = true)]
    //! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    //! let clock = Clock::tokio();
    //! let connector = ScriptedConnector::new(clock.clone());
    //! connector.on_connect("a:1", Connect::Refuse);
    //! let pool = Pool::builder(connector.clone()).clock(clock).servers(["a:1", "b:1"]).build()?;
    //!
    //! let conn = pool.acquire().await?;
    //! assert_eq!(PooledConn::info(&conn).server().address(), "b:1");
    //!
    //! connector.on_connect("b:1", Connect::Never);
    //! conn.fail("it does not answer");
    //! let error = pool.acquire_timeout(Duration::from_secs(3)).await.unwrap_err();
    //! let AcquireError::Timeout { waited, .. } = error else { panic!("it waited") };
    //! assert!(waited >= Duration::from_secs(3));
    //! # Ok(())
    //! # }
    //! ```

    pub use crate::conn_info::conn_info;
    pub use crate::connector::scripted::*;
    pub use crate::server::set_shard;
}

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
