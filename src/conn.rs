//! A connection that a caller has checked out, and the future of an acquire.

use std::fmt;
use std::future::Future;
use std::io::{IoSlice, Result};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop::poll_proceed;

use crate::conn_info::ConnInfo;
use crate::connector::Connector;
use crate::core::{self, Acquired, Shared};
use crate::error::AcquireError;
use crate::server::Connection;
use crate::sync::Arc;

/// A connection that was checked out of a [`Pool`](crate::Pool). It dereferences to the connector's connection.
///
/// Only [`release`](PooledConn::release) makes the connection reusable. **Dropping it closes it**: a request cut short
/// by `?`, by a timeout or by a dropped future leaves a connection with half an answer in it, which its next user would
/// read as its own. A connector that knows better may keep it:
/// [`Connector::after_use`].
///
/// It needs neither the pool nor a runtime: the pool may be closed and dropped while connections are in use.
///
/// `AsyncRead` and `AsyncWrite` pass through where the connection has them.
///
/// # Panics
///
/// A panic of the connection's own drop goes on to the caller that closes it. The pool counts it as closed all the
/// same.
///
/// # Examples
///
/// ```
/// # use std::io;
/// # use connring::{Pool, Server, connect_fn};
/// # use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
/// use connring::BoxConn;
///
/// /// Asks for one line. If it ends early, the connection is closed.
/// async fn ask(mut conn: BoxConn<DuplexStream>, request: &[u8]) -> io::Result<Vec<u8>> {
///     conn.write_all(request).await?;
///     let mut answer = Vec::new();
///     while answer.last() != Some(&b'\n') {
///         answer.push(conn.read_u8().await?);
///     }
///     if answer == b"-LOADING\n" {
///         // It answers, but cannot serve. After a few of these the pool uses other servers for a while.
///         conn.fail("the server is loading");
///     } else {
///         conn.release();
///     }
///     Ok(answer)
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use connring::{Connector, Ejection, ServerState};
/// # let connector = connect_fn(|_: Server| async {
/// #     let (near, mut far) = tokio::io::duplex(64);
/// #     far.write_all(b"+PONG\n-LOADING\n").await?;
/// #     tokio::spawn(async move { far.read_to_end(&mut Vec::new()).await });
/// #     io::Result::Ok(near)
/// # });
/// # let ejection = Ejection::new().consecutive_failures(1);
/// # let pool = Pool::builder(connector.boxed()).servers(["a", "b"]).ejection(ejection).build()?;
/// # assert_eq!(ask(pool.acquire().await?, b"PING\n").await?, b"+PONG\n");
/// # assert!(pool.status().servers.iter().all(|server| server.state == ServerState::Up));
/// # assert_eq!(ask(pool.try_acquire()?, b"PING\n").await?, b"-LOADING\n");
/// # assert!(pool.status().servers.iter().any(|server| matches!(server.state, ServerState::Ejected { .. })));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a connection closes it"]
pub struct PooledConn<C: Connector> {
    /// `None` once it has left this handle.
    conn: Option<Box<Connection<C>>>,
}

/// A checkout ends with a verdict on the server, success or failure, or with none. The first verdict stands. A drop is
/// late after the builder's `abandoned_after` in use, if no connection of the server came back well meanwhile. Where
/// [`after_use`](Connector::after_use) asks to recycle, the recycling decides.
///
/// | verdict | by |
/// |---|---|
/// | success | [`release`](Self::release), [`report_success`](Self::report_success) |
/// | success | a drop that [`after_use`](Connector::after_use) answers with `Reuse` |
/// | failure | [`fail`](Self::fail), [`fail_for`](Self::fail_for) |
/// | failure | [`report_failure`](Self::report_failure), [`report_failure_for`](Self::report_failure_for) |
/// | failure | a late drop |
/// | none | [`discard`](Self::discard), [`broken`](Self::broken), [`detach`](Self::detach), an early drop |
impl<C: Connector> PooledConn<C> {
    /// Returns what the pool knows of the connection: its server, age, idle time and use count.
    ///
    /// An associated function, so that it hides no method of the connection: `PooledConn::info(&conn)`.
    pub fn info(this: &Self) -> ConnInfo {
        this.connection().info().clone()
    }

