//! A connector made of a closure.

use std::error::Error;
use std::fmt;
use std::future::Future;

use super::Connector;
use crate::sync::Arc;

/// A [`Connector`] that dials by calling a closure; made by [`connect_fn`].
#[derive(Clone)]
pub struct FnConnector<F> {
    dial: F,
}

/// Makes a connector of a closure that takes the address and returns a future of a connection.
///
/// Its connections are always reusable and its errors always blame the server. So a socket that the server closed while
/// it was idle is handed out. Where that does not do, implement [`Connector`].
///
/// # Cancel safety
///
/// The future may be dropped at any of its await points, as [`Connector::connect`] says.
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
///
/// use connring::{Connector, connect_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::io::Error> {
/// let connector = connect_fn(|address: Arc<str>| async move {
///     let (ours, _theirs) = tokio::io::duplex(64);
///     println!("dialled {address}");
///     Ok::<_, std::io::Error>(ours)
/// });
/// let _conn = connector.connect("10.0.0.1:6379").await?;
/// # Ok(())
/// # }
/// ```
pub fn connect_fn<F, Fut, T, E>(dial: F) -> FnConnector<F>
where
    F: Fn(Arc<str>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    FnConnector { dial }
}

impl<F, Fut, T, E> Connector for FnConnector<F>
where
    F: Fn(Arc<str>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Error + Send + Sync + 'static,
{
    type Conn = T;
    type Error = E;

    async fn connect(&self, address: &str) -> Result<T, E> {
        (self.dial)(Arc::from(address)).await
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
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_closure_is_told_the_address() {
        let connector = connect_fn(|address: Arc<str>| async move {
            if address.is_empty() { Err(io::Error::other("no address")) } else { Ok(address) }
        });
        let mut conn = connector.connect("a:1").await.unwrap();
        assert_eq!(&*conn, "a:1");
        assert!(connector.is_reusable(&mut conn, Duration::MAX));
        let error = connector.connect("").await.unwrap_err();
        assert!(connector.blames_server(&error));
    }
}
