//! The hooks of a connector: what they are asked, when, and what follows.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::{
    AcquireError, AfterUse, Builder, Clock, CloseReason, ConnInfo, Connector, Ejection, Ended, Pool, PooledConn,
    Server, ServerState,
};

use crate::support::settle;

/// What a connector was told to do, and what it was asked.
#[derive(Default)]
struct Script {
    after_use: HashMap<bool, AfterUse>,
    recycle: Option<Recycle>,
    goodbye: Option<Goodbye>,
    recycled: u32,
    closed: Vec<CloseReason>,
    reuse_asked: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Recycle {
    Fails,
    Hangs,
    Takes(Duration),
    Panics,
}

#[derive(Clone, Copy)]
enum Goodbye {
    Takes(Duration),
    Hangs,
}

#[derive(Clone)]
struct Hooked {
    clock: Clock,
    script: Arc<Mutex<Script>>,
}

impl Hooked {
    fn script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.script.lock().expect("no panic under the lock"))
    }

    fn on(&self, ended: Ended, after: AfterUse) {
        self.script(|script| script.after_use.insert(ended == Ended::Released, after));
    }
}

impl Connector for Hooked {
    type Conn = Server;
    type Error = io::Error;

    async fn connect(&self, server: &Server) -> io::Result<Server> {
        Ok(server.clone())
    }

    fn is_reusable(&self, _: &mut Server, _: &ConnInfo) -> bool {
        self.script(|script| script.reuse_asked += 1);
        true
    }

    fn after_use(&self, _: &mut Server, ended: Ended) -> AfterUse {
        let default = if ended == Ended::Released { AfterUse::Reuse } else { AfterUse::Close };
        self.script(|script| script.after_use.get(&(ended == Ended::Released)).copied().unwrap_or(default))
    }

    async fn recycle(&self, _: &mut Server) -> io::Result<()> {
        let recycle = self.script(|script| {
            script.recycled += 1;
            script.recycle
        });
        match recycle {
            None => Ok(()),
            Some(Recycle::Fails) => Err(io::Error::other("no rollback")),
            Some(Recycle::Hangs) => pending().await,
            Some(Recycle::Panics) => panic!("recycle panics, as told"),
            Some(Recycle::Takes(time)) => {
                self.clock.sleep_until(self.clock.now() + time).await;
                Ok(())
            }
        }
    }

    fn close(&self, _: Server, why: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        let goodbye = self.script(|script| {
            script.closed.push(why);
            script.goodbye
        });
        let clock = self.clock.clone();
        goodbye.map(|goodbye| async move {
            match goodbye {
                Goodbye::Takes(time) => clock.sleep_until(clock.now() + time).await,
                Goodbye::Hangs => pending().await,
            }
        })
    }
}

struct Rig {
    pool: Pool<Hooked>,
    hooked: Hooked,
    clock: Clock,
}

fn rig(build: impl FnOnce(Builder<Hooked>) -> Builder<Hooked>) -> Rig {
    let clock = Clock::manual();
    let hooked = Hooked { clock: clock.clone(), script: Arc::default() };
    let builder = Pool::builder(hooked.clone()).clock(clock.clone()).server("a").max_conns_per_server(1);
    Rig { pool: build(builder).build().expect("in range"), hooked, clock }
}

impl Rig {
    async fn acquire(&self) -> PooledConn<Hooked> {
        self.pool.acquire().await.expect("it accepts")
    }

    fn counts(&self) -> (u32, usize, u32) {
        let server = self.pool.status().servers.remove(0);
        (server.open, server.idle, server.closing)
    }

