//! A connector around a user's own, with scripted faults, for tests.

use std::fmt;
use std::future::Future;

use super::scripted::{Connect, Reuse, RoundTrip, ScriptedConnector, ScriptedError};
use super::{AfterUse, BoxError, CloseReason, ConnectFault, Connector, Ended};
use crate::clock::Clock;
use crate::conn_info::ConnInfo;
use crate::server::Server;
use crate::sync::{Arc, Mutex, lock};

/// A [`Connector`] that plays scripted faults before it asks the connector inside. Clones share both.
///
/// It has the connections of the connector inside, so the code under test is the same: a
/// [`BoxPool`](crate::BoxPool) takes it [boxed](Connector::boxed). Its errors are [`BoxError`]s: a
/// [`ScriptedError`], or that of the connector inside. Until it is told otherwise it does as the connector inside.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::test_util::{Connect, FaultyConnector, Reuse};
/// use connring::{Clock, Connector, Pool, PooledConn, Server, connect_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let own = connect_fn(|server: Server| async { Ok::<_, std::io::Error>(server) });
///
/// let clock = Clock::tokio();
/// let faulty = FaultyConnector::new(own, clock.clone());
/// faulty.on_connect("a:1", Connect::Refuse);
/// faulty.on_connect("b:1", Connect::Slow(Duration::from_secs(1)));
/// let pool = Pool::builder(faulty.clone().boxed()).clock(clock).servers(["a:1", "b:1"]).build()?;
///
/// let conn = pool.acquire().await?;
/// assert_eq!(conn.address(), "b:1");
/// conn.release();
///
/// // The server closes its idle connections.
/// faulty.set_reuse("b:1", Reuse::No);
/// let conn = pool.acquire().await?;
/// assert_eq!(PooledConn::info(&conn).uses(), 0);
/// # Ok(())
/// # }
/// ```
pub struct FaultyConnector<C> {
    inner: Arc<C>,
    script: ScriptedConnector,
    clock: Clock,
    check: Arc<Mutex<RoundTrip>>,
}

impl<C: Connector> FaultyConnector<C> {
    /// Wraps a connector. Slow attempts and checks take their time on `clock`.
    pub fn new(inner: C, clock: Clock) -> Self {
        let script = ScriptedConnector::new(clock.clone());
        Self { inner: Arc::new(inner), script, clock, check: Arc::new(Mutex::new(RoundTrip::Ok)) }
    }

    /// What happens to attempts at `address` from now on, before the connector inside is asked. It is not asked where
    /// they fail or never end. Default: [`Connect::Ok`], nothing.
    pub fn on_connect(&self, address: &str, connect: Connect) {
        self.script.on_connect(address, connect);
    }

    /// What happens to the next attempts at `address`, one each, before [`on_connect`](Self::on_connect) holds again.
    pub fn next_connects(&self, address: &str, attempts: impl IntoIterator<Item = Connect>) {
        self.script.next_connects(address, attempts);
    }

    /// Whether the connections to `address` are reusable from now on, old and new. Default: [`Reuse::Yes`], where the
    /// connector inside agrees.
    pub fn set_reuse(&self, address: &str, reuse: Reuse) {
        self.script.set_reuse(address, reuse);
    }

    /// What happens to checks from now on, before the connector inside is asked. Default: [`RoundTrip::Ok`], nothing.
    ///
    /// Holds for all addresses: a check is given the connection alone.
    pub fn set_check(&self, check: RoundTrip) {
        *lock(&self.check) = check;
    }
}

impl<C: Connector> Connector for FaultyConnector<C> {
    type Conn = C::Conn;
    type Error = BoxError;

    async fn connect(&self, server: &Server) -> Result<C::Conn, BoxError> {
        drop(self.script.connect(server).await.map_err(BoxError::new)?);
        self.inner.connect(server).await.map_err(BoxError::new)
    }

    fn is_reusable(&self, conn: &mut C::Conn, info: &ConnInfo) -> bool {
        self.script.may_reuse(info.server().address()) && self.inner.is_reusable(conn, info)
    }

    fn after_use(&self, conn: &mut C::Conn, ended: Ended) -> AfterUse {
        self.inner.after_use(conn, ended)
    }

    fn classify(&self, error: &BoxError) -> ConnectFault {
        let own = error.downcast_ref().map(|error| self.inner.classify(error));
        own.or_else(|| error.downcast_ref().map(|error| self.script.classify(error))).unwrap_or(ConnectFault::Server)
    }

