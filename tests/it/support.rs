//! Helpers that several modules share.

use connring::test_util::ScriptedConnector;
use connring::{Builder, Clock, Connector, Pool, PooledConn};

/// A pool under test, with its connector and its clock.
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
        // With this seed the rotation starts at the first server.
        let builder = Pool::builder(connector.clone()).clock(clock.clone()).seed(0);
        let pool = build(builder).build().expect("the settings are in range");
        Self { pool, connector, clock }
    }
}

/// Opens `count` connections and returns them without releasing any.
pub(crate) async fn open(rig: &Rig, count: usize) -> Vec<PooledConn<ScriptedConnector>> {
    let mut held = Vec::new();
    for _ in 0..count {
        held.push(rig.pool.acquire().await.expect("the servers accept"));
    }
    held
}

/// Runs the other tasks until each of them waits.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}

/// Returns the address of a connection's server.
pub(crate) fn server_of<C: Connector>(conn: &PooledConn<C>) -> String {
    PooledConn::info(conn).server().address().to_owned()
}

/// Polls once, and returns whether the future is pending.
pub(crate) async fn poll_once(mut future: std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}
