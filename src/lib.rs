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
//! use std::sync::Arc;
//!
//! use connring::{Pool, ServerState, connect_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let connector = connect_fn(|address: Arc<str>| async move {
//!     if &*address == "b" { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) } else { Ok(address) }
//! });
//! let pool = Pool::builder(connector).servers(["a", "b", "c"]).build()?;
//!
//! let mut served = BTreeMap::new();
//! for _ in 0..100 {
//!     let conn = pool.acquire().await?;
//!     *served.entry(conn.server().to_owned()).or_insert(0) += 1;
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
//! | | |
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
//! # Features
//!
//! | feature | default | cost |
//! |---|---|---|
//! | `test-util` | off | no dependency; compiles the scripted connector of `connring::test_util` |

mod acquire;
mod builder;
mod clock;
mod conn;
mod connect;
mod dial;
mod error;
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
#[cfg(unix)]
pub use crate::connect::UnixConnector;
pub use crate::connect::{BoxConnector, BoxError, Connector, FnConnector, TcpConnector, connect_fn};
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

    pub use crate::connect::scripted::*;
}

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
