//! The [`Connector`] trait, and the connectors that come with the crate.

mod boxed;
mod fault;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod faulty;
mod function;
pub(crate) mod look_up;
#[cfg(any(test, feature = "test-util"))]
pub(crate) mod scripted;
mod socket;
mod stream;
mod tcp;
#[cfg(unix)]
mod unix;

use std::error::Error;
use std::future::{Future, Ready, poll_fn};
use std::task::Poll;

use crate::close_reason::CloseReason;
use crate::conn_info::ConnInfo;
use crate::server::Server;

pub use self::boxed::{BoxConnector, BoxError};
pub use self::fault::ConnectFault;
pub use self::function::{FnConnector, connect_fn};
pub use self::stream::is_idle;
pub use self::tcp::TcpConnector;
#[cfg(unix)]
pub use self::unix::UnixConnector;

/// The way to connect to one server.
///
/// The pool knows nothing of the protocol: a connection is the value that [`connect`](Connector::connect) returns. The
/// steps that open a connection (a TLS handshake, a login, reading a greeting) belong in `connect`, so that their
/// failure counts against the server, and their time against the connect timeout.
///
/// # Examples
///
/// ```
/// use std::io;
///
/// use connring::{ConnInfo, Connector, Server, TcpConnector};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use tokio::net::TcpStream;
///
/// /// TCP, and a password before anything else.
/// struct Login {
///     tcp: TcpConnector,
///     password: String,
/// }
///
/// impl Connector for Login {
///     type Conn = TcpStream;
///     type Error = io::Error;
///
///     async fn connect(&self, server: &Server) -> io::Result<TcpStream> {
///         let mut conn = self.tcp.connect(server).await?;
///         conn.write_all(format!("AUTH {}\r\n", self.password).as_bytes()).await?;
///         let mut answer = [0; 5];
///         conn.read_exact(&mut answer).await?;
///         if &answer != b"+OK\r\n" {
///             return Err(io::ErrorKind::PermissionDenied.into());
///         }
///         Ok(conn)
///     }
///
///     // Without it, callers would get connections that the server has closed.
///     fn is_reusable(&self, conn: &mut TcpStream, info: &ConnInfo) -> bool {
///         self.tcp.is_reusable(conn, info)
///     }
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> io::Result<()> {
/// # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// # let address = listener.local_addr()?.to_string();
/// # tokio::spawn(async move {
/// #     for answer in [b"+OK\r\n", b"-ERR\n"] {
/// #         let mut conn = listener.accept().await.unwrap().0;
/// #         conn.read_exact(&mut [0; 9]).await.unwrap();
/// #         conn.write_all(answer).await.unwrap();
/// #     }
/// # });
/// # let login = Login { tcp: TcpConnector::new(), password: "pw".to_owned() };
/// # let server = Server::new(address);
/// # login.connect(&server).await?;
/// # assert_eq!(login.connect(&server).await.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
/// # Ok(())
/// # }
/// ```
pub trait Connector: Send + Sync + 'static {
    /// An open connection.
    type Conn: Send + 'static;
    /// Why an attempt failed.
    ///
    /// A `Box<dyn Error + Send + Sync>` and an `anyhow::Error` do not implement [`Error`]: wrap them by
    /// [`io::Error::other`](std::io::Error::other).
    type Error: Error + Send + Sync + 'static;

    /// Opens one connection to `server`.
    ///
    /// Runs in a task of its own. The pool bounds it by the builder's `connect_timeout`.
    ///
    /// # Cancel safety
    ///
    /// The pool drops the future when the connect timeout is over, when the server is removed, reset, drained or gets
    /// another address or tag, when the pool is closed and when the runtime is shut down. Its drop must close the
    /// sockets that it opened.
    ///
    /// # Errors
    ///
    /// A failure pauses connecting to the server for its backoff. It also takes the server down, unless
    /// [`classify`](Connector::classify) says that it is the client's own fault, or open connections of the server
    /// answer.
    ///
    /// # Panics
    ///
    /// A panic counts as a failure of the server. It ends the attempt and nothing else.
    fn connect(&self, server: &Server) -> impl Future<Output = Result<Self::Conn, Self::Error>> + Send;

    /// Whether an idle connection may be checked out again. If not, it is closed. Default: always.
    ///
    /// A connector that wraps another one passes this on to it.
    ///
    /// [`is_idle`] answers it for a stream with a layer above the socket, such as TLS.
    ///
    /// Called at each checkout of an idle connection, on the thread of the caller that acquires, so it must be cheap
    /// and must not block. The pool also asks about idle connections in its sweeps, every second, and after a failed
    /// connect to their server. It does not ask about a new connection that goes straight to a waiter. The times in
    /// `info` are coarse: in steps of up to 100 ms while maintenance is on.
    ///
    /// # Panics
    ///
    /// A panic closes the connection. At a checkout it goes on to the caller of `acquire`; elsewhere it ends a task of
    /// the pool. The background task goes on 100 ms later.
    fn is_reusable(&self, conn: &mut Self::Conn, info: &ConnInfo) -> bool {
        let _ = (conn, info);
        true
    }

    /// Whose fault a failed attempt is. Default: [`ConnectFault::of`] the error.
    ///
    /// The default finds an [`io::Error`](std::io::Error) of the client's own (out of descriptors, ports, buffers or
    /// memory) among the sources of the error. So a connector whose error has the [`io::Error`](std::io::Error) as a
    /// source needs no code here.
    ///
    /// Either way connecting to the server pauses for the backoff. A fault of the server takes it down, unless its open
    /// connections answer; after one of the client it stays up.
    ///
    /// A connector around another one, with the same errors, passes this on to it.
    ///
    /// # Panics
    ///
    /// A panic counts as a failure of the server. It ends the attempt and nothing else.
    fn classify(&self, error: &Self::Error) -> ConnectFault {
        ConnectFault::of(error)
    }

    /// Shows by a round trip whether a connection works: a ping. Default: ready, without an error.
    ///
    /// A process that is stopped still accepts connects, so only an answer shows that the server lives. It runs as part
    /// of each probe, and on idle connections every [`idle_check_interval`](crate::Builder::idle_check_interval), if
    /// that is set. The pool bounds it by the builder's `connect_timeout`.
    ///
    /// A connector around another one passes this on to it.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any of its await points. The connection is closed then: the rest of an answer may
    /// be on its way.
    ///
    /// # Errors
    ///
    /// An error says that the connection is of no use. It is closed, and so are those of its server that have been idle
    /// for as long. A timeout closes it and counts as a reported failure of the server. In a probe either is a failed
    /// connect.
    ///
    /// # Panics
    ///
    /// A panic closes the connection and ends nothing else. In a probe it is a failed connect.
    fn check(&self, conn: &mut Self::Conn) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = conn;
        // Without a size, so that a box of it allocates nothing.
        poll_fn(|_| Poll::Ready(Ok(())))
    }

    /// What happens to a connection after a use. Default: [`AfterUse::of`]. One that was released goes back for reuse,
    /// one that was dropped closes.
    ///
    /// A connector that knows where its answers end may keep connections that were dropped: a framed client with its
    /// own bookkeeping can say whether half an answer is left in it. A raw socket cannot.
    ///
    /// Called on the thread of the caller that releases or drops, so it must be cheap and must not block. It is not
    /// asked about a connection that is dropped by a panic: such a connection closes.
    ///
    /// A connector around another one passes this on to it.
    ///
    /// # Panics
    ///
    /// A panic closes the connection and goes on to the caller.
    fn after_use(&self, conn: &mut Self::Conn, ended: Ended) -> AfterUse {
        let _ = conn;
        AfterUse::of(ended)
    }

    /// Makes a used connection fit for the next caller: `ROLLBACK`, `DISCARD ALL`. Asked for by
    /// [`AfterUse::Recycle`]. Default: ready, without an error.
    ///
    /// Runs in a task of its own on the pool's runtime. The pool bounds it by the builder's `connect_timeout`. Callers
    /// wait for the connection meanwhile as they wait for a connect attempt. Without a runtime the connection closes.
    ///
    /// A connector around another one passes this on to it.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any of its await points. The connection is closed then.
    ///
    /// # Errors
    ///
    /// The connection is closed, and the server counts one reported failure. So does a timeout.
    ///
    /// # Panics
    ///
    /// A panic closes the connection and ends nothing else.
    fn recycle(&self, conn: &mut Self::Conn) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = conn;
        // Without a size, so that a box of it allocates nothing.
        poll_fn(|_| Poll::Ready(Ok(())))
    }

    /// Says goodbye on a connection that the pool closes (`QUIT`, `close_notify`). Default: `None`, the connection is
    /// dropped.
    ///
    /// The future runs in a task on the pool's runtime, for at most the builder's `goodbye_timeout`. The connection
    /// counts as open until it ends. Without a runtime it is dropped.
    ///
    /// Asked only where the connection works as far as the pool knows: its server is not down, and it was closed for
    /// its age, for being one too many, by a reset or a drain, or because server or pool were taken away. All others
    /// are dropped.
    ///
    /// Called on the thread that closes the connection, so it must be cheap and must not block. A connector around
    /// another one passes this on to it.
    ///
    /// # Panics
    ///
    /// A panic closes the connection. In this call it goes on to the caller that closes; in the future it ends the
    /// task.
    fn close(&self, conn: Self::Conn, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        let _ = (conn, why);
        None::<Ready<()>>
    }

    /// The same connector as a type that can be named in a struct, at the price of one box for each call that
    /// returns a future, and for each error.
    fn boxed(self) -> BoxConnector<Self::Conn>
    where
        Self: Sized,
    {
        BoxConnector::new(self)
    }
}

/// How a use of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Its caller released it.
    Released,
    /// Its caller dropped it: a request was cut short, by `?`, by a timeout or by a dropped future.
    Dropped,
}

/// What happens to a connection after a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AfterUse {
    /// It goes back for reuse.
    Reuse,
    /// It goes back after [`Connector::recycle`].
    Recycle,
    /// It closes.
    Close,
}

impl AfterUse {
    /// The default of [`Connector::after_use`]: one that was released goes back for reuse,
    /// one that was dropped closes.
    // In line, since the release asks it.
    #[inline]
    pub fn of(ended: Ended) -> Self {
        match ended {
            Ended::Released => Self::Reuse,
            Ended::Dropped => Self::Close,
        }
    }
}
