//! One async connection pool over many servers, for any protocol. Taking an idle connection and returning it take no
//! lock.
//!
//! You ask the [`Pool`] for a connection. It returns an open connection to a healthy server, in round-robin order or by
//! another [policy](LoadBalancing), within each server's limits on connections and rate, and avoids a failed server
//! until its backoff expires.
//!
//! # Example
//!
//! Three servers, of which one refuses. A closure connects to them here; for real servers use [`TcpConnector`],
//! [`UnixConnector`] or your own [`Connector`].
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
//! | item | purpose |
//! |---|---|
//! | [`Pool`] | the handle that you clone: acquire, servers, status, close |
//! | [`WeakPool`] | a handle that does not keep the pool open |
//! | [`Builder`] | every knob, with its default and its range in one table |
//! | [`PoolConfig`] | the same from a file or from flags |
//! | [`PooledConn`] | a connection that was checked out: release, discard, broken, fail, report, detach |
//! | [`AcquireOptions`] | wishes of one acquire: a timeout, servers to avoid or prefer, a new connection |
//! | [`ConnInfo`] | its server, age, idle time and use count |
//! | [`Server`] | an address, and the settings in which it differs from the pool's |
//! | [`Connector`] | connects to servers, and checks idle connections |
//! | [`ConnectFault`] | whose fault a failed connect is |
//! | [`Ended`], [`AfterUse`], [`CloseReason`] | how a use ended, what follows, and why a connection was closed |
//! | [`TcpConnector`], [`UnixConnector`], [`connect_fn`], [`BoxConnector`] | connectors that come with the crate |
//! | [`BoxPool`], [`BoxConn`] | a pool and its connections as types to name in a struct |
//! | [`is_idle`] | whether a stream with a layer above the socket, such as TLS, may be used again |
//! | [`AcquireError`], [`TryAcquireError`] | why no server could serve, and when one may |
//! | [`LoadBalancing`] | how servers are chosen: in turn, by weight, or by connections in use |
//! | [`PoolStatus`], [`Totals`] | a snapshot, which prints as a table, with counts |
//! | [`Follow`], [`DrainReport`], [`WarmUpReport`], [`CloseTimeout`] | what the longer calls return |
//! | [`Observer`], [`StateChange`], [`WaitOutcome`] | hears what happens, with durations |
//! | [`metrics`] | the names, kinds and units of all metrics, and their values |
//! | [`Ejection`] | when reported failures take a server out of use |
//! | [`operators`] | what the pool does when servers or clients fail, and in what time |
//! | [`guide`] | all calls, limits, cancel safety, writing a connector, coming from other pools, how it works inside |
//! | [`Clock`] | the time: the system's, tokio's, or one that a test advances |
//!
//! # How an acquire works
//!
//! 1. **Look for an idle connection.** Starting at the next server in turn, the pool looks at each server that is up
//!    and whose tier is in use, for an idle connection and, if its rate is limited, for a token. The [`Connector`] says
//!    whether the connection is reusable. This takes no lock and allocates nothing. The last resort is an idle
//!    connection of a server that is down: one that has answered since the server went down, or any if no server is up.
//! 2. **Connect.** The pool connects to a server without an idle connection in the background, and probes a server
//!    whose backoff is over with exactly one attempt. An attempt is a task of its own: it blocks no caller, and its
//!    connection goes to the front waiter.
//! 3. **Wait.** A caller that finds no idle connection joins the FIFO wait queue. A release, an attempt or a token
//!    serves its front. If an attempt takes longer than [`hedge_delay`](Builder::hedge_delay), another server is tried
//!    as well.
//!
//! [`Pool::try_acquire`] ends after the first step, [`Pool::acquire_now`] when no connect attempt runs or can start
//! that might serve it, and [`Pool::acquire`] after [`wait_timeout`](Builder::wait_timeout) at the latest. You may drop
//! each of them at any await point.
//!
//! # Errors of a request, and retries
//!
//! A server may close a connection while it is idle. So if a request ends with an I/O error, call
//! [`broken`](PooledConn::broken) and take another connection: it also closes those of the server that have been idle
//! at least as long. A server has failed if it does not answer in time, or if a [new](ConnInfo::is_new) connection
//! breaks before its first answer: report it with [`fail`](PooledConn::fail). After five failures in a row within 10 s
//! the pool ejects the server for a time, unless too few others serve (see [`Ejection`]).
//!
//! ```
//! use std::io;
//! use std::time::Duration;
//!
//! use connring::{Pool, PooledConn, TcpConnector};
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
//!             Ok(Err(error)) if PooledConn::info(&conn).is_new() => {
//!                 conn.fail(&error);
//!                 error
//!             }
//!             Ok(Err(error)) => {
//!                 conn.broken(&error);
//!                 error
//!             }
//!             Err(elapsed) => {
//!                 conn.fail(&elapsed);
//!                 elapsed.into()
//!             }
//!         };
//!         // A PING is safe to send twice. Only you know whether your request is.
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
//! - It retries no request. A server may close a connection at the moment of its checkout, so the first request on it
//!   may fail: retry requests that are safe to send twice.
//! - It reuses no connection that was not [released](PooledConn::release), unless the connector's
//!   [`after_use`](Connector::after_use) says so: one that was dropped in the middle of an answer would give the rest
//!   of it to its next user.
//! - It discovers no servers, but [follows](Pool::follow) a stream of them; and its limits hold for one process.
//! - It runs on tokio alone.
//!
//! # Events
//!
//! Each event has the field `pool`, the pool's [name](Builder::name). Each change of a server's state is one `tracing`
//! event with the fields `server` and `state`, the name of a [`StateKind`]:
//!
//! | `state` | level | further fields | meaning |
//! |---|---|---|---|
//! | `registered` | `INFO` | | the server was added |
//! | `down` | `WARN` | `cause`, `retry_after` | connecting failed by its fault, and callers avoid it |
//! | `ejected` | `WARN` | `cause`, `retry_after` | callers reported failures, and it is avoided for a time |
//! | `probing` | `INFO` | | one attempt tries it; if it fails, a failed connect follows, and no event with a `state` |
//! | `recovering` | `INFO` | | the probe succeeded, and its connection serves alone |
//! | `up` | `INFO` | | it serves: a connection came back well, nothing failed for a while, or its open ones answer |
//! | `disabled` | `INFO` | `ends_in` | [`disable`](Pool::disable) or [`drain`](Pool::drain) took it out of rotation |
//! | `enabled` | `INFO` | | it is no longer disabled, and its health decides |
//! | `draining` | `INFO` | | it was removed |
//! | `gone` | `INFO` | | its last connection was closed |
//!
//! These events have no `state`:
//!
//! - a failed connect, after which connecting pauses: `WARN`, with `cause`, `failures` and `retry_after`
//! - a reported failure that did not take its server out of use: `DEBUG`, with `cause` and `failures`; without
//!   `failures` if the server went down since the connection was opened or last released
//! - an ejection that is not enforced or would leave too few servers: `WARN`, with `cause`, `failures` and `enforce`
//! - a connection that its caller called broken, or an idle one that fails its check: `DEBUG`, with `cause`
//! - once for each pool, that 100 connections were closed by drop and none was returned: `WARN`
//! - a followed set of servers that is refused: `WARN`, with `cause`
//! - a connection that was opened or closed: `DEBUG`, with `connection`, which is `open` or `closed`; if closed, also
//!   with `why`, the name of the [`CloseReason`], and `uses`
//!
//! An acquire or a release of an idle connection that changes no state has no event. An [`Observer`] hears the changes
//! of state and of connections with their durations, as values instead of text.
//!
//! # Features
//!
//! | feature | default | cost |
//! |---|---|---|
//! | `serde` | off | `serde` without its macros, and `humantime`; reads and writes [`PoolConfig`] and [`Server`] |
//! | `clap` | off | `clap` without its default features, and `humantime`; makes [`PoolConfig`] a set of flags |
//! | `test-util` | off | no dependency; compiles `connring::test_util` and `Builder::seed` |

