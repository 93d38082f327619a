//! A pool in which everything has happened that the histograms and most counters tell of.

use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{Clock, Observer, Pool, PooledConn};

pub(crate) const POOL: &str = "sessions";
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const CONNECT: Duration = Duration::from_millis(20);

pub(crate) struct Scenario {
    pub(crate) pool: Pool<ScriptedConnector>,
    pub(crate) script: ScriptedConnector,
    /// In use.
    pub(crate) held: Vec<PooledConn<ScriptedConnector>>,
}

/// Two servers with two connections each, of which one refuses its first connect. On tokio's paused time.
pub(crate) async fn scenario(observer: impl Observer) -> Scenario {
    let clock = Clock::tokio();
    let script = ScriptedConnector::new(clock.clone());
    script.set_default(Connect::Slow(CONNECT));
    script.next_connects("10.0.0.2:6379", [Connect::Refuse]);
    let builder = Pool::builder(script.clone()).clock(clock).name(POOL).observer(observer);
    let builder = builder.servers(["10.0.0.1:6379", "10.0.0.2:6379"]).max_conns_per_server(2);
    let pool = builder.build().expect("the settings are in range");
    let mut held = Vec::new();
    while held.len() < 4 {
        held.push(pool.acquire().await.expect("a server accepts in time"));
    }
    assert!(pool.acquire_timeout(SECOND / 2).await.is_err(), "all connections are in use");
    held.pop().expect("there are four").release();
    held.pop().expect("there are three").discard();
    held.pop().expect("there are two").release();
    // Until the uses are counted.
    tokio::time::sleep(SECOND * 3).await;
    Scenario { pool, script, held }
}

impl Scenario {
    pub(crate) fn open(&self) -> usize {
        self.script.total_counts().open as usize
    }
}
