//! Interleavings and panics at bad moments, each found by reading the code against what must hold.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use connring::test_util::Connect;
use connring::{Clock, ConnectFault, Connector, Pool, PooledConn, Server, ServerState};
use tracing::dispatcher::{self, Dispatch};
use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context as LayerContext, Layer, SubscriberExt};

use crate::support::{Rig, ejects_at_once, open, server_of, settle};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Refuses, and panics when it is asked whose fault that is.
#[derive(Clone, Default)]
struct Undecided {
    attempts: Arc<AtomicU32>,
}

impl Connector for Undecided {
    type Conn = ();
    type Error = std::io::Error;

    async fn connect(&self, _server: &Server) -> Result<(), std::io::Error> {
        self.attempts.fetch_add(1, Ordering::Relaxed);
        Err(std::io::ErrorKind::ConnectionRefused.into())
    }

    fn classify(&self, _error: &std::io::Error) -> ConnectFault {
        panic!("as scripted")
    }
}

#[tokio::test(start_paused = true)]
async fn panic_of_classify_counts_as_a_failed_connect() {
    let connector = Undecided::default();
    let builder = Pool::builder(connector.clone()).clock(Clock::tokio()).server("a");
    let pool = builder.backoff(10 * SECOND, 10 * SECOND).build().expect("in range");
    pool.acquire_timeout(SECOND).await.expect_err("the server refuses");
    assert_eq!(connector.attempts.load(Ordering::Relaxed), 1);
}

/// Runs a closure on the text of each event.
struct OnEvent<F>(F);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{}={value:?} ", field.name()));
    }
}

impl<S: Subscriber, F: Fn(&str) + 'static> Layer<S> for OnEvent<F> {
    fn on_event(&self, event: &Event<'_>, _context: LayerContext<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        (self.0)(&text.0);
    }
}

