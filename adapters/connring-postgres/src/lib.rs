#![doc = include_str!("../README.md")]

mod cancel;
mod conn;
mod error;
mod lingering;
mod socket;

use std::fmt;
use std::future::Future;
use std::mem;
use std::sync::Arc;

use connring::{AfterUse, CloseReason, ConnInfo, ConnectFault, Connector, Ended, Server, TcpConnector};
use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_postgres::config::TargetSessionAttrs;
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::{Client, Config, SimpleQueryMessage};

use crate::cancel::{GRACE, Place, cancel};
pub use crate::conn::PostgresConn;
use crate::conn::{LONGEST_END, Opening};
pub use crate::error::Error;
use crate::lingering::Lingering;
pub use crate::socket::Socket;

pub use tokio_postgres;

/// Clears a session but for prepared statements, some of which the client keeps for its own use.
const RESET_SESSION: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
    SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// The role of the servers that a pool uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TargetRole {
    /// Any server.
    #[default]
    Any,
    /// A server that is not in recovery: it takes writes.
    Primary,
    /// A server in recovery: a hot standby.
    Replica,
}

/// What is undone before the next caller gets a released connection.
///
/// After a connection that was dropped a transaction is always rolled back, whatever is set here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reset {
    /// Nothing. A transaction that a caller left open goes on under the next caller.
    Nothing,
    /// A transaction that was left open is rolled back. Costs the server two empty requests, and nobody waits for their
    /// answers.
    #[default]
    Transaction,
    /// The same, and settings, temporary tables, cursors, `LISTEN`, advisory locks and the session's role are reset.
    /// Costs two round trips, for which the connection is out of use. Statements of SQL's `PREPARE` stay.
    Session,
}

/// Connects to PostgreSQL.
///
/// The address of a [`Server`] is `"host:port"`. See [`TcpConnector`] for the names that it resolves. Of the [`Config`]
/// count the user, the password, the database, the options, the application name, the modes of TLS and channel binding,
/// `keepalives`, `keepalives_idle` and `target_session_attrs`. Its hosts and ports, `connect_timeout` (the pool has
/// one), `tcp_user_timeout` and `load_balance_hosts` do not.
///
/// A connection that was dropped in the middle of a request is not closed: what the request still does is cancelled,
/// its answer is read to the end, its transaction is rolled back, and then the next caller gets it.
///
/// # Connections of the server
///
/// A server whose `max_connections` leave as many as the pool's maximum refuses none: a new connection is opened only
/// when the server has closed those that the pool has closed. For this it waits at most 1 s after the pool gave up the
/// last one, also one whose goodbye took longer than the pool's `goodbye_timeout`. A session that outlives this second
/// still has its slot, and the server may refuse the new one, which counts as a failed connect.
///
/// The wait is a part of `connect`, so it counts against the pool's
/// [`connect_timeout`](connring::Builder::connect_timeout) (default: 5 s). Set that well above 1 s: otherwise one
/// session that ends slowly makes a connect to a working server fail.
///
/// Clones share this count of sessions that the server has not closed yet: the slots are the server's, not a pool's. So
/// the same holds for a pool that replaces another one, and for two pools at the same address (the same text) whose
/// maxima together fit. The price: a pool may wait, for at most the same second, for a session that another one gave
/// up. For pools that shall not wait for each other, make each connector by [`new`](Self::new).
///
/// # A server that hangs
///
/// The pool's [`abandoned_after`](connring::Builder::abandoned_after) has no effect on a dropped connection that is
/// open, since it is recycled. The recycling finds the hang, and closes the connection:
///
/// - After 50 ms without an answer it asks the server to cancel the request. If that cannot connect, or gets no answer
///   in 1 s, the recycling fails with [`Error::Cancel`] or the cause.
/// - If the server takes the cancel, but the request goes on, it cancels again, until the pool's `connect_timeout` is
///   over.
///
/// Each of the two counts as one failure of the server, unless the caller has given a verdict. So a hang counts about
/// 1 s after the drop, or after the `connect_timeout` if that is shorter. To count it at once, call
/// [`fail`](connring::PooledConn::fail) instead: it closes the connection, which cancels the request too. A connection
/// whose end was seen before the drop closes, and there `abandoned_after` decides.
///
/// # Errors
///
/// A refused login, a missing database or privilege and a missing password are the client's own fault, and the server
/// stays up. All else is the server's: too many connections (53300), starting up (57P03), the wrong role.
#[derive(Clone)]
pub struct PostgresConnector<T = NoTls> {
    config: Config,
    tls: T,
    role: TargetRole,
    reset: Reset,
    tcp: TcpConnector,
    lingering: Arc<Lingering>,
}