    /// Returns the connection to the pool for reuse.
    ///
    /// Call it only when the last answer was read to its end. Unless the connector's
    /// [`after_use`](crate::Connector::after_use) decides otherwise, the connection goes to its server's idle queue,
    /// from where the front waiter is served. It is closed instead if the queue is full, if its lifetime is over, if
    /// the pool was closed, if the server was removed or reset, if its address or a tag changed, or if its `max_conns`
    /// was lowered below what is open; and if the caller gave a verdict before and the server has been down since.
    ///
    /// # Panics
    ///
    /// If the connector's `after_use` panics, which closes the connection, or its `close`.
    pub fn release(mut self) {
        if let Some(conn) = self.conn.take() {
            core::release(conn);
        }
    }

    /// Closes the connection. It does not count against the server.
    pub fn discard(mut self) {
        if let Some(conn) = self.conn.take() {
            core::discard(conn);
        }
    }

    /// Says that the server answered well, while the connection stays in hand: for connections that are not released
    /// afterwards. It ends a recovery and clears reported failures, unless this checkout has a verdict already, or the
    /// server has got another address or tag since.
    pub fn report_success(&mut self) {
        core::report_success(self.connection_mut());
    }

    /// Counts a failure against the server, while the connection stays in hand, unless this checkout has a verdict
    /// already. See [`fail`](Self::fail). A release afterwards counts as no success.
    pub fn report_failure(&mut self, reason: impl fmt::Display) {
        core::report_failure(self.connection_mut(), reason.to_string(), None);
    }

    /// Counts a failure against the server and ejects it at once and for `time`, while the connection stays in hand.
    /// See [`fail_for`](Self::fail_for).
    ///
    /// For an answer that has more to it: its head says when to come back (`Retry-After`), and the rest of it is read
    /// later, if at all.
    ///
    /// # Examples
    ///
    /// ```
    /// # use connring::{Pool, Server, ServerState, connect_fn};
    /// # use std::time::Duration;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// # let pool = Pool::builder(connector).servers(["a", "b"]).build()?;
    /// let mut conn = pool.acquire().await?;
    /// // "503 Service Unavailable", "Retry-After: 7", and a page.
    /// conn.report_failure_for("503 Service Unavailable", Duration::from_secs(7));
    /// // After the page was read.
    /// conn.release();
    /// assert!(pool.status().servers.iter().any(|server| matches!(server.state, ServerState::Ejected { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn report_failure_for(&mut self, reason: impl fmt::Display, time: Duration) {
        core::report_failure(self.connection_mut(), reason.to_string(), Some(time));
    }

    /// Closes the connection and counts a failure against its server, which is ejected after enough of them: see
    /// [`Ejection`](crate::Ejection).
    ///
    /// For a failure of the server: it does not answer in time, or says that it cannot serve. A broken connection is
    /// not always one: the server may have closed it while it was idle. Call [`broken`](Self::broken) then.
    ///
    /// If the server went down since the connection was opened or last released, the failure counts in
    /// [`Totals::failures`](crate::Totals::failures) only: it says nothing about the server as it is now. The text of
    /// `reason` becomes the cause in errors and events.
    pub fn fail(mut self, reason: impl fmt::Display) {
        self.report_failure(reason);
        self.close_failed();
    }

    /// The same as [`fail`](Self::fail), but ejects the server at once and for `time`: for a server that says when to
    /// come back (`Retry-After`). Of [`Ejection`](crate::Ejection), the bound `max_ejected_ratio` and `enforce` hold;
    /// `max` does not. It counts as one more ejection in a row.
    ///
    /// `time`: any. If a server says it, bound it: until it is over, or no other server serves, the server gets no
    /// caller.
    pub fn fail_for(mut self, reason: impl fmt::Display, time: Duration) {
        self.report_failure_for(reason, time);
        self.close_failed();
    }

    fn close_failed(mut self) {
        if let Some(conn) = self.conn.take() {
            core::fail(conn);
        }
    }

    /// Closes the connection, which turned out to be dead, together with the server's connections that have been idle
    /// for at least as long as it was: they died with it. It does not count against the server.
    ///
    /// For a reused connection whose first write or read fails: the server may have restarted meanwhile. Without it
    /// each idle connection costs another request. A [new](crate::ConnInfo::is_new) connection tells nothing about the
    /// others: it alone is closed. `reason` is for the event.
    pub fn broken(mut self, reason: impl fmt::Display) {
        if let Some(conn) = self.conn.take() {
            core::broken(conn, &reason);
        }
    }

    /// Takes the connection out of the pool and its counts: another may be opened in its place, and closing the pool
    /// does not wait for it. So the server may have more connections than its `max_conns`, of which the pool counts one
    /// less.
    pub fn detach(mut self) -> C::Conn {
        let Some(conn) = self.conn.take() else { unreachable!("{GONE}") };
        core::detach(conn)
    }

    #[inline(always)]
    fn connection(&self) -> &Connection<C> {
        let Some(conn) = &self.conn else { unreachable!("{GONE}") };
        conn
    }

    #[inline(always)]
    fn connection_mut(&mut self) -> &mut Connection<C> {
        let Some(conn) = &mut self.conn else { unreachable!("{GONE}") };
        conn
    }
}

