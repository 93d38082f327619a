//! The connector: the login, the check, and what happens to a connection after a use.

use std::fmt;

use connring::{AfterUse, CloseReason, ConnInfo, ConnectFault, Connector, Ended, Server, TcpConnector};
use redis::{Pipeline, Value, pipe};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::conn::RedisConn;
use crate::error::Error;

/// Connects to Redis, and to what speaks its protocol, such as Valkey. The streams come from another connector: TCP by
/// default, or a Unix socket or TLS.
///
/// A new connection sends `AUTH`, `SELECT` and `CLIENT SETNAME`, each if it is set, and `PING`, in one round trip. So a
/// server that loads its data, that has lost its primary and does not serve stale data, or that has too many clients
/// counts as a server to which connecting failed, and other servers are used. All of these are faults of the server;
/// so is a wrong password, since the others may take it.
///
/// [`check`](Connector::check) is a `PING`. A connection whose last answer was read is reused, whether its caller
/// released or dropped it. One with an outstanding answer is closed. If its caller has left a transaction open, keys
/// watched, or another database, user or name, or if the last user was told `-LOADING`, `-MASTERDOWN` or `-BUSY`, the
/// connection is reset in the background, by `RESET` (Redis 6.2) and a new login. If the server refuses the login
/// or cannot serve, it is closed, and its server counts one failure; without blame, if the server knows no `RESET`.
///
/// # Examples
///
/// ```
/// use connring::{Pool, UnixConnector};
/// use connring_redis::RedisConnector;
///
/// # fn main() -> Result<(), connring::BuildError> {
/// let over_tcp = RedisConnector::new().login("shop", "secret").database(3).client_name("checkout");
/// let over_unix = RedisConnector::over(UnixConnector::new()).password("secret");
/// # #[cfg(unix)]
/// let pool = Pool::builder(over_unix).server("/run/redis/redis.sock").build()?;
/// # let _ = (over_tcp, pool);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisConnector<C = TcpConnector> {
    streams: C,
    /// The arguments of `AUTH`.
    credentials: Vec<String>,
    database: u32,
    client_name: Option<String>,
}

impl RedisConnector {
    /// Connects over TCP, to addresses as [`TcpConnector`] takes them, with its defaults.
    pub fn new() -> Self {
        Self::over(TcpConnector::new())
    }
}

impl<C> RedisConnector<C> {
    /// Connects over the streams of another connector.
    pub fn over(streams: C) -> Self {
        Self { streams, credentials: Vec::new(), database: 0, client_name: None }
    }

    /// The password of the user `default`. Default: no login. Replaces the one of [`login`](Self::login).
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.credentials = vec![password.into()];
        self
    }

    /// A user (Redis 6) and its password. Default: no login. Replaces [`password`](Self::password).
    #[must_use]
    pub fn login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = vec![user.into(), password.into()];
        self
    }

    /// The number of the database. Default: 0. Range: below the server's `databases`, which is 16 by default; a server
    /// refuses a connection with another one.
    #[must_use]
    pub fn database(mut self, number: u32) -> Self {
        self.database = number;
        self
    }

    /// The name that `CLIENT LIST` shows. Default: none. A server refuses a connection with a name that has a space or
    /// a line break.
    #[must_use]
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = Some(name.into());
        self
    }
}

impl<C: Connector> RedisConnector<C>
where
    C::Conn: AsyncRead + AsyncWrite + Unpin,
{
    /// Sends the commands of `steps` and then those of the login and a `PING`, in one round trip.
    async fn log_in(&self, conn: &mut RedisConn<C::Conn>, mut steps: Vec<&'static str>) -> Result<(), Error<C::Error>> {
        let mut commands = Pipeline::new();
        for step in &steps {
            commands.cmd(step);
        }
        if !self.credentials.is_empty() {
            steps.push("AUTH");
            commands.cmd("AUTH").arg(&self.credentials);
        }
        if self.database != 0 {
            steps.push("SELECT");
            commands.cmd("SELECT").arg(self.database);
        }
        if let Some(name) = &self.client_name {
            steps.push("CLIENT SETNAME");
            commands.cmd("CLIENT").arg("SETNAME").arg(name);
        }
        // Last: a server that loads its data accepts all of the others.
        steps.push("PING");
        commands.cmd("PING");
        ask(conn, &commands, &steps).await
    }
}

/// Sends commands, whose names are `steps`, and expects no error among the answers.
async fn ask<S: AsyncRead + AsyncWrite + Unpin, E>(
    conn: &mut RedisConn<S>,
    commands: &Pipeline,
    steps: &[&'static str],
) -> Result<(), Error<E>> {
    let answers = conn.exchange(&commands.get_packed_pipeline(), steps.len()).await;
    let answers = answers.map_err(|error| Error::NoAnswer { command: steps[0], error })?;
    for (&command, answer) in steps.iter().zip(answers) {
        if let Value::ServerError(error) = answer {
            return Err(Error::Answer { command, error: error.into() });
        }
    }
    Ok(())
}

impl<C: Connector> Connector for RedisConnector<C>
where
    C::Conn: AsyncRead + AsyncWrite + Unpin,
{
    type Conn = RedisConn<C::Conn>;
    type Error = Error<C::Error>;

    async fn connect(&self, server: &Server) -> Result<Self::Conn, Self::Error> {
        let stream = self.streams.connect(server).await.map_err(Error::Connect)?;
        let mut conn = RedisConn::new(stream, self.database.into());
        self.log_in(&mut conn, Vec::new()).await?;
        Ok(conn)
    }

    fn is_reusable(&self, conn: &mut Self::Conn, info: &ConnInfo) -> bool {
        !conn.is_cut_short() && self.streams.is_reusable(&mut conn.stream, info)
    }

    fn classify(&self, error: &Self::Error) -> ConnectFault {
        match error {
            Error::Connect(error) => self.streams.classify(error),
            error => ConnectFault::of(error),
        }
    }

    async fn check(&self, conn: &mut Self::Conn) -> Result<(), Self::Error> {
        ask(conn, pipe().cmd("PING"), &["PING"]).await
    }

    // Whether it was released or dropped: the connection knows better.
    fn after_use(&self, conn: &mut Self::Conn, _ended: Ended) -> AfterUse {
        if conn.is_cut_short() {
            AfterUse::Close
        } else if conn.has_state() {
            AfterUse::Recycle
        } else {
            AfterUse::Reuse
        }
    }

    // `is_reusable` refuses one that could not be reset.
    async fn recycle(&self, conn: &mut Self::Conn) -> Result<(), Self::Error> {
        match self.log_in(conn, vec!["RESET"]).await {
            Ok(()) => conn.was_reset(),
            // Closed meanwhile, or a server that does not know `RESET`: neither is a failure of a server that answers.
            Err(Error::NoAnswer { .. } | Error::Answer { command: "RESET", .. }) => conn.cut_short(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn close(&self, conn: Self::Conn, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.streams.close(conn.stream, why)
    }
}

impl Default for RedisConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl<C: fmt::Debug> fmt::Debug for RedisConnector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RedisConnector");
        debug.field("streams", &self.streams).field("database", &self.database);
        // Without the password.
        debug.field("client_name", &self.client_name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[cfg(unix)]
    #[test]
    fn fault_of_the_client_is_that_of_the_connector_below() {
        let fault = |error: io::Error| RedisConnector::new().classify(&Error::Connect(error));
        // `EMFILE`.
        assert_eq!(fault(io::Error::from_raw_os_error(24)), ConnectFault::Client);
        assert_eq!(fault(io::ErrorKind::ConnectionRefused.into()), ConnectFault::Server);
    }
}
