//! The wishes of one acquire.

use std::time::Duration;

use crate::sync::Arc;

/// The wishes of one acquire, for [`Pool::acquire_with`](crate::Pool::acquire_with). With none it is as
/// [`acquire`](crate::Pool::acquire).
///
/// | wish | default |
/// |---|---|
/// | [`timeout`](Self::timeout) | the builder's `wait_timeout` |
/// | [`avoid`](Self::avoid) | no server |
/// | [`prefer`](Self::prefer) | no server |
/// | [`fresh`](Self::fresh) | an idle connection will do |
///
/// # Examples
///
/// A request that failed is tried again elsewhere, and the last time on a new connection:
///
/// ```
/// use std::time::Duration;
///
/// use connring::{AcquireOptions, PooledConn};
/// # use connring::{Pool, Server, connect_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
/// let pool = Pool::builder(connector).servers(["10.0.0.1:6379", "10.0.0.2:6379"]).build()?;
/// let first = pool.acquire().await?;
/// let failed = PooledConn::info(&first).server().name().to_owned();
/// first.discard();
///
/// let options = AcquireOptions::new().timeout(Duration::from_secs(1)).avoid([&*failed]);
/// let second = pool.acquire_with(options.clone()).await?;
/// assert_ne!(PooledConn::info(&second).server().name(), failed);
/// second.release();
///
/// let last = pool.acquire_with(options.fresh()).await?;
/// assert_eq!(PooledConn::info(&last).uses(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AcquireOptions {
    /// `None`: the builder's `wait_timeout`.
    pub(crate) timeout: Option<Option<Duration>>,
    pub(crate) prefer: Option<Arc<str>>,
    pub(crate) wish: Wish,
}

/// What a waiter does not accept.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wish {
    /// The names of servers to avoid while another one serves.
    pub(crate) avoid: Vec<Arc<str>>,
    /// No idle connection.
    pub(crate) fresh: bool,
}

impl AcquireOptions {
    /// No wishes.
    pub fn new() -> Self {
        Self::default()
    }

    /// How long to wait. Default: the builder's `wait_timeout`. Range: any; `None`: no bound. It runs as that of
    /// [`acquire_timeout`](crate::Pool::acquire_timeout).
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = Some(timeout.into());
        self
    }

    /// Servers, by name, that are used only if no other server of the [tier](crate::Server::tier) in use serves: those
    /// that have just failed this caller. Another one that is full or has no token serves, too, and is waited for. A
    /// server with nothing idle does not count while connecting to it pauses or takes longer than the hedge delay.
    /// Unknown names have no effect.
    pub fn avoid<N: Into<Arc<str>>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.wish.avoid = names.into_iter().map(Into::into).collect();
        self
    }

    /// The server, by name, whose idle connections are tried first, if it serves, whatever its
    /// [tier](crate::Server::tier). It goes before [`avoid`](Self::avoid), has no part in waiting and connecting, and
    /// [`fresh`](Self::fresh) makes it void. An unknown name has no effect.
    pub fn prefer(mut self, name: impl Into<Arc<str>>) -> Self {
        self.prefer = Some(name.into());
        self
    }

    /// Takes a new connection, never an idle one: for the last try of a request. Where no permit is free, an idle
    /// connection of a server, its oldest in one shard, is closed to make room.
    ///
    /// It comes in its turn: callers behind it get the idle connections that it does not accept, but not the room and
    /// the token that its connection needs. At a server with a rate limit those callers wait while that connection is
    /// opened, for the hedge delay at most, unless there is a token for each of them, too.
    pub fn fresh(mut self) -> Self {
        self.wish.fresh = true;
        self
    }
}

impl Wish {
    /// Whether there is something that it does not accept.
    pub(crate) fn is_choosy(&self) -> bool {
        self.fresh || !self.avoid.is_empty()
    }
}