/// The methods that take it out also consume the handle.
const GONE: &str = "the connection has left its handle";

impl<C: Connector> Drop for PooledConn<C> {
    #[inline]
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            core::dropped(conn);
        }
    }
}

impl<C: Connector> From<Box<Connection<C>>> for PooledConn<C> {
    #[inline(always)]
    fn from(conn: Box<Connection<C>>) -> Self {
        Self { conn: Some(conn) }
    }
}

pin_project! {
    /// The future of an acquire.
    ///
    /// Looks for an idle connection at its first poll, or at the next one if the task's cooperative budget is spent. If
    /// there is none, polls the future of `wait`, which differs between the acquires. Does nothing before it is polled.
    ///
    /// Written by hand: compilers do not inline the `poll` of an `async fn`, which costs a tenth of the instructions of
    /// an acquire and a release.
    #[project = State]
    pub(crate) enum Acquire<'a, C: Connector, F, W> {
        Look { shared: &'a Arc<Shared<C>>, wait: F },
        Wait { #[pin] waiting: W },
    }
}

impl<'a, C, F, W> Future for Acquire<'a, C, F, W>
where
    C: Connector,
    F: Fn(&'a Arc<Shared<C>>) -> W,
    W: Future<Output = Acquired<C>>,
{
    type Output = std::result::Result<PooledConn<C>, AcquireError<C::Error>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                State::Look { shared, wait } => {
                    // A task that always finds a connection lets others run now and then.
                    ready!(poll_proceed(cx)).made_progress();
                    if let Some(conn) = core::take_idle::<C, true>(shared) {
                        return Poll::Ready(Ok(PooledConn::from(conn)));
                    }
                    let waiting = wait(shared);
                    self.set(Self::Wait { waiting });
                }
                State::Wait { waiting } => return poll_out_of_line(waiting, cx).map_ok(PooledConn::from),
            }
        }
    }
}

/// Out of line, so that callers inline only the look.
#[cold]
#[inline(never)]
fn poll_out_of_line<W: Future>(waiting: Pin<&mut W>, cx: &mut Context<'_>) -> Poll<W::Output> {
    waiting.poll(cx)
}

impl<C: Connector> Deref for PooledConn<C> {
    type Target = C::Conn;

    fn deref(&self) -> &C::Conn {
        &self.connection().conn
    }
}

impl<C: Connector> DerefMut for PooledConn<C> {
    fn deref_mut(&mut self) -> &mut C::Conn {
        &mut self.connection_mut().conn
    }
}

impl<C: Connector> fmt::Debug for PooledConn<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledConn").field("info", self.connection().info()).finish_non_exhaustive()
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