// Without Unix sockets, the links to `UnixConnector` are text.
#![cfg_attr(not(unix), allow(rustdoc::broken_intra_doc_links))]

mod acquire_options;
mod aliases;
mod builder;
mod clock;
mod close_reason;
mod config;
mod conn;
mod conn_info;
mod connector;
mod core;
mod ejection;
mod error;
mod follow;
pub mod guide;
#[cfg(feature = "serde")]
mod keyed;
mod load_balancing;
pub mod metrics;
mod observer;
pub mod operators;
mod pool;
mod range;
mod raw;
mod reports;
mod server;
mod servers;
mod settings;
mod status;
mod sync;

pub use crate::acquire_options::AcquireOptions;
pub use crate::aliases::{BoxConn, BoxPool};
pub use crate::builder::Builder;
pub use crate::clock::Clock;
pub use crate::close_reason::CloseReason;
pub use crate::config::PoolConfig;
#[cfg(feature = "clap")]
pub use crate::config::{FlagPrefix, PrefixedConfig};
pub use crate::conn::PooledConn;
pub use crate::conn_info::ConnInfo;
#[cfg(unix)]
pub use crate::connector::UnixConnector;
pub use crate::connector::{
    AfterUse, BoxConnector, BoxError, ConnectFault, Connector, Ended, FnConnector, TcpConnector, connect_fn, is_idle,
};
pub use crate::ejection::Ejection;
pub use crate::error::{
    AcquireError, BuildError, Counts, Failure, Reason, ServerError, ServerReport, TryAcquireError, Unavailable,
};
pub use crate::follow::{Follow, FollowError};
pub use crate::load_balancing::LoadBalancing;
pub use crate::observer::{Observer, StateChange, WaitOutcome};
pub use crate::pool::{Pool, WeakPool};
pub use crate::reports::{CloseTimeout, DrainReport, WarmUpReport, WarmUpServer};
pub use crate::server::{Server, TLS_SERVER_NAME};
pub use crate::status::{PoolStatus, ServerState, ServerStatus, StateKind, Totals};

#[cfg(feature = "test-util")]
pub mod test_util {
    //! A scripted connector, one that adds faults to your own, [`conn_info`] and [`set_shard`], for tests of code that
    //! uses a pool. Feature `test-util`.
    //!
    //! On tokio's paused time (`start_paused = true`, of tokio's feature `test-util`) a test does not wait in real
    //! time. Give the pool and its connector the same [`Clock`](crate::Clock): a pool with the default clock waits in
    //! real time, and keeps a processor busy meanwhile.
    //!
    //! The connections of a [`ScriptedConnector`] carry no bytes. For code that reads and writes, make it generic over
    //! `C: Connector<Conn: AsyncRead + AsyncWrite + Unpin>` and let a [`connect_fn`](crate::connect_fn) return one end
    //! of a `tokio::io::duplex`, or take your own connector: a [`FaultyConnector`] around it refuses, hangs and is slow
    //! as your test says.
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
    pub use crate::connector::faulty::FaultyConnector;
    pub use crate::connector::scripted::*;
    pub use crate::servers::set_shard;
}

/// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
