//! An observer hears what happens, with durations, outside locks; and its panics lose nothing.

use std::error::Error;
use std::panic::panic_any;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use connring::test_util::{Connect, ScriptedConnector, ScriptedError};
use connring::{
    Builder, CloseReason, Ejection, Failure, Observer, Pool, PooledConn, Server, ServerState, StateChange, StateKind,
    WaitOutcome,
};

use crate::hazards::on_event;
use crate::support::{Rig, advance_smoothly, poll_once, settle};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Keeps what it hears as text.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Heard {
    fn add(&self, text: String) {
        self.0.lock().expect("the lock is not poisoned").push(text);
    }

    /// What was heard since the last time and begins with one of the words.
    fn take(&self, words: &[&str]) -> Vec<String> {
        let heard = std::mem::take(&mut *self.0.lock().expect("the lock is not poisoned"));
        heard.into_iter().filter(|text| words.iter().any(|word| text.starts_with(word))).collect()
    }
}

impl Observer for Heard {
    fn connected(&self, server: &Server, took: Duration) {
        self.add(format!("connected {} in {took:?}", server.name()));
    }

    fn connect_failed(&self, server: &Server, error: &(dyn Error + Send + Sync + 'static), took: Duration) {
        assert!(error.is::<Failure<ScriptedError>>());
        self.add(format!("failed {} in {took:?}: {error}", server.name()));
    }

    fn closed(&self, server: &Server, why: CloseReason, age: Duration, uses: u64) {
        self.add(format!("closed {} for {} after {age:?} and {uses} uses", server.name(), why.name()));
    }

    fn waited(&self, took: Duration, outcome: WaitOutcome) {
        self.add(format!("waited {took:?}: {}", outcome.name()));
    }

    fn state_changed(&self, server: &Server, change: &StateChange<'_>) {
        self.add(format!("state {}: {change:?}", server.name()));
    }

    fn queue_full(&self) {
        self.add("queue full".to_owned());
    }
}

/// One server whose pauses last a minute, and what an observer of its pool hears.
fn observed(build: impl FnOnce(Builder<ScriptedConnector>) -> Builder<ScriptedConnector>) -> (Rig, Heard) {
    let heard = Heard::default();
    let observer = heard.clone();
    let steady = |b: Builder<ScriptedConnector>| {
        b.server("a").backoff(MINUTE, MINUTE).backoff_spread_ratio(0.0).outage_retry(None).wait_timeout(None)
    };
    (Rig::manual(|b| build(steady(b)).observer(observer)), heard)
}

async fn acquired(rig: &Rig) -> PooledConn<ScriptedConnector> {
    rig.pool.acquire().await.expect("the server accepts")
}

#[tokio::test]
async fn hears_how_long_each_connect_attempt_took() {
    let (rig, heard) = observed(|b| b.connect_timeout(SECOND * 3));
    let words = ["connected", "failed"];
    for (connect, expected) in [
        (Connect::Slow(SECOND), "connected a in 1s"),
        (Connect::SlowRefuse(SECOND * 2), "failed a in 2s: connect failed"),
        (Connect::Never, "failed a in 3s: connect timed out after 3s"),
        (Connect::Panic, "failed a in 0ns: the connector panicked"),
    ] {
        rig.connector.next_connects("a", [connect]);
        let pool = rig.pool.clone();
        let caller = tokio::spawn(async move { pool.acquire().await.map(PooledConn::discard) });
        settle().await;
        advance_smoothly(&rig, SECOND * 4).await;
        assert_eq!(heard.take(&words), [expected]);
        caller.abort();
        advance_smoothly(&rig, MINUTE).await;
    }
}

#[tokio::test]
async fn hears_why_and_at_what_age_a_connection_closes() {
    let (rig, heard) = observed(|b| b);
    acquired(&rig).await.release();
    rig.clock.advance(SECOND * 2);
    acquired(&rig).await.discard();
    drop(acquired(&rig).await);
    let _conn = acquired(&rig).await.detach();
    let expected = [
        "closed a for discarded after 2s and 2 uses",
        "closed a for dropped after 0ns and 1 uses",
        "closed a for detached after 0ns and 1 uses",
    ];
    assert_eq!(heard.take(&["closed"]), expected);
}

#[tokio::test]
async fn hears_each_caller_that_joined_the_queue_once() {
    let (rig, heard) = observed(|b| b.max_conns_per_server(1).max_waiters(1));
    let held = acquired(&rig).await;
    let words = ["waited", "queue"];
    assert_eq!(heard.take(&words), ["waited 0ns: served"], "the connect took no time");

    let mut served = Box::pin(rig.pool.acquire());
    assert!(poll_once(served.as_mut()).await);
    assert!(rig.pool.acquire().await.is_err());
    assert_eq!(heard.take(&words), ["queue full"]);
    rig.clock.advance(SECOND);
    held.release();
    let held = served.await.expect("it was served");
    assert_eq!(heard.take(&words), ["waited 1s: served"]);

    let mut cancelled = Box::pin(rig.pool.acquire());
    assert!(poll_once(cancelled.as_mut()).await);
    rig.clock.advance(SECOND * 2);
    drop(cancelled);
    assert_eq!(heard.take(&words), ["waited 2s: cancelled"]);

    let mut late = Box::pin(rig.pool.acquire_timeout(SECOND * 3));
    assert!(poll_once(late.as_mut()).await);
    rig.clock.advance(SECOND * 3);
    assert!(late.await.is_err());
    assert_eq!(heard.take(&words), ["waited 3s: timed_out"]);

    let mut ended = Box::pin(rig.pool.acquire());
    assert!(poll_once(ended.as_mut()).await);
    rig.clock.advance(SECOND * 4);
    rig.pool.deregister("a").expect("it is registered");
    assert!(ended.await.is_err());
    assert_eq!(heard.take(&words), ["waited 4s: ended"]);
    held.discard();

    acquired_nothing(&rig).await;
    assert_eq!(heard.take(&words), [""; 0], "a caller that does not join is not heard");
}

async fn acquired_nothing(rig: &Rig) {
    assert!(rig.pool.acquire().await.is_err(), "there are no servers");
}

#[tokio::test]
async fn hears_a_caller_for_whom_waiting_is_pointless() {
    let (rig, heard) = observed(|b| b);
    rig.connector.on_connect("a", Connect::Refuse);
    assert!(rig.pool.acquire_now().await.is_err());
    assert_eq!(heard.take(&["waited"]), ["waited 0ns: ended"]);
    assert!(rig.pool.acquire_timeout(SECOND).await.is_err());
    assert_eq!(heard.take(&["waited"]), ["waited 0ns: ended"]);
}

/// The states of the events, and those that the observer heard.
#[tokio::test]
async fn hears_the_same_changes_of_state_as_events_tell() {
    let states = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&states);
    let (_, _guard) = on_event(move |text| {
        let state = text.split_once("state=\"").and_then(|(_, rest)| rest.split_once('"'));
        recorded.lock().expect("not poisoned").extend(state.map(|(state, _)| state.to_owned()));
    });
    let ejection = Ejection::new().consecutive_failures(1).base(SECOND).max(SECOND);
    let (rig, heard) = observed(|b| b.ejection(ejection));
    rig.connector.next_connects("a", [Connect::Refuse]);
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    advance_smoothly(&rig, MINUTE + SECOND).await;
    waiter.await.expect("the second attempt connects").release();
    // Another server, so that the first one may be ejected.
    rig.pool.register("b").expect("it is new");
    let conn = rig.pool.try_acquire().expect("one is idle");
    conn.fail_for("come back later", SECOND * 7);
    rig.pool.deregister("a").expect("it is registered");
    let heard = heard.take(&["state a"]);
    let expected = [
        "state a: gone to registered",
        "state a: registered to down, cause connect failed, retry after 60s",
        "state a: down to probing",
        "state a: probing to recovering",
        "state a: recovering to up",
        "state a: up to ejected, cause a caller reported a failure, retry after 7s",
        "state a: ejected to draining",
        "state a: draining to gone",
    ];
    assert_eq!(heard, expected);
    let mut told = states.lock().expect("not poisoned").clone();
    told.remove(told.iter().rposition(|state| state == "registered").expect("b was registered"));
    let to = |text: &String| {
        let (_, rest) = text.split_once(" to ").expect("it is a change");
        rest.split(',').next().expect("there is a first part").to_owned()
    };
    assert_eq!(heard.iter().map(to).collect::<Vec<_>>(), told);
}