    async fn recycle(&self, conn: &mut C::Conn) -> Result<(), BoxError> {
        self.inner.recycle(conn).await.map_err(BoxError::new)
    }

    async fn check(&self, conn: &mut C::Conn) -> Result<(), BoxError> {
        let check = *lock(&self.check);
        if !check.play(&self.clock, "check").await {
            return Err(BoxError::new(ScriptedError::CheckFailed { address: "the server".into() }));
        }
        self.inner.check(conn).await.map_err(BoxError::new)
    }

    fn close(&self, conn: C::Conn, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        self.inner.close(conn, why)
    }
}

// By hand: the connector inside need not be `Clone`.
impl<C> Clone for FaultyConnector<C> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
            script: self.script.clone(),
            clock: self.clock.clone(),
            check: Arc::clone(&self.check),
        }
    }
}

impl<C> fmt::Debug for FaultyConnector<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyConnector").field("script", &self.script).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::pin;
    use std::time::Duration;

    use super::*;
    use crate::connector::connect_fn;

    const SECOND: Duration = Duration::from_secs(1);

    /// Connects to the address as a text; the address "own" fails by the client's fault. All hooks are set.
    fn own() -> impl Connector<Conn = String, Error = io::Error> {
        connect_fn(|server: Server| async move {
            if server.address() == "own" { Err(io::Error::other("ours")) } else { Ok(server.address().to_owned()) }
        })
        .is_reusable(|conn, _| conn != "stale")
        .classify(|_| ConnectFault::Client)
        .after_use(|_, _| AfterUse::Recycle)
        .recycle(async |conn: &mut String| {
            conn.push_str(" recycled");
            Ok(())
        })
        .check(async |conn: &mut String| {
            conn.push_str(" checked");
            Ok(())
        })
        .close(|conn, _| async move { assert_eq!(conn, "a recycled checked") })
    }

    fn info(address: &str) -> ConnInfo {
        ConnInfo::with(Server::new(address), SECOND, SECOND, 1)
    }

    #[tokio::test(start_paused = true)]
    async fn all_hooks_of_the_connector_inside_are_asked() {
        let faulty = FaultyConnector::new(own(), Clock::tokio());
        let mut conn = faulty.connect(&Server::new("a")).await.unwrap();
        assert!(faulty.is_reusable(&mut conn, &info("a")));
        assert!(!faulty.is_reusable(&mut "stale".to_owned(), &info("a")));
        assert_eq!(faulty.after_use(&mut conn, Ended::Released), AfterUse::Recycle);
        faulty.recycle(&mut conn).await.unwrap();
        faulty.check(&mut conn).await.unwrap();
        faulty.close(conn, CloseReason::Reset).unwrap().await;
        let error = faulty.connect(&Server::new("own")).await.unwrap_err();
        assert_eq!(faulty.classify(&error), ConnectFault::Client);
        assert!(error.downcast_ref::<io::Error>().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn faults_come_before_the_connector_inside() {
        let clock = Clock::tokio();
        let faulty = FaultyConnector::new(own(), clock.clone());
        let switches = faulty.clone();
        switches.on_connect("a", Connect::Never);
        switches.next_connects("a", [Connect::Refuse, Connect::LocalFault, Connect::Slow(SECOND)]);
        let server = Server::new("a");
        for fault in [ConnectFault::Server, ConnectFault::Client] {
            let error = faulty.connect(&server).await.unwrap_err();
            assert_eq!(faulty.classify(&error), fault);
        }
        let mut conn = faulty.connect(&server).await.unwrap();
        assert!(clock.now() >= SECOND);
        assert!(tokio::time::timeout(SECOND, pin!(faulty.connect(&server))).await.is_err());
        faulty.connect(&Server::new("b")).await.unwrap();

        switches.set_reuse("a", Reuse::No);
        assert!(!faulty.is_reusable(&mut conn, &info("a")) && faulty.is_reusable(&mut conn, &info("b")));
        switches.set_check(RoundTrip::Fail);
        let error = faulty.check(&mut conn).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), conn.as_str()), ("the server fails the check, as scripted", "a"));
        switches.set_check(RoundTrip::Ok);
        faulty.check(&mut conn).await.unwrap();
        assert_eq!(conn, "a checked");
    }
}
