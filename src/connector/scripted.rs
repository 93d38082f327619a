//! A connector that follows a script, for tests: no sockets, no real time.

mod script;
mod tally;

use std::collections::HashMap;
use std::fmt;
use std::future::pending;
use std::time::Duration;

pub use self::script::{Check, Connect, Reuse};
pub use self::tally::ConnectCounts;

use self::script::{Script, Target};
use self::tally::{InFlight, Open, Tally};
use super::{ConnectFault, Connector};
use crate::clock::Clock;
use crate::conn_info::ConnInfo;
use crate::server::Server;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// A [`Connector`] whose attempts end as a script says, on the time of a [`Clock`]. Clones share script and counts.
///
/// Until it is told otherwise each attempt succeeds at once and each connection is reusable. It remembers each attempt
/// for [`connect_log`](ScriptedConnector::connect_log), for as long as it lives.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::test_util::{Connect, ScriptedConnector, conn_info};
/// use connring::{Clock, Connector, Server};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let connector = ScriptedConnector::new(Clock::tokio());
/// let server = Server::new("a:1");
/// connector.on_connect("a:1", Connect::Slow(Duration::from_secs(1)));
/// connector.next_connects("a:1", [Connect::Refuse]);
///
/// assert!(connector.connect(&server).await.is_err());
/// let mut conn = connector.connect(&server).await.unwrap();
/// let info = conn_info(server, Duration::ZERO, Duration::ZERO, 1);
/// assert!(connector.is_reusable(&mut conn, &info));
///
/// connector.kill_connections("a:1");
/// assert!(!connector.is_reusable(&mut conn, &info));
/// assert_eq!(connector.counts("a:1").open, 1);
/// drop(conn);
/// assert_eq!(connector.counts("a:1").open, 0);
/// # }
/// ```
#[derive(Clone)]
pub struct ScriptedConnector {
    shared: Arc<Shared>,
}

/// Why a scripted attempt failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptedError {
    /// By [`Connect::Refuse`] or [`Connect::SlowRefuse`]: the server's fault.
    #[error("{address} refused the connection, as scripted")]
    Refused {
        /// The address that was connected to.
        address: Arc<str>,
    },
    /// By [`Connect::LocalFault`]: the client's own fault.
    #[error("out of descriptors when connecting to {address}, as scripted")]
    LocalFault {
        /// The address that was connected to.
        address: Arc<str>,
    },
    /// By [`Check::Fail`], or since the connection was killed.
    #[error("{address} fails the check, as scripted")]
    CheckFailed {
        /// The address that was connected to.
        address: Arc<str>,
    },
}

/// A connection of a [`ScriptedConnector`]. It carries no bytes.
pub struct ScriptedConn {
    id: u64,
    /// How often the connections of its address had been killed when it was opened.
    kills_before: u64,
    last_idle: Option<Duration>,
    open: Open,
}

struct Shared {
    clock: Clock,
    next_id: AtomicU64,
    total: Tally,
    script: Mutex<Script>,
}

impl ScriptedConnector {
    /// A connector whose every attempt succeeds at once. Slow attempts take their time on `clock`.
    pub fn new(clock: Clock) -> Self {
        let script = Mutex::new(Script { default: Connect::Ok, addresses: HashMap::new(), log: Vec::new() });
        let shared = Shared { clock, next_id: AtomicU64::new(1), total: Tally::default(), script };
        Self { shared: Arc::new(shared) }
    }

    /// How attempts end from now on at addresses for which [`on_connect`](Self::on_connect) said nothing.
    pub fn set_default(&self, connect: Connect) {
        lock(&self.shared.script).default = connect;
    }

    /// How attempts of `address` end from now on.
    pub fn on_connect(&self, address: &str, connect: Connect) {
        lock(&self.shared.script).lines(address).from_then_on = Some(connect);
    }

    /// How the next attempts of `address` end, one each, before [`on_connect`](Self::on_connect) holds again. Comes
    /// after what earlier calls left.
    pub fn next_connects(&self, address: &str, attempts: impl IntoIterator<Item = Connect>) {
        // Collected first: the iterator is foreign code and must not run under the lock.
        let attempts: Vec<Connect> = attempts.into_iter().collect();
        lock(&self.shared.script).lines(address).next.extend(attempts);
    }

    /// Sets the result of `is_reusable` from now on for the connections to `address`, old and new. Default:
    /// [`Reuse::Yes`].
    pub fn set_reuse(&self, address: &str, reuse: Reuse) {
        self.target(address).reuse.store(reuse as u64, Ordering::Relaxed);
    }

    /// Sets how checks of the connections to `address` end from now on, of old connections and new ones. Default:
    /// [`Check::Ok`].
    pub fn set_check(&self, address: &str, check: Check) {
        self.target(address).check.store(check as u64, Ordering::Relaxed);
    }