/// Runs `act` on the text of each event of this thread, until the guard is dropped.
pub(crate) fn on_event(act: impl Fn(&str) + Send + Sync + 'static) -> (Dispatch, DefaultGuard) {
    // With a single subscriber in the process, an event that another thread without one comes by first would be
    // switched off for all.
    static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
    ANOTHER.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
    let dispatch = Dispatch::new(tracing_subscriber::registry().with(OnEvent(act)));
    (dispatch.clone(), dispatcher::set_default(&dispatch))
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_subscriber_does_not_keep_a_server_from_its_retry() {
    for state in ["server is down", "server serves again"] {
        let has_panicked = AtomicBool::new(false);
        let (_, _guard) = on_event(move |text| {
            assert!(!text.contains(state) || has_panicked.swap(true, Ordering::Relaxed), "as scripted");
        });
        let rig = Rig::paused(|builder| builder.server("a"));
        rig.connector.next_connects("a", [Connect::Refuse]);
        let served = rig.pool.acquire_timeout(60 * SECOND).await.map(PooledConn::release);
        assert!(served.is_ok(), "{state}: {:?}", rig.pool.status().servers[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn panic_of_a_drop_does_not_lose_the_servers_that_are_due() {
    // Without a free permit the due probe takes the place of the idle connection, whose drop panics. With one, the
    // probe connects, and the drop panics when the connections of older outages close.
    for max_conns_of_a in [2, 3] {
        let servers = [Server::new("a").max_conns(3), Server::new("b").max_conns(1)];
        let rig = Rig::paused(|b| ejects_at_once(b.servers(servers), SECOND).idle_timeout(None).max_lifetime(None));
        let (mut of_a, of_b): (Vec<_>, Vec<_>) =
            open(&rig, 4).await.into_iter().partition(|conn| server_of(conn) == "a");
        of_a.remove(0).release();
        of_a.remove(0).fail("it is loading");
        rig.pool.update(Server::new("a").max_conns(max_conns_of_a)).expect("in range");
        rig.connector.set_drop_panics("a", true);
        let pool = rig.pool.clone();
        let waiter = tokio::spawn(async move { pool.acquire().await.map(PooledConn::release).is_ok() });
        tokio::time::sleep(20 * SECOND).await;
        rig.connector.set_drop_panics("a", false);
        waiter.abort();
        tokio::time::sleep(20 * SECOND).await;
        of_b.into_iter().for_each(PooledConn::release);
        for _ in 0..3 {
            rig.pool.acquire_timeout(60 * SECOND).await.expect("b serves").release();
            settle().await;
        }
        let server = rig.pool.status().servers.remove(0);
        assert!(matches!(server.state, ServerState::Up | ServerState::Recovering), "{server:?}");
        drop(of_a);
    }
}

/// A waker that takes its time: it advances the clock.
struct SlowWaker {
    clock: Clock,
    is_done: AtomicBool,
}

impl Wake for SlowWaker {
    fn wake(self: Arc<Self>) {
        if !self.is_done.swap(true, Ordering::Relaxed) {
            self.clock.advance(20 * MS);
        }
    }
}

#[tokio::test]
async fn token_that_comes_while_waiters_are_served_is_not_missed() {
    let rig = Rig::manual(|builder| {
        let builder = builder.server(Server::new("a").max_conns(2).max_rps(100.0).burst(1)).maintenance(false);
        builder.idle_timeout(None).max_lifetime(None).wait_timeout(None)
    });
    let first = rig.pool.acquire().await.expect("there is a token");
    settle().await;
    rig.clock.advance(10 * MS);
    let second = rig.pool.acquire().await.expect("there is a token");
    first.release();
    second.release();
    settle().await;
    // Two connections are idle, and there is no token.
    let (mut first, mut second) = (pin!(rig.pool.acquire()), pin!(rig.pool.acquire()));
    let slow = Waker::from(Arc::new(SlowWaker { clock: rig.clock.clone(), is_done: AtomicBool::new(false) }));
    assert!(first.as_mut().poll(&mut Context::from_waker(&slow)).is_pending());
    assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    settle().await;
    rig.clock.advance(10 * MS);
    settle().await;
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    settle().await;
    let second = second.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(second.is_ready(), "the token came while the first waiter was woken");
}

#[tokio::test(start_paused = true)]
async fn gone_is_the_last_event_of_a_removed_server() {
    let rig = Rig::paused(|builder| builder.server("a"));
    let held = Arc::new(Mutex::new(Some(rig.pool.acquire().await.expect("it accepts"))));
    let log = Arc::new(Mutex::new(Vec::new()));
    let own: Arc<OnceLock<Dispatch>> = Arc::default();
    let (logged, dispatch) = (Arc::clone(&log), Arc::clone(&own));
    let act = move |text: &str| {
        logged.lock().expect("no panic").push(text.to_owned());
        if text.contains("registered") {
            // Another thread closes the connection before the event of the removal is recorded.
            let (held, dispatch) = (Arc::clone(&held), dispatch.get().expect("it is set").clone());
            let drops = move || dispatcher::with_default(&dispatch, || drop(held.lock().expect("no panic").take()));
            std::thread::spawn(drops).join().expect("no panic");
        }
    };
    let (dispatch, _guard) = on_event(act);
    own.set(dispatch).expect("it is set once");
    rig.pool.set_servers(["b"]).expect("in range");
    let log = log.lock().expect("no panic");
    let of_a: Vec<_> = log.iter().filter(|text| text.contains("server=a") && text.contains("state=")).collect();
    assert!(of_a.len() == 2 && of_a[0].contains("draining") && of_a[1].contains("gone"), "{of_a:#?}");
}

#[test]
fn waiter_gets_no_connection_of_a_runtime_that_is_gone() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let [first, second] = [(); 2].map(|()| runtime().expect("a runtime"));
    let clock = Clock::system();
    let connector = connring::test_util::ScriptedConnector::new(clock.clone());
    let (pool, conn) = first.block_on(async {
        let builder = Pool::builder(connector.clone()).clock(clock).server(Server::new("a").max_conns(1));
        let pool = builder.build().expect("in range");
        let conn = pool.acquire().await.expect("it accepts");
        (pool, conn)
    });
    let id = conn.id();
    second.block_on(async {
        let mut waiter = pin!(pool.acquire());
        assert!(waiter.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        // The connection is in the slot of the waiter when its runtime goes.
        conn.release();
        std::thread::spawn(move || drop(first)).join().expect("no panic");
        let conn = tokio::time::timeout(5 * SECOND, waiter).await.expect("in time").expect("it accepts");
        assert_ne!(conn.id(), id);
    });
}

/// Panics in `connect` once it is told to, and from then on in `is_reusable`.
#[derive(Clone, Default)]
struct Poisoned(Arc<AtomicBool>);

impl Connector for Poisoned {
    type Conn = ();
    type Error = std::io::Error;

    async fn connect(&self, _server: &Server) -> Result<(), std::io::Error> {
        assert!(!self.0.load(Ordering::Relaxed), "as scripted");
        Ok(())
    }

    fn is_reusable(&self, _conn: &mut (), _info: &connring::ConnInfo) -> bool {
        assert!(!self.0.load(Ordering::Relaxed), "as scripted");
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_panic_of_a_connector_does_not_end_the_process() {
    let connector = Poisoned::default();
    let pool = Pool::builder(connector.clone()).clock(Clock::tokio()).server("a").build().expect("in range");
    let held = pool.acquire().await.expect("it connects");
    pool.acquire().await.expect("it connects").release();
    let taken = pool.acquire().await.expect("it is idle");
    let waiter = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire_with(connring::AcquireOptions::new().fresh()).await.map(PooledConn::discard) }
    });
    // Before its attempt runs. The failed connect asks whether the idle connection works.
    taken.release();
    connector.0.store(true, Ordering::Relaxed);
    tokio::time::sleep(50 * MS).await;
    waiter.abort();
    assert!(pool.status().servers[0].totals.connect_failures > 0);
    drop(held);
}

/// A connection that says when it is dropped, and has a goodbye.
struct Told(Arc<Mutex<Vec<&'static str>>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.lock().expect("no holder panicked").push("connection is dropped");
    }
}

#[derive(Clone, Default)]
struct Polite(Arc<Mutex<Vec<&'static str>>>);

impl Connector for Polite {
    type Conn = Told;
    type Error = std::io::Error;

    async fn connect(&self, _server: &Server) -> Result<Told, std::io::Error> {
        Ok(Told(Arc::clone(&self.0)))
    }

    fn close(&self, conn: Told, _why: connring::CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        Some(async move { drop(conn) })
    }
}

/// The permit of a connection whose goodbye never ran is free only once the connection is dropped.
#[test]
fn goodbye_without_a_runtime_drops_the_connection_before_its_permit() {
    let connector = Polite::default();
    let told = Arc::clone(&connector.0);
    let (_, _guard) = on_event(move |text| {
        if text.contains("connection is closed") {
            told.lock().expect("no holder panicked").push("permit is free");
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it builds");
    let pool = Pool::builder(connector.clone()).runtime(runtime.handle().clone()).server("a").maintenance(false);
    let pool = pool.build().expect("in range");
    runtime.block_on(async { pool.acquire().await.expect("it connects").release() });
    drop(runtime);
    assert_eq!(*connector.0.lock().expect("no holder panicked"), ["connection is dropped", "permit is free"]);
}

#[tokio::test]
async fn panic_of_a_subscriber_keeps_no_connection_of_a_removed_server_open() {
    for state in ["server is registered", "server is removed", "server is gone"] {
        let (_, _guard) = on_event(move |text| assert!(!text.contains(state), "as scripted"));
        let rig = Rig::manual(|builder| builder.server("a"));
        rig.pool.acquire().await.expect("it accepts").release();
        rig.pool.set_servers(["b"]).expect("in range");
        assert_eq!(rig.connector.counts("a").open, 0, "{state}");
        rig.pool.close().await;
    }
}

/// A connection whose drop waits for a word.
struct SlowDrop(Arc<Mutex<Receiver<()>>>);

impl Drop for SlowDrop {
    fn drop(&mut self) {
        let word = self.0.lock().expect("no holder panicked");
        // Another thread goes on with the timers.
        let _in_time = tokio::task::block_in_place(|| word.recv_timeout(SECOND));
    }
}

/// Refuses connects while it is told to.
#[derive(Clone)]
struct Heavy(Arc<AtomicBool>, Arc<Mutex<Receiver<()>>>);

impl Connector for Heavy {
    type Conn = SlowDrop;
    type Error = std::io::Error;

    async fn connect(&self, _server: &Server) -> Result<SlowDrop, std::io::Error> {
        let refuses = self.0.load(Ordering::Relaxed);
        if refuses { Err(std::io::ErrorKind::ConnectionRefused.into()) } else { Ok(SlowDrop(Arc::clone(&self.1))) }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovery_ends_though_drops_took_longer_than_its_interval() {
    let (word, drops) = channel();
    let connector = Heavy(Arc::default(), Arc::new(Mutex::new(drops)));
    let pool = Pool::builder(connector.clone()).server("a").backoff(100 * MS, 100 * MS);
    let pool = pool.backoff_spread_ratio(0.0).build().expect("in range");
    // An idle connection that never came back well tells nothing of the server: a refused connect takes it down.
    assert!(pool.warm_up(SECOND).await.is_complete());
    connector.0.store(true, Ordering::Relaxed);
    let fresh = || connring::AcquireOptions::new().fresh().timeout(50 * MS);
    let refused = tokio::spawn({
        let pool = pool.clone();
        async move { pool.acquire_with(fresh()).await.map(PooledConn::discard) }
    });
    refused.await.expect("it runs to its end").expect_err("it refuses");
    assert!(matches!(pool.status().servers[0].state, ServerState::Down { .. }));
    // The probe closes it before the server serves. Its caller has left by then.
    connector.0.store(false, Ordering::Relaxed);
    tokio::time::sleep(120 * MS).await;
    pool.acquire_with(fresh()).await.map(PooledConn::discard).expect_err("the drop takes longer");
    tokio::time::sleep(300 * MS).await;
    drop(word);
    // No caller waits: one would have the server probed again.
    let mut held = None;
    for _ in 0..500 {
        tokio::time::sleep(10 * MS).await;
        held = held.or_else(|| pool.try_acquire().ok());
        if held.is_some() && pool.status().servers[0].state == ServerState::Up {
            return;
        }
    }
    panic!("{:?}, a connection: {}", pool.status().servers[0].state, held.is_some());
}

#[tokio::test(start_paused = true)]
async fn the_last_event_of_a_server_that_is_removed_while_it_recovers_is_gone() {
    let states = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&states);
    let (_, _guard) = on_event(move |text| {
        let state = text.split_whitespace().find_map(|field| field.strip_prefix("state="));
        told.lock().expect("no holder panicked").extend(state.map(|state| state.trim_matches('"').to_owned()));
    });
    let rig = Rig::paused(|builder| builder.server("a"));
    rig.connector.next_connects("a", [Connect::Refuse]);
    let conn = rig.pool.acquire_timeout(60 * SECOND).await.expect("its probe connects");
    assert_eq!(rig.pool.status().servers[0].state, ServerState::Recovering);
    rig.pool.deregister("a").expect("it is registered");
    conn.release();
    let expected = ["registered", "down", "probing", "recovering", "draining", "gone"];
    assert_eq!(*states.lock().expect("no holder panicked"), expected);
}
