//! A boxed connector, whose type can be named.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::Connector;
use crate::conn_info::ConnInfo;
use crate::server::Server;

/// A [`Connector`] of connections `T`, made by [`Connector::boxed`] of any connector.
///
/// It gives a type that can be named to a connector without one, such as a [`connect_fn`](crate::connect_fn) in the
/// field of a struct. An attempt costs one box, and one more for its error if it fails; an acquire costs none, only a
/// virtual call to ask whether the connection is reusable.
///
/// # Examples
///
/// ```
/// use connring::{BoxConnector, Connector, Server, connect_fn};
/// use tokio::io::DuplexStream;
///
/// struct Client {
///     connector: BoxConnector<DuplexStream>,
/// }
///
/// let connector = connect_fn(|_: Server| async {
///     let (ours, _theirs) = tokio::io::duplex(64);
///     Ok::<_, std::io::Error>(ours)
/// });
/// let client = Client { connector: connector.boxed() };
/// # let _ = client.connector;
/// ```
pub struct BoxConnector<T> {
    connector: Box<dyn ErasedConnector<T>>,
}

/// The error of a [`BoxConnector`]: that of the connector inside. It prints as that one and has its source.
pub struct BoxError {
    error: Box<dyn Error + Send + Sync>,
}

type BoxAttempt<'a, T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send + 'a>>;

/// A [`Connector`] without what keeps it from being a trait object.
trait ErasedConnector<T>: Send + Sync {
    fn attempt<'a>(&'a self, server: &'a Server) -> BoxAttempt<'a, T>;
    fn may_reuse(&self, conn: &mut T, info: &ConnInfo) -> bool;
    fn blames(&self, error: &BoxError) -> bool;
}

impl<C: Connector> ErasedConnector<C::Conn> for C {
    fn attempt<'a>(&'a self, server: &'a Server) -> BoxAttempt<'a, C::Conn> {
        Box::pin(async move { self.connect(server).await.map_err(|error| BoxError { error: Box::new(error) }) })
    }

    fn may_reuse(&self, conn: &mut C::Conn, info: &ConnInfo) -> bool {
        self.is_reusable(conn, info)
    }

    fn blames(&self, error: &BoxError) -> bool {
        // Another connector's error blames its server, as it does by default.
        error.downcast_ref().is_none_or(|error| self.blames_server(error))
    }
}

impl<T: Send + 'static> BoxConnector<T> {
    /// Boxes `connector`. The same as [`Connector::boxed`].
    pub fn new<C: Connector<Conn = T>>(connector: C) -> Self {
        Self { connector: Box::new(connector) }
    }
}

impl<T: Send + 'static> Connector for BoxConnector<T> {
    type Conn = T;
    type Error = BoxError;

    async fn connect(&self, server: &Server) -> Result<T, BoxError> {
        self.connector.attempt(server).await
    }

    fn is_reusable(&self, conn: &mut T, info: &ConnInfo) -> bool {
        self.connector.may_reuse(conn, info)
    }

    fn blames_server(&self, error: &BoxError) -> bool {
        self.connector.blames(error)
    }
}

impl<T> fmt::Debug for BoxConnector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxConnector").finish_non_exhaustive()
    }
}

impl BoxError {
    /// The connector's error, if it is an `E`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use connring::{Connector, Server, connect_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # let refuses = connect_fn(|_: Server| async {
    /// #     Err::<(), _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
    /// # });
    /// let error = refuses.boxed().connect(&Server::new("10.0.0.1:6379")).await.unwrap_err();
    /// let kind = error.downcast_ref::<std::io::Error>().map(|error| error.kind());
    /// assert_eq!(kind, Some(std::io::ErrorKind::ConnectionRefused));
    /// # }
    /// ```
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// The connector's error, in the box that it came in.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.error
    }
}

impl fmt::Debug for BoxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for BoxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl Error for BoxError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::raw::Time;
    use crate::sync::Arc;

    /// Connects to the length of the address, or fails with it as a number of the operating system.
    struct Picky;

    #[derive(Debug, thiserror::Error)]
    #[error("picky: {code}")]
    struct PickyError {
        code: i32,
        #[source]
        cause: io::Error,
    }

    impl Connector for Picky {
        type Conn = usize;
        type Error = PickyError;

        async fn connect(&self, server: &Server) -> Result<usize, PickyError> {
            match server.address().parse() {
                Ok(code) => Err(PickyError { code, cause: io::Error::other("cause") }),
                Err(_) => Ok(server.address().len()),
            }
        }

        fn is_reusable(&self, conn: &mut usize, info: &ConnInfo) -> bool {
            *conn += 1;
            info.uses() < 1
        }

        fn blames_server(&self, error: &PickyError) -> bool {
            error.code != 7
        }
    }

    #[tokio::test]
    async fn everything_passes_through() {
        // Boxed twice, to see that the inner type is found through both.
        for connector in [Picky.boxed(), BoxConnector::new(Picky.boxed())] {
            let server = Server::new("four");
            let mut conn = connector.connect(&server).await.unwrap();
            let mut info = ConnInfo::new(Arc::new(server), Time::ZERO);
            assert!(connector.is_reusable(&mut conn, &info));
            info.check_in(Time::from_nanos(1));
            assert!(!connector.is_reusable(&mut conn, &info));
            assert_eq!(conn, 6);
            let own = connector.connect(&Server::new("7")).await.unwrap_err();
            let servers = connector.connect(&Server::new("8")).await.unwrap_err();
            assert!(!connector.blames_server(&own));
            assert!(connector.blames_server(&servers));
            assert_eq!(own.to_string(), "picky: 7");
            assert_eq!(own.source().unwrap().to_string(), "cause");
        }
    }

    #[tokio::test]
    async fn the_error_can_be_taken_out() {
        let error = Picky.boxed().connect(&Server::new("7")).await.unwrap_err();
        assert_eq!(error.downcast_ref::<PickyError>().unwrap().code, 7);
        assert!(error.downcast_ref::<io::Error>().is_none());
        assert_eq!(error.into_inner().downcast::<PickyError>().unwrap().code, 7);
    }

    #[test]
    fn a_foreign_error_blames_the_server() {
        let foreign = BoxError { error: "foreign".into() };
        assert!(Picky.boxed().blames_server(&foreign));
    }
}
