//! A connector made of closures.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::{ConnectFault, Connector};
use crate::server::Server;
use crate::sync::Arc;

/// A [`Connector`] that calls a closure to connect, and one for each hook that was set; made by [`connect_fn`].
pub struct FnConnector<F, T, E> {
    connect: F,
    classify: Option<Arc<Classify<E>>>,
    check: Option<Arc<Check<T, E>>>,
}

type Classify<E> = dyn Fn(&E) -> ConnectFault + Send + Sync;
type Check<T, E> = dyn for<'a> Fn(&'a mut T) -> Checking<'a, E> + Send + Sync;
type Checking<'a, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

/// Makes a connector of a closure that takes the server and returns a future of a connection.
///
/// Its connections are always reusable. A caller may get a socket that the server closed while it was idle. Where that
/// does not do, implement [`Connector`]. The other hooks have the defaults of [`Connector`] and are set by methods:
/// [`classify`](FnConnector::classify), [`check`](FnConnector::check).
///
/// # Cancel safety
///
/// The future may be dropped at any of its await points, as [`Connector::connect`] says.
///
/// # Examples
///
/// ```
/// use connring::{Connector, Server, connect_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::io::Error> {
/// let connector = connect_fn(|server: Server| async move {
///     let (ours, _theirs) = tokio::io::duplex(64);
///     println!("connected to {}", server.address());
///     Ok::<_, std::io::Error>(ours)
/// });
/// let _conn = connector.connect(&Server::new("10.0.0.1:6379")).await?;
/// # Ok(())
/// # }
/// ```
pub fn connect_fn<F, Fut, T, E>(connect: F) -> FnConnector<F, T, E>
where
    F: Fn(Server) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    FnConnector { connect, classify: None, check: None }
}

impl<F, T, E> FnConnector<F, T, E>
where
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    /// Whose fault a failed attempt is: [`Connector::classify`]. Default: [`ConnectFault::of`] the error.
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

    /// A round trip that shows whether a connection works: [`Connector::check`]. Default: none.
    ///
    /// `check` is an async closure or an async function of the connection whose future is `Send`. What a closure
    /// captures is cloned for each check. A check costs one box.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any of its await points, as [`Connector::check`] says.
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
        H: AsyncFn(&mut T) -> Result<(), E> + for<'a> CheckOnce<'a, T, E> + Clone + Send + Sync + 'static,
    {
        self.check = Some(Arc::new(move |conn| check.clone().check(conn)));
        self
    }
}

/// A closure whose future of a connection can be sent to another thread. Each that can be called once is one.
///
/// An async closure that captures something lends it to its future, so the closure is no `Fn`, and the bound that the
/// futures of an `AsyncFn` are `Send` cannot be written yet. As `FnOnce` its future has a type.
#[expect(unnameable_types, reason = "a bound that every suitable closure meets; no user implements or names it")]
pub trait CheckOnce<'a, T, E> {
    #[doc(hidden)]
    fn check(self, conn: &'a mut T) -> Checking<'a, E>;
}

impl<'a, T, E, H, Fut> CheckOnce<'a, T, E> for H
where
    T: 'a,
    H: FnOnce(&'a mut T) -> Fut,
    Fut: Future<Output = Result<(), E>> + Send + 'a,
{
    fn check(self, conn: &'a mut T) -> Checking<'a, E> {
        Box::pin(self(conn))
    }
}

impl<F, Fut, T, E> Connector for FnConnector<F, T, E>
where
    F: Fn(Server) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    type Conn = T;
    type Error = E;

    async fn connect(&self, server: &Server) -> Result<T, E> {
        (self.connect)(server.clone()).await
    }

    fn classify(&self, error: &E) -> ConnectFault {
        self.classify.as_ref().map_or_else(|| ConnectFault::of(error), |classify| classify(error))
    }

    async fn check(&self, conn: &mut T) -> Result<(), E> {
        match &self.check {
            Some(check) => check(conn).await,
            None => Ok(()),
        }
    }
}

// By hand: connection and error need not be `Clone`.
impl<F: Clone, T, E> Clone for FnConnector<F, T, E> {
    fn clone(&self) -> Self {
        Self { connect: self.connect.clone(), classify: self.classify.clone(), check: self.check.clone() }
    }
}

impl<F, T, E> fmt::Debug for FnConnector<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnConnector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::conn_info::ConnInfo;
    use crate::raw::Time;
    use crate::sync::Arc;

    #[tokio::test]
    async fn the_closure_gets_the_server() {
        let connector = connect_fn(|server: Server| async move {
            if server.address() == "b" { Err(io::Error::other("refused")) } else { Ok(server) }
        });
        let mut conn = connector.connect(&Server::new("a:1")).await.unwrap();
        assert_eq!(conn.address(), "a:1");
        assert!(connector.is_reusable(&mut conn, &ConnInfo::new(Arc::new(Server::new("a:1")), Time::ZERO)));
        let error = connector.connect(&Server::new("b")).await.unwrap_err();
        assert_eq!(Connector::classify(&connector, &error), ConnectFault::Server);
        Connector::check(&connector, &mut conn).await.unwrap();
    }

    /// A connector of texts.
    fn texts() -> FnConnector<impl Fn(Server) -> std::future::Ready<io::Result<String>> + Clone, String, io::Error> {
        connect_fn(|server: Server| std::future::ready(Ok(server.address().to_owned())))
    }

    async fn ping(conn: &mut String) -> io::Result<()> {
        tokio::task::yield_now().await;
        conn.push_str(" ping");
        if conn.starts_with("bad") { Err(io::Error::other("no pong")) } else { Ok(()) }
    }

    #[test]
    fn classify_that_was_set_decides() {
        let connector = texts().classify(|error| match error.kind() {
            io::ErrorKind::Other => ConnectFault::Client,
            _ => ConnectFault::Server,
        });
        for connector in [connector.clone(), connector] {
            assert_eq!(Connector::classify(&connector, &io::Error::other("own")), ConnectFault::Client);
            let out_of_memory = io::ErrorKind::OutOfMemory.into();
            assert_eq!(Connector::classify(&connector, &out_of_memory), ConnectFault::Server, "not the default");
        }
    }

    /// Checks a connection to `address`; its text afterwards, and the error's.
    async fn checked(connector: impl Connector<Conn = String>, address: &str) -> (String, Option<String>) {
        let mut conn = connector.connect(&Server::new(address)).await.expect("it always connects");
        let error = connector.check(&mut conn).await.err();
        (conn, error.map(|error| error.to_string()))
    }

    #[tokio::test]
    async fn check_that_was_set_gets_the_connection() {
        let word = String::from(" hello");
        let captures = texts().check(async move |conn| {
            conn.push_str(&word);
            ping(conn).await
        });
        assert_eq!(checked(texts().check(ping), "a").await, ("a ping".to_owned(), None));
        // The second time, too.
        for connector in [captures.clone(), captures] {
            assert_eq!(checked(connector.clone(), "a").await, ("a hello ping".to_owned(), None));
            let failed = ("bad hello ping".to_owned(), Some("no pong".to_owned()));
            assert_eq!(checked(connector.clone().boxed(), "bad").await, failed);
            assert_eq!(checked(connector, "bad").await, failed);
        }
    }
}
