//! A connector that follows a script, for tests: no sockets, no real time.

mod script;
mod tally;

use std::collections::HashMap;
use std::fmt;
use std::future::{Future, pending};
use std::time::Duration;

pub use self::script::{Connect, Reuse, RoundTrip};
pub use self::tally::ConnectCounts;

use self::script::{Lines, Script, Target};
use self::tally::{InFlight, Open, Tally};
use super::{AfterUse, CloseReason, ConnectFault, Connector, Ended};
use crate::clock::Clock;
use crate::conn_info::ConnInfo;
use crate::server::Server;
use crate::sync::{Arc, AtomicU64, Mutex, Ordering, lock};

/// A [`Connector`] whose attempts end as a script says, on the time of a [`Clock`]. Clones share script and counts.
///
/// Until it is told otherwise each attempt succeeds at once, each connection is reusable, and the other hooks do as
/// their defaults. It remembers each attempt for [`connect_log`](ScriptedConnector::connect_log) and each call of
/// `close` for [`closes`](ScriptedConnector::closes), for as long as it lives.
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
    /// By [`RoundTrip::Fail`], or since the connection was killed.
    #[error("{address} fails the check, as scripted")]
    CheckFailed {
        /// The address that was connected to.
        address: Arc<str>,
    },
    /// By [`ScriptedConnector::set_recycle`], or since the connection was killed.
    #[error("{address} fails the recycling, as scripted")]
    RecycleFailed {
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

    /// Sets what `after_use` answers from now on for the connections to `address`, where their use ended so. Default:
    /// [`AfterUse::of`] the end.
    pub fn set_after_use(&self, address: &str, ended: Ended, answer: AfterUse) {
        self.target(address).after_use[ended as usize].store(answer as u64, Ordering::Relaxed);
    }

    /// Sets how checks of the connections to `address` end from now on, of old connections and new ones. Default:
    /// [`RoundTrip::Ok`].
    pub fn set_check(&self, address: &str, check: RoundTrip) {
        lock(&self.shared.script).lines(address).check = check;
    }

    /// Sets how recyclings of the connections to `address` end from now on. Default: [`RoundTrip::Ok`].
    pub fn set_recycle(&self, address: &str, recycle: RoundTrip) {
        lock(&self.shared.script).lines(address).recycle = recycle;
    }

    /// Sets how goodbyes of the connections to `address` end from now on. `None` says no goodbye, and the connection is
    /// dropped. Default: `None`.
    pub fn set_close(&self, address: &str, close: Option<RoundTrip>) {
        lock(&self.shared.script).lines(address).close = close;
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
        // The hooks are counted at their address alone, so that those of different servers share no cache line.
        let mut total = self.shared.total.counts();
        for counts in script.addresses.values().map(|lines| lines.target.tally.counts()) {
            total.reuse_checks += counts.reuse_checks;
            total.checks += counts.checks;
            total.after_uses += counts.after_uses;
            total.recycles += counts.recycles;
        }
        total
    }

    /// Why `close` was asked for the connections to `address`, in order. Also where it said no goodbye.
    pub fn closes(&self, address: &str) -> Vec<CloseReason> {
        let script = lock(&self.shared.script);
        script.addresses.get(address).map(|lines| lines.closes.clone()).unwrap_or_default()
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

    /// Whether the script allows a reuse of a connection to `address`.
    pub(super) fn may_reuse(&self, address: &str) -> bool {
        self.target(address).may_reuse()
    }

    /// Plays a check or a recycling, and returns whether it succeeds.
    async fn play(&self, conn: &ScriptedConn, what: &str, how: fn(&Lines) -> RoundTrip) -> bool {
        let how = how(lock(&self.shared.script).lines(conn.address()));
        how.play(&self.shared.clock, what).await && conn.is_alive()
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
        conn.last_idle = Some(info.idle());
        conn.open.target.may_reuse() && conn.is_alive()
    }

    fn after_use(&self, conn: &mut ScriptedConn, ended: Ended) -> AfterUse {
        conn.open.target.after_use(ended)
    }

    fn classify(&self, error: &ScriptedError) -> ConnectFault {
        match error {
            ScriptedError::LocalFault { .. } => ConnectFault::Client,
            ScriptedError::Refused { .. } | ScriptedError::CheckFailed { .. } | ScriptedError::RecycleFailed { .. } => {
                ConnectFault::Server
            }
        }
    }

    async fn recycle(&self, conn: &mut ScriptedConn) -> Result<(), ScriptedError> {
        let target = &conn.open.target;
        target.tally.recycles.fetch_add(1, Ordering::Relaxed);
        let succeeds = self.play(conn, "recycling", |lines| lines.recycle).await;
        if succeeds { Ok(()) } else { Err(ScriptedError::RecycleFailed { address: target.address.clone() }) }
    }

    async fn check(&self, conn: &mut ScriptedConn) -> Result<(), ScriptedError> {
        let target = &conn.open.target;
        target.tally.checks.fetch_add(1, Ordering::Relaxed);
        let succeeds = self.play(conn, "check", |lines| lines.check).await;
        if succeeds { Ok(()) } else { Err(ScriptedError::CheckFailed { address: target.address.clone() }) }
    }

    fn close(&self, conn: ScriptedConn, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        let how = {
            let mut script = lock(&self.shared.script);
            let lines = script.lines(conn.address());
            lines.closes.push(why);
            lines.close?
        };
        let clock = self.shared.clock.clone();
        Some(async move {
            how.play(&clock, "goodbye").await;
            drop(conn);
        })
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
