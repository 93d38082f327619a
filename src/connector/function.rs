//! A connector made of a closure.

use std::error::Error;
use std::fmt;
use std::future::Future;

use super::Connector;
use crate::server::Server;

/// A [`Connector`] that calls a closure to connect; made by [`connect_fn`].
#[derive(Clone)]
pub struct FnConnector<F> {
    connect: F,
}

/// Makes a connector of a closure that takes the server and returns a future of a connection.
///
/// Its connections are always reusable and its errors always blame the server. A caller may get a
/// socket that the server closed while it was idle. Where that does not do, implement [`Connector`].
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
pub fn connect_fn<F, Fut, T, E>(connect: F) -> FnConnector<F>
where
    F: Fn(Server) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    FnConnector { connect }
}

impl<F, Fut, T, E> Connector for FnConnector<F>
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
}

impl<F> fmt::Debug for FnConnector<F> {
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
        assert!(connector.blames_server(&error));
    }
}
