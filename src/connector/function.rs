//! A connector made of closures.

mod setters;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use super::{AfterUse, CloseReason, ConnectFault, Connector, Ended};
use crate::conn_info::ConnInfo;
use crate::server::Server;
use crate::sync::Arc;

/// A [`Connector`] that calls a closure to connect, and one for each hook that was set; made by [`connect_fn`].
pub struct FnConnector<F, T, E> {
    connect: F,
    is_reusable: Option<Arc<IsReusable<T>>>,
    after_use: Option<Arc<UseEnded<T>>>,
    classify: Option<Arc<Classify<E>>>,
    recycle: Option<Arc<RoundTrip<T, E>>>,
    check: Option<Arc<RoundTrip<T, E>>>,
    close: Option<Arc<Close<T>>>,
}

type IsReusable<T> = dyn Fn(&mut T, &ConnInfo) -> bool + Send + Sync;
type UseEnded<T> = dyn Fn(&mut T, Ended) -> AfterUse + Send + Sync;
type Classify<E> = dyn Fn(&E) -> ConnectFault + Send + Sync;
type RoundTrip<T, E> = dyn for<'a> Fn(&'a mut T) -> Boxed<'a, Result<(), E>> + Send + Sync;
type Close<T> = dyn Fn(T, CloseReason) -> Boxed<'static, ()> + Send + Sync;
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes a connector of a closure that takes the server and returns a future of a connection.
///
/// The hooks have the defaults of [`Connector`] and are set by methods, each with a closure:
/// [`is_reusable`](FnConnector::is_reusable), [`after_use`](FnConnector::after_use),
/// [`classify`](FnConnector::classify), [`recycle`](FnConnector::recycle), [`check`](FnConnector::check) and
/// [`close`](FnConnector::close). Without `is_reusable` a caller may get a socket that the server closed while it was
/// idle.
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
    let (is_reusable, after_use, classify) = (None, None, None);
    FnConnector { connect, is_reusable, after_use, classify, recycle: None, check: None, close: None }
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

    fn is_reusable(&self, conn: &mut T, info: &ConnInfo) -> bool {
        self.is_reusable.as_ref().is_none_or(|is_reusable| is_reusable(conn, info))
    }

    fn after_use(&self, conn: &mut T, ended: Ended) -> AfterUse {
        self.after_use.as_ref().map_or_else(|| AfterUse::of(ended), |after_use| after_use(conn, ended))
    }

    fn classify(&self, error: &E) -> ConnectFault {
        self.classify.as_ref().map_or_else(|| ConnectFault::of(error), |classify| classify(error))
    }

    async fn recycle(&self, conn: &mut T) -> Result<(), E> {
        run(self.recycle.as_deref(), conn).await
    }

    async fn check(&self, conn: &mut T) -> Result<(), E> {
        run(self.check.as_deref(), conn).await
    }

    fn close(&self, conn: T, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.close.as_ref().map(|close| close(conn, why))
    }
}

/// Runs a hook, if it was set.
async fn run<T, E>(hook: Option<&RoundTrip<T, E>>, conn: &mut T) -> Result<(), E> {
    match hook {
        Some(hook) => hook(conn).await,
        None => Ok(()),
    }
}

// By hand: connection and error need not be `Clone`.
impl<F: Clone, T, E> Clone for FnConnector<F, T, E> {
    fn clone(&self) -> Self {
        Self {
            connect: self.connect.clone(),
            is_reusable: self.is_reusable.clone(),
            after_use: self.after_use.clone(),
            classify: self.classify.clone(),
            recycle: self.recycle.clone(),
            check: self.check.clone(),
            close: self.close.clone(),
        }
    }
}

impl<F, T, E> fmt::Debug for FnConnector<F, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnConnector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
