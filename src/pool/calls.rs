//! Orders to the pool: disable, enable, drain.

use std::time::Duration;

use super::Pool;
use crate::connector::Connector;
use crate::core;
use crate::error::ServerError;
use crate::reports::DrainReport;

impl<C: Connector> Pool<C> {
    /// Takes a server out of rotation, for `time` or until [`enable`](Pool::enable).
    ///
    /// No caller gets a connection of it and no attempt starts at it, also where no other server serves. Connections in
    /// use stay with their callers, and idle ones stay open; [`drain`](Pool::drain) closes them. Its health goes on
    /// beneath: failures and good returns count. Any number of servers may be disabled. If all are, callers with a
    /// bounded wait get [`Unavailable`](crate::AcquireError::Unavailable).
    ///
    /// A later call supersedes an earlier one. [`update`](Pool::update) and [`set_servers`](Pool::set_servers) keep a
    /// server disabled; removing it ends that. `time` is any duration; `None` and [`Duration::MAX`] have no end. The
    /// pool's background task enables the server when the time is over.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use connring::{Pool, Server, connect_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// use connring::{PooledConn, ServerState};
    ///
    /// let pool = Pool::builder(connector).servers(["10.0.0.1:6379", "10.0.0.2:6379"]).build()?;
    /// pool.disable("10.0.0.1:6379", None)?;
    /// assert_eq!(pool.status().servers[0].state, ServerState::Disabled { ends_in: None });
    /// for _ in 0..3 {
    ///     let conn = pool.acquire().await?;
    ///     assert_eq!(PooledConn::info(&conn).server().name(), "10.0.0.2:6379");
    ///     conn.release();
    /// }
    /// pool.enable("10.0.0.1:6379")?;
    /// assert_eq!(pool.status().servers[0].state, ServerState::Up);
    /// # Ok(())
    /// # }
    /// ```
    pub fn disable(&self, name: &str, time: Option<Duration>) -> Result<(), ServerError> {
        core::disable(&self.shared, name, time)
    }

    /// Ends [`disable`](Pool::disable) and [`drain`](Pool::drain): callers use the server again as its health allows.
    /// Does nothing if the server is not disabled.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`].
    pub fn enable(&self, name: &str) -> Result<(), ServerError> {
        core::enable(&self.shared, name)
    }

    /// Takes a server out of rotation and waits until none of its connections is open, at most `deadline`.
    ///
    /// [Disables](Pool::disable) the server without end, closes its idle connections, ends its attempts, and closes its
    /// connections in use when they come back. Requests that run are not disturbed. Once this has returned, no caller
    /// is given a connection of the server before [`enable`](Pool::enable). `deadline` is any duration.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop. Once polled, the server is disabled, and stays so.
    ///
    /// # Errors
    ///
    /// [`ServerError::Unknown`], [`ServerError::Closed`]. A deadline that has passed is no error: the [`DrainReport`]
    /// says how many connections are still open.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with the time driver, if it has to wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use connring::{Pool, Server, connect_fn};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let connector = connect_fn(|_: Server| async { std::io::Result::Ok(()) });
    /// let pool = Pool::builder(connector).server("10.0.0.1:6379").build()?;
    /// pool.acquire().await?.release();
    ///
    /// let report = pool.drain("10.0.0.1:6379", Duration::from_secs(30)).await?;
    /// assert!(report.is_drained());
    /// // The server can be restarted now. Then:
    /// pool.enable("10.0.0.1:6379")?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn drain(&self, name: &str, deadline: Duration) -> Result<DrainReport, ServerError> {
        core::drain(&self.shared, name, deadline).await
    }
}
