//! The setters of the hooks.

use std::error::Error;
use std::future::Future;

use super::{Boxed, FnConnector};
use crate::conn_info::ConnInfo;
use crate::connector::{AfterUse, CloseReason, ConnectFault, Ended};
use crate::sync::Arc;

impl<F, T, E> FnConnector<F, T, E>
where
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    /// Whether an idle connection may be checked out again:
    /// [`Connector::is_reusable`](crate::Connector::is_reusable). Default: always.
    ///
    /// # Examples
    ///
    /// The check of a [`TcpConnector`](crate::TcpConnector), which sees a socket that its server has closed.
    ///
    /// ```
    /// use connring::{Connector, Server, TcpConnector, connect_fn};
    ///
    /// let (tcp, same) = (TcpConnector::new(), TcpConnector::new());
    /// let connector = connect_fn(move |server: Server| {
    ///     let tcp = tcp.clone();
    ///     async move { tcp.connect(&server).await }
    /// })
    /// .is_reusable(move |conn, info| Connector::is_reusable(&same, conn, info));
    /// # drop(connector);
    /// ```
    #[must_use]
    pub fn is_reusable(mut self, is_reusable: impl Fn(&mut T, &ConnInfo) -> bool + Send + Sync + 'static) -> Self {
        self.is_reusable = Some(Arc::new(is_reusable));
        self
    }

    /// What happens to a connection after a use: [`Connector::after_use`](crate::Connector::after_use). Default:
    /// [`AfterUse::of`].
    ///
    /// # Examples
    ///
    /// ```
    /// use connring::{AfterUse, Connector, Ended, Server, connect_fn};
    ///
    /// /// A client that counts the answers that it has not read yet.
    /// struct Client {
    ///     unread: usize,
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), std::io::Error> {
    /// let connector = connect_fn(|_: Server| async { Ok::<_, std::io::Error>(Client { unread: 0 }) })
    ///     .after_use(|client, _ended| if client.unread == 0 { AfterUse::Reuse } else { AfterUse::Close });
    /// let mut client = connector.connect(&Server::new("10.0.0.1:6379")).await?;
    /// assert_eq!(Connector::after_use(&connector, &mut client, Ended::Dropped), AfterUse::Reuse);
    /// client.unread = 1;
    /// assert_eq!(Connector::after_use(&connector, &mut client, Ended::Dropped), AfterUse::Close);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn after_use(mut self, after_use: impl Fn(&mut T, Ended) -> AfterUse + Send + Sync + 'static) -> Self {
        self.after_use = Some(Arc::new(after_use));
        self
    }

    /// Whose fault a failed attempt is: [`Connector::classify`](crate::Connector::classify). Default:
    /// [`ConnectFault::of`] the error.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use connring::{ConnectFault, Connector, Server, connect_fn};
    ///
    /// let connector = connect_fn(|_: Server| async { Err::<(), _>(io::Error::other("our token expired")) })
    ///     .classify(|error| match error.kind() {
    ///         io::ErrorKind::Other => ConnectFault::Client,
    ///         _ => ConnectFault::of(error),
    ///     });
    /// let expired = io::Error::other("our token expired");
    /// assert_eq!(Connector::classify(&connector, &expired), ConnectFault::Client);
    /// ```
    #[must_use]
    pub fn classify(mut self, classify: impl Fn(&E) -> ConnectFault + Send + Sync + 'static) -> Self {
        self.classify = Some(Arc::new(classify));
        self
    }

    /// Makes a used connection fit for the next caller: [`Connector::recycle`](crate::Connector::recycle). Default:
    /// nothing is done.
    ///
    /// It runs where [`after_use`](Self::after_use) answers [`AfterUse::Recycle`]. `recycle` is an async closure or an
    /// async function, as for [`check`](Self::check). A recycling costs one box.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any of its await points, as [`Connector::recycle`](crate::Connector::recycle) says.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use connring::{AfterUse, Connector, Server, connect_fn};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> io::Result<()> {
    /// let connector = connect_fn(|_: Server| async {
    ///     let (ours, mut theirs) = tokio::io::duplex(64);
    ///     tokio::spawn(async move {
    ///         theirs.read_exact(&mut [0; 9]).await?;
    ///         theirs.write_all(b"OK\n").await
    ///     });
    ///     Ok::<_, io::Error>(ours)
    /// })
    /// .after_use(|_conn, _ended| AfterUse::Recycle)
    /// .recycle(async |conn| {
    ///     conn.write_all(b"ROLLBACK\n").await?;
    ///     conn.read_exact(&mut [0; 3]).await?;
    ///     Ok(())
    /// });
    /// let mut conn = connector.connect(&Server::new("10.0.0.1:5432")).await?;
    /// Connector::recycle(&connector, &mut conn).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn recycle<H>(mut self, recycle: H) -> Self
    where
        H: AsyncFn(&mut T) -> Result<(), E> + for<'a> HookOnce<'a, T, E> + Clone + Send + Sync + 'static,
    {
        self.recycle = Some(Arc::new(move |conn| recycle.clone().call(conn)));
        self
    }

    /// A round trip that shows whether a connection works: [`Connector::check`](crate::Connector::check). Default:
    /// none.
    ///
    /// `check` is an async closure or an async function of the connection whose future is `Send`. What a closure
    /// captures is cloned for each check. A check costs one box.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any of its await points, as [`Connector::check`](crate::Connector::check) says.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use connring::{Connector, Server, connect_fn};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> io::Result<()> {
    /// let connector = connect_fn(|_: Server| async {
    ///     let (ours, mut theirs) = tokio::io::duplex(64);
    ///     tokio::spawn(async move {
    ///         theirs.read_exact(&mut [0; 4]).await?;
    ///         theirs.write_all(b"pong").await
    ///     });
    ///     Ok::<_, io::Error>(ours)
    /// })
    /// .check(async |conn| {
    ///     conn.write_all(b"ping").await?;
    ///     conn.read_exact(&mut [0; 4]).await?;
    ///     Ok(())
    /// });
    /// let mut conn = connector.connect(&Server::new("10.0.0.1:6379")).await?;
    /// Connector::check(&connector, &mut conn).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn check<H>(mut self, check: H) -> Self
    where
        H: AsyncFn(&mut T) -> Result<(), E> + for<'a> HookOnce<'a, T, E> + Clone + Send + Sync + 'static,
    {
        self.check = Some(Arc::new(move |conn| check.clone().call(conn)));
        self
    }

    /// Says goodbye on a connection that the pool closes: [`Connector::close`](crate::Connector::close). Default: none,
    /// the connection is dropped.
    ///
    /// `close` returns a future that owns the connection. It is called for each connection that may say goodbye. A
    /// goodbye costs one box.
    ///
    /// # Examples
    ///
    /// ```
    /// use connring::{CloseReason, Connector, Server, connect_fn};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (near, mut far) = tokio::io::duplex(64);
    /// # let near = std::sync::Mutex::new(Some(near));
    /// # let taken = move || near.lock().unwrap().take().unwrap();
    /// # let connect = move |_: Server| std::future::ready(Ok::<_, std::io::Error>(taken()));
    /// let connector = connect_fn(connect).close(|mut conn, _why| async move {
    ///     let _ = conn.write_all(b"QUIT\n").await;
    /// });
    /// let conn = connector.connect(&Server::new("10.0.0.1:6379")).await?;
    /// if let Some(goodbye) = Connector::close(&connector, conn, CloseReason::IdleTimeout) {
    ///     goodbye.await;
    /// }
    /// # let mut received = String::new();
    /// # far.read_to_string(&mut received).await?;
    /// # assert_eq!(received, "QUIT\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn close<Fut>(mut self, close: impl Fn(T, CloseReason) -> Fut + Send + Sync + 'static) -> Self
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.close = Some(Arc::new(move |conn, why| Box::pin(close(conn, why))));
        self
    }
}

/// A closure whose future of a connection can be sent to another thread. Each that can be called once is one.
///
/// An async closure that captures something lends it to its future, so the closure is no `Fn`, and the bound that the
/// futures of an `AsyncFn` are `Send` cannot be written yet. As `FnOnce` its future has a type.
#[expect(unnameable_types, reason = "a bound that every suitable closure meets; no user implements or names it")]
pub trait HookOnce<'a, T, E> {
    #[doc(hidden)]
    fn call(self, conn: &'a mut T) -> Boxed<'a, Result<(), E>>;
}

impl<'a, T, E, H, Fut> HookOnce<'a, T, E> for H
where
    T: 'a,
    H: FnOnce(&'a mut T) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'a,
{
    fn call(self, conn: &'a mut T) -> Boxed<'a, Result<(), E>> {
        Box::pin(self(conn))
    }
}