    async fn advance(&self, time: Duration) {
        self.clock.advance(time);
        settle().await;
    }
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_dropped_connection_is_reused_if_the_connector_says_so() {
    let rig = rig(|builder| builder);
    rig.hooked.on(Ended::Dropped, AfterUse::Reuse);
    drop(rig.acquire().await);
    assert_eq!(rig.counts(), (1, 1, 0));
    let again = rig.pool.try_acquire().expect("it is idle");
    assert_eq!(PooledConn::info(&again).uses(), 1);
    drop(again);
    let totals = rig.pool.status().totals;
    assert!(totals.successes <= totals.checkouts && totals.failures == 0, "{totals:?}");
}

#[tokio::test]
async fn a_connection_that_is_dropped_by_a_panic_closes_unasked() {
    let rig = rig(|builder| builder);
    rig.hooked.on(Ended::Dropped, AfterUse::Reuse);
    let conn = rig.acquire().await;
    let panicked = tokio::spawn(async move {
        let _conn = conn;
        panic!("a request panics");
    });
    assert!(panicked.await.is_err());
    assert_eq!(rig.counts(), (0, 0, 0));
    assert_eq!(rig.pool.status().totals.closes(CloseReason::Dropped), 1);
}

#[tokio::test]
async fn a_released_connection_closes_if_the_connector_says_so() {
    let rig = rig(|builder| builder);
    rig.hooked.on(Ended::Released, AfterUse::Close);
    rig.acquire().await.release();
    assert_eq!(rig.counts(), (0, 0, 0));
    let totals = rig.pool.status().totals;
    assert_eq!((totals.checkouts, totals.successes, totals.closes(CloseReason::Unfit)), (1, 1, 1));
}

#[tokio::test]
async fn callers_wait_for_a_connection_that_is_recycled() {
    let rig = rig(|builder| builder.max_conns_per_server(8));
    rig.hooked.script(|script| script.recycle = Some(Recycle::Takes(10 * MS)));
    for ended in [Ended::Released, Ended::Dropped] {
        rig.hooked.on(ended, AfterUse::Recycle);
        let conn = rig.acquire().await;
        match ended {
            Ended::Released => conn.release(),
            _ => drop(conn),
        }
        settle().await;
        assert_eq!(rig.counts(), (1, 0, 0), "it is out of the queue and keeps its permit");
        let waiter = tokio::spawn({
            let pool = rig.pool.clone();
            async move { pool.acquire_now().await }
        });
        settle().await;
        assert_eq!(rig.counts().0, 1, "no other attempt starts");
        rig.advance(10 * MS).await;
        let served = waiter.await.expect("no panic").expect("it is served by the recycled one");
        assert_eq!(PooledConn::info(&served).uses() % 2, 1);
        rig.hooked.on(Ended::Released, AfterUse::Reuse);
        served.release();
    }
    assert_eq!(rig.hooked.script(|script| script.recycled), 2);
    assert_eq!(rig.pool.status().totals.connects, 1);
}

#[tokio::test]
async fn a_failed_recycle_closes_the_connection_and_counts_one_reported_failure() {
    for (recycle, cause) in [(Recycle::Fails, "no rollback"), (Recycle::Hangs, "RecycleTimeout")] {
        let ejection = Ejection::new().consecutive_failures(2);
        let rig = rig(|builder| builder.server("b").ejection(ejection).connect_timeout(50 * MS));
        rig.hooked.on(Ended::Released, AfterUse::Recycle);
        rig.hooked.script(|script| script.recycle = Some(recycle));
        for _ in 0..2 {
            let mut held = Vec::new();
            for _ in 0..2 {
                held.push(rig.acquire().await);
            }
            let at = held.iter().position(|conn| conn.address() == "a").expect("each has one connection");
            held.swap_remove(at).release();
            settle().await;
            rig.advance(50 * MS).await;
            held.pop().expect("the other").discard();
        }
        let status = rig.pool.status();
        assert!(matches!(status.servers[0].state, ServerState::Ejected { .. }), "{status:?}");
        assert_eq!(status.servers[0].totals.closes(CloseReason::RecycleFailed), 2);
        assert_eq!(status.servers[0].totals.failures, 2);
        let held = rig.acquire().await;
        let Err(AcquireError::Unavailable(error)) = rig.pool.acquire_now().await else { panic!("both are out of use") };
        let text = format!("{:?}", error.servers()[0].reason);
        assert!(text.contains(cause), "{text}");
        drop(held);
    }
}

#[tokio::test]
async fn a_panic_of_recycle_closes_the_connection_and_loses_nothing() {
    let rig = rig(|builder| builder);
    rig.hooked.on(Ended::Released, AfterUse::Recycle);
    rig.hooked.script(|script| script.recycle = Some(Recycle::Panics));
    rig.acquire().await.release();
    settle().await;
    assert_eq!(rig.counts(), (0, 0, 0));
    assert_eq!(rig.pool.status().totals.checkouts, 1);
    rig.hooked.script(|script| script.recycle = None);
    rig.acquire().await.release();
    settle().await;
    assert_eq!(rig.counts(), (1, 1, 0));
}

#[tokio::test]
async fn a_recycle_ends_when_the_server_is_removed_or_the_pool_closed() {
    let rig = rig(|builder| builder);
    rig.hooked.on(Ended::Released, AfterUse::Recycle);
    rig.hooked.script(|script| script.recycle = Some(Recycle::Hangs));
    rig.acquire().await.release();
    settle().await;
    rig.pool.close().await;
    assert_eq!(rig.pool.status().totals.closes(CloseReason::PoolClosed), 1);
}

#[test]
fn a_connection_to_recycle_closes_where_the_runtime_is_gone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let rig = runtime.block_on(async {
        let rig = rig(|builder| builder);
        let conn = rig.acquire().await;
        (rig, conn)
    });
    let (rig, conn) = rig;
    drop(runtime);
    rig.hooked.on(Ended::Released, AfterUse::Recycle);
    conn.release();
    assert_eq!(rig.pool.status().totals.closed(), 1);
}

