//! Helpers that several modules share.

use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector};
use connring::{Builder, Clock, Connector, Ejection, Pool, PooledConn, ServerState};

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

/// One reported failure ejects a server for `time`, plus or minus a half, unless it is the last that serves.
pub(crate) fn ejects_at_once(builder: Builder<ScriptedConnector>, time: Duration) -> Builder<ScriptedConnector> {
    let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0);
    builder.ejection(ejection.base(time).max(time))
}

/// Takes a server down by an attempt that is refused. It must be the only one that may be connected to, and none of its
/// connections may have answered.
pub(crate) async fn refuse_one(rig: &Rig, address: &str) {
    rig.connector.next_connects(address, [Connect::Refuse]);
    let mut caller = std::pin::pin!(rig.pool.acquire());
    assert!(poll_once(caller.as_mut()).await, "the caller waits for the attempt");
    settle().await;
    let servers = rig.pool.status().servers;
    let server = servers.iter().find(|server| *server.address == *address).expect("the server is registered");
    assert!(matches!(server.state, ServerState::Down { .. }), "{server:?}");
}

/// Advances a manual clock in steps so short that no connect timeout takes the client for stalled.
pub(crate) async fn advance_smoothly(rig: &Rig, time: Duration) {
    const STEP: Duration = Duration::from_millis(50);
    let mut left = time;
    while !left.is_zero() {
        let step = left.min(STEP);
        rig.clock.advance(step);
        settle().await;
        left -= step;
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
