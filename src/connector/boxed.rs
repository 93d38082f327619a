//! A boxed connector, whose type can be named.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::{AfterUse, CloseReason, ConnectFault, Connector, Ended};
use crate::conn_info::ConnInfo;
use crate::server::Server;

/// A [`Connector`] of connections `T`, made by [`Connector::boxed`] of any connector.
///
/// It gives a type that can be named to a connector without one, such as a [`connect_fn`](crate::connect_fn) in the
/// field of a struct. [`BoxPool`](crate::BoxPool) is a pool with such a connector.
///
/// An attempt costs one box, and so does each `check`, `recycle` and `close` that the connector has, and each error. A
/// hook that it leaves alone costs none. An acquire and a release cost no box, only a virtual call to ask
/// `is_reusable` and `after_use`.
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

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A [`Connector`] without what keeps it from being a trait object.
trait ErasedConnector<T>: Send + Sync {
    fn attempt<'a>(&'a self, server: &'a Server) -> Boxed<'a, Result<T, BoxError>>;
    fn may_reuse(&self, conn: &mut T, info: &ConnInfo) -> bool;
    fn use_ended(&self, conn: &mut T, ended: Ended) -> AfterUse;
    fn fault(&self, error: &BoxError) -> ConnectFault;
    fn restore<'a>(&'a self, conn: &'a mut T) -> Boxed<'a, Result<(), BoxError>>;
    fn round_trip<'a>(&'a self, conn: &'a mut T) -> Boxed<'a, Result<(), BoxError>>;
    fn goodbye(&self, conn: T, why: CloseReason) -> Option<Boxed<'static, ()>>;
}

impl<C: Connector> ErasedConnector<C::Conn> for C {
    fn attempt<'a>(&'a self, server: &'a Server) -> Boxed<'a, Result<C::Conn, BoxError>> {
        boxed(self.connect(server))
    }

    fn may_reuse(&self, conn: &mut C::Conn, info: &ConnInfo) -> bool {
        self.is_reusable(conn, info)
    }

    fn use_ended(&self, conn: &mut C::Conn, ended: Ended) -> AfterUse {
        self.after_use(conn, ended)
    }

    fn fault(&self, error: &BoxError) -> ConnectFault {
        // Another connector's error is classified as by default.
        error.downcast_ref().map_or_else(|| ConnectFault::of(error), |error| self.classify(error))
    }

    fn restore<'a>(&'a self, conn: &'a mut C::Conn) -> Boxed<'a, Result<(), BoxError>> {
        boxed(self.recycle(conn))
    }

    fn round_trip<'a>(&'a self, conn: &'a mut C::Conn) -> Boxed<'a, Result<(), BoxError>> {
        boxed(self.check(conn))
    }

    fn goodbye(&self, conn: C::Conn, why: CloseReason) -> Option<Boxed<'static, ()>> {
        Some(Box::pin(self.close(conn, why)?))
    }
}

/// Boxes a future and its error.
fn boxed<'a, T, E: Error + Send + Sync + 'static>(
    future: impl Future<Output = Result<T, E>> + Send + 'a,
) -> Boxed<'a, Result<T, BoxError>> {
    Box::pin(BoxingError { future })
}

pin_project! {
    /// A future whose error is boxed. No larger than the future inside: that of a hook that the connector leaves alone
    /// has no size, and its box allocates nothing.
    struct BoxingError<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future<Output = Result<T, E>>, T, E: Error + Send + Sync + 'static> Future for BoxingError<F> {
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(BoxError::new)
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

    fn after_use(&self, conn: &mut T, ended: Ended) -> AfterUse {
        self.connector.use_ended(conn, ended)
    }

    fn classify(&self, error: &BoxError) -> ConnectFault {
        self.connector.fault(error)
    }

    async fn recycle(&self, conn: &mut T) -> Result<(), BoxError> {
        self.connector.restore(conn).await
    }

    async fn check(&self, conn: &mut T) -> Result<(), BoxError> {
        self.connector.round_trip(conn).await
    }

    fn close(&self, conn: T, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.connector.goodbye(conn, why)
    }
}

impl<T> fmt::Debug for BoxConnector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxConnector").finish_non_exhaustive()
    }
}

impl BoxError {
    pub(super) fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self { error: Box::new(error) }
    }

    pub(super) fn inside(&self) -> &(dyn Error + 'static) {
        &*self.error
    }

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

    impl PickyError {
        fn new(code: i32, cause: &str) -> Self {
            Self { code, cause: io::Error::other(cause) }
        }
    }

    impl Connector for Picky {
        type Conn = usize;
        type Error = PickyError;

        async fn connect(&self, server: &Server) -> Result<usize, PickyError> {
            match server.address().parse() {
                Ok(code) => Err(PickyError::new(code, "cause")),
                Err(_) => Ok(server.address().len()),
            }
        }

        fn is_reusable(&self, conn: &mut usize, info: &ConnInfo) -> bool {
            *conn += 1;
            info.uses() < 1
        }

        fn classify(&self, error: &PickyError) -> ConnectFault {
            if error.code == 7 { ConnectFault::Client } else { ConnectFault::Server }
        }

        async fn check(&self, conn: &mut usize) -> Result<(), PickyError> {
            *conn += 1;
            if *conn < 8 { Ok(()) } else { Err(PickyError::new(9, "no pong")) }
        }

        fn after_use(&self, conn: &mut usize, ended: Ended) -> AfterUse {
            *conn += 1;
            if ended == Ended::Dropped { AfterUse::Recycle } else { AfterUse::Close }
        }

        async fn recycle(&self, conn: &mut usize) -> Result<(), PickyError> {
            *conn += 1;
            if *conn < 12 { Ok(()) } else { Err(PickyError::new(10, "no rollback")) }
        }

        fn close(&self, conn: usize, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
            (why == CloseReason::Surplus).then_some(async move { assert_eq!(conn, 12) })
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
            connector.check(&mut conn).await.unwrap();
            assert_eq!(conn, 7);
            let error = connector.check(&mut conn).await.unwrap_err();
            assert_eq!((error.to_string().as_str(), conn), ("picky: 9", 8));
            assert_eq!(error.source().unwrap().to_string(), "no pong");
            assert_eq!(connector.after_use(&mut conn, Ended::Released), AfterUse::Close);
            assert_eq!(connector.after_use(&mut conn, Ended::Dropped), AfterUse::Recycle);
            connector.recycle(&mut conn).await.unwrap();
            let error = connector.recycle(&mut conn).await.unwrap_err();
            assert_eq!((error.to_string().as_str(), conn), ("picky: 10", 12));
            assert!(connector.close(conn, CloseReason::Reset).is_none());
            connector.close(conn, CloseReason::Surplus).unwrap().await;
            let own = connector.connect(&Server::new("7")).await.unwrap_err();
            let servers = connector.connect(&Server::new("8")).await.unwrap_err();
            assert_eq!(connector.classify(&own), ConnectFault::Client);
            assert_eq!(connector.classify(&servers), ConnectFault::Server);
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
    fn a_foreign_error_is_classified_as_by_default() {
        let foreign = BoxError { error: "foreign".into() };
        assert_eq!(Picky.boxed().classify(&foreign), ConnectFault::Server);
        let foreign = BoxError::new(io::Error::from(io::ErrorKind::OutOfMemory));
        assert_eq!(Picky.boxed().classify(&foreign), ConnectFault::Client);
    }
}