    /// Makes every open connection to `address` unfit for reuse for ever, as a restart of the server does.
    pub fn kill_connections(&self, address: &str) {
        self.target(address).kills.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets whether the drop of a connection to `address` panics from now on. Default: `false`. A drop while the thread
    /// unwinds never panics.
    pub fn set_drop_panics(&self, address: &str, panics: bool) {
        self.target(address).drop_panics.store(panics, Ordering::Relaxed);
    }

    /// What was connected to at `address`.
    pub fn counts(&self, address: &str) -> ConnectCounts {
        let script = lock(&self.shared.script);
        script.addresses.get(address).map(|lines| lines.target.tally.counts()).unwrap_or_default()
    }

    /// What was connected to at all addresses together.
    pub fn total_counts(&self) -> ConnectCounts {
        let script = lock(&self.shared.script);
        // Checks are counted at their address alone, so that those of different servers share no cache line.
        let mut total = self.shared.total.counts();
        for counts in script.addresses.values().map(|lines| lines.target.tally.counts()) {
            total.reuse_checks += counts.reuse_checks;
            total.checks += counts.checks;
        }
        total
    }

    /// When `address` was connected to, on the clock, in order.
    pub fn connect_times(&self, address: &str) -> Vec<Duration> {
        let script = lock(&self.shared.script);
        script.log.iter().filter(|(tried, _)| **tried == *address).map(|(_, at)| *at).collect()
    }

    /// Which address was connected to when, on the clock, in order.
    pub fn connect_log(&self) -> Vec<(Arc<str>, Duration)> {
        lock(&self.shared.script).log.clone()
    }

    fn target(&self, address: &str) -> Arc<Target> {
        lock(&self.shared.script).lines(address).target.clone()
    }

    /// Notes the attempt and chooses how it ends.
    fn begin(&self, address: &str) -> (Connect, Open) {
        let mut script = lock(&self.shared.script);
        let default = script.default.clone();
        let lines = script.lines(address);
        let connect = lines.next.pop_front().or_else(|| lines.from_then_on.clone()).unwrap_or(default);
        let open = Open::new(self.shared.clone(), lines.target.clone());
        script.log.push((open.target.address.clone(), self.shared.clock.now()));
        (connect, open)
    }
}

impl Connector for ScriptedConnector {
    type Conn = ScriptedConn;
    type Error = ScriptedError;

    async fn connect(&self, server: &Server) -> Result<ScriptedConn, ScriptedError> {
        let address = server.address();
        let (connect, open) = self.begin(address);
        let in_flight = InFlight::new(&open);
        let clock = &self.shared.clock;
        match connect {
            Connect::Ok => {}
            Connect::Slow(after) => clock.sleep_until(clock.now().saturating_add(after)).await,
            Connect::SlowRefuse(after) => {
                clock.sleep_until(clock.now().saturating_add(after)).await;
                return Err(ScriptedError::Refused { address: open.target.address.clone() });
            }
            Connect::Refuse => return Err(ScriptedError::Refused { address: open.target.address.clone() }),
            Connect::LocalFault => return Err(ScriptedError::LocalFault { address: open.target.address.clone() }),
            Connect::Never => pending().await,
            Connect::Panic => panic!("the attempt at {address} panics, as scripted"),
        }
        drop(in_flight);
        for tally in open.tallies() {
            tally.connected.fetch_add(1, Ordering::Relaxed);
        }
        let id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let kills_before = open.target.kills.load(Ordering::Relaxed);
        Ok(ScriptedConn { id, kills_before, last_idle: None, open })
    }

    fn is_reusable(&self, conn: &mut ScriptedConn, info: &ConnInfo) -> bool {
        let target = &conn.open.target;
        target.tally.reuse_checks.fetch_add(1, Ordering::Relaxed);
        conn.last_idle = Some(info.idle());
        let reuse = target.reuse.load(Ordering::Relaxed);
        assert!(reuse != Reuse::Panic as u64, "`is_reusable` of {} panics, as scripted", target.address);
        reuse == Reuse::Yes as u64 && conn.is_alive()
    }

    fn classify(&self, error: &ScriptedError) -> ConnectFault {
        match error {
            ScriptedError::LocalFault { .. } => ConnectFault::Client,
            ScriptedError::Refused { .. } | ScriptedError::CheckFailed { .. } => ConnectFault::Server,
        }
    }

    async fn check(&self, conn: &mut ScriptedConn) -> Result<(), ScriptedError> {
        let target = &conn.open.target;
        target.tally.checks.fetch_add(1, Ordering::Relaxed);
        let check = target.check.load(Ordering::Relaxed);
        assert!(check != Check::Panic as u64, "the check of {} panics, as scripted", target.address);
        if check == Check::Never as u64 {
            pending::<()>().await;
        }
        if check == Check::Ok as u64 && conn.is_alive() {
            return Ok(());
        }
        Err(ScriptedError::CheckFailed { address: target.address.clone() })
    }
}

impl ScriptedConn {
    /// Its number, unique in the connector. Numbers rise in the order of connecting.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The address that was connected to.
    pub fn address(&self) -> &str {
        &self.open.target.address
    }

    /// Whether it is alive: false after [`kill_connections`](ScriptedConnector::kill_connections).
    pub fn is_alive(&self) -> bool {
        self.open.target.kills.load(Ordering::Relaxed) == self.kills_before
    }

    /// The idle time that the last call of `is_reusable` was given. `None` before the first.
    pub fn last_idle(&self) -> Option<Duration> {
        self.last_idle
    }
}

impl fmt::Debug for ScriptedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedConnector").field("total_counts", &self.total_counts()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ScriptedConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedConn")
            .field("id", &self.id)
            .field("address", &self.address())
            .field("alive", &self.is_alive())
            .field("last_idle", &self.last_idle)
            .finish()
    }
}

impl Drop for ScriptedConn {
    fn drop(&mut self) {
        // `open` is dropped after this, also when this panics.
        if self.open.target.drop_panics.load(Ordering::Relaxed) && !std::thread::panicking() {
            panic!("the drop of connection {} to {} panics, as scripted", self.id, self.address());
        }
    }
}

#[cfg(test)]
mod tests;