impl PostgresConnector {
    /// A connector without TLS. The role is that of the config's `target_session_attrs`: `read-write` is
    /// [`Primary`](TargetRole::Primary), `read-only` is [`Replica`](TargetRole::Replica).
    pub fn new(config: Config) -> Self {
        let role = match config.get_target_session_attrs() {
            TargetSessionAttrs::ReadWrite => TargetRole::Primary,
            TargetSessionAttrs::ReadOnly => TargetRole::Replica,
            _ => TargetRole::Any,
        };
        let tcp = TcpConnector::new();
        let tcp = if config.get_keepalives() { tcp.keepalive(config.get_keepalives_idle()) } else { tcp };
        Self { config, tls: NoTls, role, reset: Reset::default(), tcp, lingering: Arc::default() }
    }
}

impl<T> PostgresConnector<T> {
    /// Connects with TLS, as the config's `sslmode` says: by default only where the server offers it. The name that
    /// `tls` gets is the server's [`tls_server_name`](Server::tls_server_name), for cancels too. Default: [`NoTls`].
    #[must_use]
    pub fn tls<U: MakeTlsConnect<Socket>>(self, tls: U) -> PostgresConnector<U> {
        let Self { config, tls: _, role, reset, tcp, lingering } = self;
        PostgresConnector { config, tls, role, reset, tcp, lingering }
    }

    /// The role of the servers. A server of another one is down, until a probe finds that it has become one of these.
    /// Default: that of the config's `target_session_attrs`, else any.
    ///
    /// A pool has one role. With [`TargetRole::Any`] a write may go to a replica, which refuses it. For writes and for
    /// reads build two pools: [the crate's page](crate#one-role-for-each-pool) has an example.
    ///
    /// A server of the wrong role is down because its connects fail:
    ///
    /// - It counts as not serving in its [tier](Server::tier), and uses up
    ///   [`max_ejected_ratio`](connring::Ejection::max_ejected_ratio). In a pool of replicas with a primary and two
    ///   replicas in one tier, to eject a replica would leave 2 of 3 out of use. The default of 0.5 does not allow it:
    ///   set 0.7 or more, or leave the primary out.
    /// - Each failed probe is an event `connecting pauses` of level `WARN`.
    /// - [`Pool::warm_up`](connring::Pool::warm_up) does not wait for it, and its report is not complete.
    ///
    /// Connections to a replica that is promoted stay open. The pool's `idle_check_interval` finds them.
    #[must_use]
    pub fn role(mut self, role: TargetRole) -> Self {
        self.role = role;
        self
    }

    /// What is undone before the next caller gets a released connection. Default: [`Reset::Transaction`].
    #[must_use]
    pub fn reset(mut self, reset: Reset) -> Self {
        self.reset = reset;
        self
    }

    /// # Errors
    ///
    /// When the server has another role than this connector wants.
    async fn check_role(&self, client: &Client) -> Result<(), Error> {
        let wanted = match self.role {
            TargetRole::Any => return Ok(()),
            TargetRole::Primary => "f",
            TargetRole::Replica => "t",
        };
        let answer = client.simple_query("SELECT pg_is_in_recovery()").await?;
        let has = |message: &_| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some(wanted));
        if answer.iter().any(has) { Ok(()) } else { Err(Error::Role { wanted: self.role }) }
    }

    /// Makes a used connection fit for the next caller.
    async fn clean(&self, conn: &mut PostgresConn) -> Result<(), Error>
    where
        T: MakeTlsConnect<Socket> + Clone,
    {
        if mem::take(&mut conn.is_cut_short) {
            // A cancel that comes before its request does nothing, and each ends one request. The roll back that is
            // sent after the last cancel is not hit by it. The time grows: the way to the server may be longer than the
            // first.
            let mut grace = GRACE;
            loop {
                match timeout(grace, conn.roll_back()).await {
                    Ok(ended) => break ended?,
                    Err(_elapsed) => cancel(conn.place.clone(), self.tls.clone(), conn.cancel_token()).await?,
                }
                grace *= 2;
            }
        } else {
            conn.roll_back().await?;
        }
        if self.reset == Reset::Session {
            conn.batch_execute(RESET_SESSION).await?;
        }
        Ok(())
    }
}

