//! A connection in the hands of a caller.

use std::error::Error;
use std::fmt;
use std::io::{IoSlice, Result};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connect::Connector;
use crate::server::{Entry, Ring};

/// A connection that was acquired from a [`Pool`](crate::Pool). It dereferences to the connector's connection.
///
/// Only [`release`](PooledConn::release) makes the connection reusable. **Dropping it closes it**: a request cut short
/// by `?`, by a timeout or by a dropped future leaves a connection with half an answer in it, which its next user would
/// read as its own.
///
/// It needs neither the pool nor a runtime: a pool may be closed and dropped while connections are out.
///
/// `AsyncRead` and `AsyncWrite` pass through where the connection has them.
///
/// # Panics
///
/// A panic of the connection's own drop goes on to whoever closes it; the pool counts it as closed all the same.
///
/// # Examples
///
/// ```
/// # use std::io;
/// # use std::sync::Arc;
/// # use connring::{Pool, connect_fn};
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
/// type Conn = connring::PooledConn<connring::BoxConnector<DuplexStream>>;
///
/// /// Asks for one line. Whenever it ends early, the connection is closed.
/// async fn ask(mut conn: Conn, request: &[u8]) -> io::Result<Vec<u8>> {
///     conn.write_all(request).await?;
///     let mut answer = Vec::new();
///     while answer.last() != Some(&b'\n') {
///         answer.push(conn.read_u8().await?);
///     }
///     if answer == b"-LOADING\n" {
///         // It answers, but cannot serve: let the others do so for a while.
///         conn.fail("the server is loading");
///     } else {
///         conn.release();
///     }
///     Ok(answer)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use connring::{Connector, ServerState};
/// # let connector = connect_fn(|_: Arc<str>| async {
/// #     let (near, mut far) = tokio::io::duplex(64);
/// #     far.write_all(b"+PONG\n-LOADING\n").await?;
/// #     tokio::spawn(async move { far.read_to_end(&mut Vec::new()).await });
/// #     io::Result::Ok(near)
/// # });
/// # let pool = Pool::builder(connector.boxed()).server("a").build()?;
/// # assert_eq!(ask(pool.acquire().await?, b"PING\n").await?, b"+PONG\n");
/// # assert_eq!((pool.status().servers[0].idle, pool.status().servers[0].state), (1, ServerState::Up));
/// # assert_eq!(ask(pool.try_acquire()?, b"PING\n").await?, b"-LOADING\n");
/// # assert!(matches!(pool.status().servers[0].state, ServerState::Down { .. }));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a connection closes it"]
pub struct PooledConn<C: Connector> {
    entry: Box<Entry<C>>,
}

impl<C: Connector> PooledConn<C> {
    pub(crate) fn new(entry: Box<Entry<C>>) -> Self {
        Self { entry }
    }

    /// The address of the server that it goes to, as it was registered.
    pub fn server(&self) -> &str {
        &self.entry.server().address
    }

    /// Gives the connection back for reuse.
    ///
    /// Call it only when the last answer was read to its end. The connection goes to the caller in front of the line,
    /// else to the end of its server's idle queue. It is closed instead if that is full, if the server was removed, or
    /// if its `max_conns` was lowered below what is open.
    pub fn release(self) {
        Ring::release(self.entry);
    }

    /// Closes the connection. The same as dropping it.
    pub fn close(self) {
        drop(self);
    }

    /// Closes the connection and counts one failure against its server, which goes down when the builder's
    /// `fail_threshold` is reached.
    ///
    /// For what speaks against the server: it does not answer in time, or says that it cannot serve. That a connection
    /// broke need not be one: the server may have closed it while it was idle. Then [`close`](PooledConn::close) it.
    ///
    /// Nothing is counted if the server went down since the connection was dialled: what broke then says nothing
    /// of the server as it is now. `reason` becomes the cause in errors and events.
    pub fn fail(self, reason: impl Into<Box<dyn Error + Send + Sync>>) {
        self.entry.server().reported(self.entry.generation, reason.into());
    }

    /// Takes the connection out of the pool and of its counts: another may be dialled in its place, and closing the
    /// pool does not wait for it.
    pub fn detach(self) -> C::Conn {
        let Entry { conn, permit, .. } = *self.entry;
        drop(permit);
        conn
    }
}

impl<C: Connector> Deref for PooledConn<C> {
    type Target = C::Conn;

    fn deref(&self) -> &C::Conn {
        &self.entry.conn
    }
}

impl<C: Connector> DerefMut for PooledConn<C> {
    fn deref_mut(&mut self) -> &mut C::Conn {
        &mut self.entry.conn
    }
}

impl<C: Connector> fmt::Debug for PooledConn<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConn").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl<C: Connector> AsyncRead for PooledConn<C>
where
    C::Conn: AsyncRead + Unpin,
{
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut **self).poll_read(cx, buf)
    }
}

impl<C: Connector> AsyncWrite for PooledConn<C>
where
    C::Conn: AsyncWrite + Unpin,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut **self).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut **self).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut **self).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut **self).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        (**self).is_write_vectored()
    }
}
