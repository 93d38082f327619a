#![doc = include_str!("../README.md")]

use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use connring::{AcquireError, AcquireOptions, Connector, FnConnector, Pool, PooledConn, Server, connect_fn};
use tower_service::Service;

pub use tower_service;

/// A service whose answer is a connection of a pool. The request says the wishes of the acquire.
///
/// It is always ready, and its call waits, fairly and for the pool's `wait_timeout` or that of the request. A service
/// that is ready only when it holds a connection would keep that connection from all other callers until its own call,
/// and a clone that is never called would keep it for ever. To refuse callers instead of letting them wait:
///
/// - a request with a [timeout](AcquireOptions::timeout) of zero: it looks for an idle connection once;
/// - [`max_waiters`](connring::Builder::max_waiters) of the pool: [`AcquireError::QueueFull`];
/// - a `ConcurrencyLimit` under a `LoadShed` of tower: they bound the calls that wait, not the connections in use.
///
/// Clones share the pool, and so does the future of a call: it counts as a clone of the pool.
///
/// # Cancel safety
///
/// A future of a call is safe to drop at any time, as [`Pool::acquire`] says.
///
/// # Errors
///
/// As [`Pool::acquire`]. `poll_ready` returns none.
///
/// # Examples
///
/// A stack of `()` as the request, which refuses at once when no connection is idle:
///
/// ```
/// use std::time::Duration;
///
/// use connring::{AcquireOptions, Pool, Server, connect_fn};
/// use connring_tower::PoolService;
/// use tower::{Service, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
/// let pool = Pool::builder(connector).max_conns_per_server(1).server("10.0.0.1:6379").build()?;
/// pool.warm_up(Duration::from_secs(1)).await;
/// let mut service =
///     PoolService::new(pool).map_request(|()| AcquireOptions::new().timeout(Duration::ZERO));
///
/// let conn = service.ready().await?.call(()).await?;
/// assert!(service.ready().await?.call(()).await.is_err());
/// conn.release();
/// assert!(service.ready().await?.call(()).await.is_ok());
/// # Ok(())
/// # }
/// ```
pub struct PoolService<C: Connector> {
    pool: Pool<C>,
}

impl<C: Connector> PoolService<C> {
    /// A service of this pool.
    pub fn new(pool: Pool<C>) -> Self {
        Self { pool }
    }
}

impl<C: Connector> Clone for PoolService<C> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone() }
    }
}

impl<C: Connector> fmt::Debug for PoolService<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolService").finish_non_exhaustive()
    }
}

impl<C: Connector> Service<AcquireOptions> for PoolService<C> {
    type Response = PooledConn<C>;
    type Error = AcquireError<C::Error>;
    type Future = Boxed<PooledConn<C>, AcquireError<C::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, options: AcquireOptions) -> Self::Future {
        let pool = self.pool.clone();
        Box::pin(async move { pool.acquire_with(options).await })
    }
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// Makes a connector of a service that takes a [`Server`] and answers with a connection: a connector of hyper-util
/// under a `map_request`, or a stack of tower's layers around one.
///
/// Each attempt clones the service, waits until the clone is ready, and calls it; the pool's connect timeout bounds
/// both. What clones should share, such as a limit, they share inside.
///
/// A service has no hooks, so set them on the connector that is returned, above all
/// [`is_reusable`](FnConnector::is_reusable): without it a caller may get a connection that its server closed while it
/// was idle.
///
/// # Cancel safety
///
/// The pool may drop the service's future at any of its await points: its drop must close the sockets that it opened.
///
/// # Errors
///
/// A failed attempt is a [`ServiceError`] with the service's error as its source.
///
/// # Examples
///
/// At most four connects of this process at a time, to all servers together:
///
/// ```
/// use connring::{Pool, Server, is_idle};
/// use connring_tower::connect_service;
/// use tokio::net::TcpStream;
/// use tower::{ServiceBuilder, service_fn};
///
/// # fn main() -> Result<(), connring::BuildError> {
/// let service = ServiceBuilder::new()
///     .concurrency_limit(4)
///     .service(service_fn(|server: Server| async move { TcpStream::connect(server.address()).await }));
/// let connector = connect_service(service).is_reusable(|conn, _| is_idle(conn));
/// let pool = Pool::builder(connector).servers(["10.0.0.1:6379", "10.0.0.2:6379"]).build()?;
/// # let _ = pool;
/// # Ok(())
/// # }
/// ```
pub fn connect_service<S>(
    service: S,
) -> FnConnector<impl Fn(Server) -> Boxed<S::Response, ServiceError> + Send + Sync + 'static, S::Response, ServiceError>
where
    S: Service<Server, Response: Send + 'static, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>,
    S: Clone + Send + 'static,
{
    // Most boxed services are not `Sync`.
    let service = Mutex::new(service);
    connect_fn(move |server| -> Boxed<S::Response, ServiceError> {
        let mut service = service.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await.map_err(ServiceError::new)?;
            service.call(server).await.map_err(ServiceError::new)
        })
    })
}

/// The error of a service that connects, as its source.
#[derive(Debug, thiserror::Error)]
#[error("the connect service failed")]
pub struct ServiceError(#[source] Box<dyn Error + Send + Sync>);

impl ServiceError {
    fn new(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}
