//! What the modules share.

use connring::test_util::ScriptedConnector;
use connring::{Builder, Clock, Connector, Pool, PooledConn};

/// A pool under test with its connector.
pub(crate) struct Rig {
    pub(crate) pool: Pool<ScriptedConnector>,
    pub(crate) connector: ScriptedConnector,
    pub(crate) clock: Clock,
}

impl Rig {
    /// A pool on tokio's clock, which the test has paused.
    pub(crate) fn paused(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Self {
        Self::on(Clock::tokio(), build)
    }

    /// A pool on a manual clock.
    pub(crate) fn manual(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Self {
        Self::on(Clock::manual(), build)
    }

    fn on(clock: Clock, build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> Self {
        let connector = ScriptedConnector::new(clock.clone());
        let builder = Pool::builder(connector.clone()).clock(clock.clone());
        let pool = build(builder).build().expect("the settings are in range");
        Self { pool, connector, clock }
    }
}

/// Opens that many connections and holds them.
pub(crate) async fn open(rig: &Rig, count: usize) -> Vec<PooledConn<ScriptedConnector>> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(rig.pool.acquire().await.expect("the servers accept"));
    }
    held
}

/// Lets all tasks run until they wait for something.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// The address of the server that a connection goes to.
pub(crate) fn server_of<C: Connector>(conn: &PooledConn<C>) -> String {
    PooledConn::info(conn).server().address().to_owned()
}