impl<T> Connector for PostgresConnector<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::TlsConnect: Send + 'static,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    type Conn = PostgresConn;
    type Error = Error;

    async fn connect(&self, server: &Server) -> Result<PostgresConn, Error> {
        let count = self.lingering.at(server.address());
        // Not longer: a backend that does not end must not fail the connect.
        let _in_time = timeout(LONGEST_END, count.is_zero()).await;
        let stream = self.tcp.connect(server).await.map_err(Error::Tcp)?;
        let opening = Opening::new(Socket::new(stream), count.clone());
        let place = Place { peer: opening.socket.peer().map_err(Error::Tcp)?, name: server.tls_server_name().into() };
        let tls = self.tls.clone().make_tls_connect(&place.name).map_err(|error| Error::Tls(error.into()))?;
        let opened = self.config.connect_raw(opening.socket.share(), tls).await?;
        let (to, tls, token) = (place.clone(), self.tls.clone(), opened.0.cancel_token());
        let cancel = move || cancel(to.clone(), tls.clone(), token.clone());
        let conn = PostgresConn::spawn(opened, opening.done(), place, count, cancel);
        self.check_role(&conn).await?;
        Ok(conn)
    }

    /// The driver of the connection has seen no error and no end.
    fn is_reusable(&self, conn: &mut PostgresConn, _: &ConnInfo) -> bool {
        !conn.is_closed()
    }

    fn classify(&self, error: &Error) -> ConnectFault {
        if error.is_of_the_client() { ConnectFault::Client } else { ConnectFault::of(error) }
    }

    async fn check(&self, conn: &mut PostgresConn) -> Result<(), Error> {
        match self.role {
            TargetRole::Any => Ok(conn.batch_execute("").await?),
            _ => self.check_role(conn).await,
        }
    }

    fn after_use(&self, conn: &mut PostgresConn, ended: Ended) -> AfterUse {
        if conn.is_closed() {
            return AfterUse::Close;
        }
        conn.is_cut_short = ended != Ended::Released;
        match self.reset {
            _ if conn.is_cut_short => AfterUse::Recycle,
            Reset::Nothing => AfterUse::Reuse,
            Reset::Transaction => {
                // Sent by the first poll, ahead of the next caller's requests.
                let _unanswered = conn.roll_back().now_or_never();
                AfterUse::Reuse
            }
            Reset::Session => AfterUse::Recycle,
        }
    }

    /// One that the server closes meanwhile is no failure: `is_reusable` refuses it.
    async fn recycle(&self, conn: &mut PostgresConn) -> Result<(), Error> {
        match self.clean(conn).await {
            Err(_) if conn.is_closed() => Ok(()),
            ended => ended,
        }
    }

    /// Sends `Terminate` and waits until the server has closed.
    fn close(&self, conn: PostgresConn, _: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        Some(conn.close())
    }
}

impl<T> fmt::Debug for PostgresConnector<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The config leaves out the password.
        let Self { config, role, reset, .. } = self;
        f.debug_struct("PostgresConnector")
            .field("config", config)
            .field("role", role)
            .field("reset", reset)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_is_that_of_the_config() {
        let role = |text: &str| PostgresConnector::new(text.parse().unwrap()).role;
        assert_eq!(role("user=a"), TargetRole::Any);
        assert_eq!(role("user=a target_session_attrs=read-write"), TargetRole::Primary);
        assert_eq!(role("user=a target_session_attrs=read-only"), TargetRole::Replica);
    }

    #[test]
    fn clones_share_the_sessions_that_linger_and_no_setting() {
        let first = PostgresConnector::new(Config::new());
        let second = first.clone().role(TargetRole::Replica).reset(Reset::Session);
        assert_eq!((first.role, first.reset), (TargetRole::Any, Reset::Transaction));
        let lingers = first.lingering.at("a").add();
        assert!(second.lingering.at("a").is_zero().now_or_never().is_none());
        drop(lingers);
        assert!(second.lingering.at("a").is_zero().now_or_never().is_some());
    }
}