#[tokio::test]
async fn the_connector_says_goodbye_where_the_connection_works() {
    let rig = rig(|builder| builder.goodbye_timeout(100 * MS));
    rig.hooked.script(|script| script.goodbye = Some(Goodbye::Takes(30 * MS)));
    rig.acquire().await.release();
    rig.pool.reset();
    settle().await;
    assert_eq!(rig.counts(), (1, 0, 1), "it keeps its permit");
    assert_eq!(rig.pool.status().servers[0].in_use, 0);
    rig.advance(30 * MS).await;
    assert_eq!(rig.counts(), (0, 0, 0));
    rig.hooked.script(|script| script.goodbye = Some(Goodbye::Hangs));
    rig.acquire().await.release();
    rig.pool.reset();
    rig.advance(99 * MS).await;
    assert_eq!(rig.counts(), (1, 0, 1));
    rig.advance(MS).await;
    assert_eq!(rig.counts(), (0, 0, 0), "after the goodbye timeout it is dropped");
    assert_eq!(rig.hooked.script(|script| std::mem::take(&mut script.closed)), [CloseReason::Reset; 2]);
}

#[tokio::test]
async fn closing_the_pool_waits_for_goodbyes() {
    let rig = rig(|builder| builder);
    rig.hooked.script(|script| script.goodbye = Some(Goodbye::Takes(30 * MS)));
    rig.acquire().await.release();
    let close = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.close().await }
    });
    settle().await;
    assert!(!close.is_finished());
    rig.advance(30 * MS).await;
    close.await.expect("no panic");
    assert_eq!(rig.hooked.script(|script| script.closed.clone()), [CloseReason::PoolClosed]);
}

#[tokio::test]
async fn no_goodbye_on_a_connection_that_failed_or_was_dropped() {
    let rig = rig(|builder| builder);
    rig.acquire().await.discard();
    rig.acquire().await.fail("no answer");
    rig.acquire().await.broken("reset by peer");
    drop(rig.acquire().await);
    let _detached = rig.acquire().await.detach();
    assert!(rig.hooked.script(|script| script.closed.is_empty()));
}