#[test]
fn kinds_of_states_have_the_names_and_places_of_their_declaration() {
    for (index, kind) in StateKind::ALL.into_iter().enumerate() {
        assert_eq!((kind as usize, kind.name()), (index, &*format!("{kind:?}").to_lowercase()));
    }
}

/// Panics whenever it hears something, at a close with a payload that panics again.
struct Panics;

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("as scripted")
    }
}

impl Observer for Panics {
    fn connected(&self, _: &Server, _: Duration) {
        panic!("as scripted")
    }

    fn connect_failed(&self, _: &Server, _: &(dyn Error + Send + Sync + 'static), _: Duration) {
        panic!("as scripted")
    }

    fn closed(&self, _: &Server, _: CloseReason, _: Duration, _: u64) {
        panic_any(PanicsWhenDropped)
    }

    fn waited(&self, _: Duration, _: WaitOutcome) {
        panic!("as scripted")
    }

    fn state_changed(&self, _: &Server, _: &StateChange<'_>) {
        panic!("as scripted")
    }

    fn queue_full(&self) {
        panic!("as scripted")
    }
}

#[tokio::test(start_paused = true)]
async fn panics_of_an_observer_lose_nothing() {
    let rig = Rig::paused(|b| b.servers(["a", "b"]).max_conns_per_server(1).max_waiters(1).observer(Panics));
    rig.connector.next_connects("a", [Connect::Refuse, Connect::Panic]);
    rig.connector.next_connects("b", [Connect::Panic]);
    for round in 0..20 {
        let conn = rig.pool.acquire_timeout(MINUTE).await.expect("it is served");
        match round % 4 {
            0 => conn.release(),
            1 => conn.discard(),
            // Dropped while unwinding.
            2 => drop(tokio::spawn(async move { panic!("as scripted: {:?}", PooledConn::info(&conn)) }).await),
            _ => conn.fail_for("as scripted", MS),
        }
    }
    tokio::time::sleep(MINUTE).await;
    rig.pool.acquire_timeout(MINUTE).await.expect("it is served").release();
    rig.pool.set_servers(["c"]).expect("in range");
    tokio::time::sleep(SECOND).await;
    let status = rig.pool.status();
    assert_eq!((status.servers.len(), status.servers[0].open, status.waiters), (1, 0, 0), "{status:?}");
    let held = rig.pool.acquire().await.expect("it accepts");
    let mut waiter = Box::pin(rig.pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    assert!(rig.pool.acquire().await.is_err(), "the queue is full");
    held.release();
    waiter.await.expect("it is served").release();
    rig.pool.close().await;
}

/// Uses its pool at all that it hears.
#[derive(Clone, Default)]
struct Uses(Arc<OnceLock<Pool<ScriptedConnector>>>);

impl Uses {
    fn use_pool(&self) {
        let Some(pool) = self.0.get() else { return };
        assert_eq!(&*pool.status().name, "default");
        if let Ok(conn) = pool.try_acquire() {
            conn.release();
        }
        let _unknown = pool.reset_server("none");
        // What a change of servers does runs under the lock of the list.
        if pool.status().servers.len() < 4 {
            let _known = pool.register("c");
        }
    }
}

impl Observer for Uses {
    fn connected(&self, _: &Server, _: Duration) {
        self.use_pool();
    }

    fn connect_failed(&self, _: &Server, _: &(dyn Error + Send + Sync + 'static), _: Duration) {
        self.use_pool();
    }

    fn closed(&self, _: &Server, _: CloseReason, _: Duration, _: u64) {
        self.use_pool();
    }

    fn waited(&self, _: Duration, _: WaitOutcome) {
        self.use_pool();
    }

    fn state_changed(&self, _: &Server, _: &StateChange<'_>) {
        self.use_pool();
    }

    fn queue_full(&self) {
        self.use_pool();
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_may_use_the_pool() {
    let uses = Uses::default();
    let rig = Rig::paused(|b| b.servers(["a", "b"]).max_conns_per_server(1).observer(uses.clone()));
    assert!(uses.0.set(rig.pool.clone()).is_ok());
    rig.connector.next_connects("a", [Connect::Refuse]);
    for round in 0..20 {
        let conn = rig.pool.acquire_timeout(MINUTE).await.expect("it is served");
        match round % 4 {
            0 => conn.release(),
            1 => conn.discard(),
            2 => drop(rig.pool.deregister("b").map(|()| conn)),
            _ => conn.fail_for("as scripted", MS),
        }
    }
    tokio::time::sleep(MINUTE).await;
    assert!(rig.pool.status().servers.iter().any(|server| &*server.name == "c" && server.state == ServerState::Up));
    rig.pool.close().await;
}

#[tokio::test]
async fn two_observers_hear_the_same() {
    let (first, second) = (Heard::default(), Heard::default());
    let pair = (Arc::new(first.clone()), second.clone());
    let (rig, _) = observed(|b| b.max_conns_per_server(1).max_waiters(1));
    let pool = Pool::builder(rig.connector.clone()).clock(rig.clock.clone()).server("a").observer(pair);
    let pool = pool.max_conns_per_server(1).max_waiters(1).build().expect("in range");

    rig.connector.next_connects("a", [Connect::Refuse]);
    let mut waiter = Box::pin(pool.acquire());
    assert!(poll_once(waiter.as_mut()).await);
    assert!(pool.acquire().await.is_err(), "the queue is full");
    advance_smoothly(&rig, SECOND).await;
    waiter.await.expect("the second attempt succeeds").discard();

    let heard = first.take(&[""]);
    assert_eq!(second.take(&[""]), heard);
    for word in ["connected", "failed", "closed", "waited", "state", "queue full"] {
        assert!(heard.iter().any(|text| text.starts_with(word)), "{word}: {heard:?}");
    }
}
