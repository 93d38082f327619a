//! Each change of a server's state is one event.

use std::task;

use connring::{AfterUse, Ended};

use super::*;

/// The level and fields of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Recorded {
    level: Level,
    fields: BTreeMap<&'static str, String>,
}

/// A layer that records the pool's events.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Vec<Recorded>>>);

impl Recorder {
    /// The events but those of connections.
    pub(crate) fn take(&self) -> Vec<Recorded> {
        self.take_those(|event| event.field("connection").is_empty())
    }

    fn take_those(&self, wanted: impl Fn(&Recorded) -> bool) -> Vec<Recorded> {
        self.0.lock().expect("the lock is not poisoned").extract_if(.., |event| wanted(event)).collect()
    }
}

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target().starts_with("connring") {
            let mut recorded = Recorded { level: *event.metadata().level(), fields: BTreeMap::new() };
            event.record(&mut recorded);
            self.0.lock().expect("the lock is not poisoned").push(recorded);
        }
    }
}

impl Visit for Recorded {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl Recorded {
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub(super) fn is_warning(&self) -> bool {
        self.level == Level::WARN
    }
}

/// Records the events of the current thread until the guard is dropped.
pub(crate) fn record() -> (Recorder, DefaultGuard) {
    // With a single subscriber in the process, a thread without one that reaches an event first would disable the event
    // for all threads.
    static ANOTHER: OnceLock<Dispatch> = OnceLock::new();
    ANOTHER.get_or_init(|| Dispatch::new(tracing_subscriber::registry()));
    let recorder = Recorder::default();
    let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(recorder.clone()));
    (recorder, guard)
}

/// The levels and some fields of the events about server "a".
fn about_a(events: &[Recorded]) -> Vec<(Level, [&str; 4])> {
    assert!(events.iter().all(|event| event.field("pool") == "default"), "{events:?}");
    let about_a = events.iter().filter(|event| event.field("server") == "a");
    let fields = |event| ["state", "cause", "failures", "retry_after"].map(|name| Recorded::field(event, name));
    about_a.map(|event| (event.level, fields(event))).collect()
}

#[tokio::test]
async fn each_state_change_of_server_is_one_event() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(steady);
    rig.connector.next_connects("a", [Connect::Refuse, Connect::LocalFault, Connect::Ok]);
    let waiter = waiting(&rig);
    pass(&rig, MINUTE * 3, async || {}).await;
    waiter.await.expect("the caller was served").release();
    rig.pool.deregister("a").expect("the server is registered");
    let refused = "connect failed: a refused the connection, as scripted";
    let fault = "connect failed: out of descriptors when connecting to a, as scripted";
    let expected = [
        (Level::INFO, ["registered", "", "", ""]),
        (Level::WARN, ["", refused, "1", "60s"]),
        (Level::WARN, ["down", refused, "", "60s"]),
        (Level::INFO, ["probing", "", "", ""]),
        (Level::WARN, ["", fault, "2", "90s"]),
        (Level::INFO, ["probing", "", "", ""]),
        (Level::INFO, ["recovering", "", "", ""]),
        (Level::INFO, ["up", "", "", ""]),
        (Level::INFO, ["draining", "", "", ""]),
        (Level::INFO, ["gone", "", "", ""]),
    ];
    assert_eq!(about_a(&recorder.take()), expected);
}

#[tokio::test]
async fn ejection_is_an_event_and_a_report_before_it_is_a_debug_event() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(|b| steady(b).server("b").ejection(Ejection::new().consecutive_failures(2)));
    let [of_a, _of_b] = acquired_of_each(&rig, 4).await;
    recorder.take();
    let [first, second, stale, works] = of_a.try_into().expect("there are four");
    first.fail("no answer");
    second.fail_for("too many requests", SECOND * 7);
    stale.fail("no answer");
    works.release();
    let reported = |text: &str| format!("a caller reported a failure: {text}");
    let [no_answer, requests] = ["no answer", "too many requests"].map(reported);
    let expected = [
        (Level::DEBUG, ["", &no_answer, "1", ""]),
        (Level::WARN, ["ejected", &requests, "", "7s"]),
        (Level::DEBUG, ["", &no_answer, "", ""]),
    ];
    assert_eq!(about_a(&recorder.take()), expected);
}

#[tokio::test]
async fn events_and_status_carry_pool_name() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(|b| b.name("sessions").server("a"));
    acquired(&rig).await.discard();
    rig.pool.deregister("a").expect("the server is registered");
    let events = recorder.take();
    assert_eq!(events.len(), 3, "registered, draining, gone: {events:?}");
    assert!(events.iter().all(|event| event.field("pool") == "sessions"), "{events:?}");
    assert_eq!(&*rig.pool.status().name, "sessions");
}

#[tokio::test]
async fn removed_server_is_gone_after_last_connection_is_returned() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(|b| b.server("a").max_conns_per_server(2));
    let [first, last] = [acquired(&rig).await, acquired(&rig).await];
    rig.pool.deregister("a").expect("the server is registered");
    let states = || recorder.take().iter().map(|event| event.field("state").to_owned()).collect::<Vec<_>>();
    assert_eq!(states(), ["registered", "draining"]);
    first.release();
    assert_eq!(states(), [""; 0]);
    last.discard();
    assert_eq!(states(), ["gone"]);
}

/// The warnings of a pool whose callers end uses in this way, this often.
async fn warnings_after(rig: &Rig, recorder: &Recorder, uses: usize, end: fn(PooledConn<ScriptedConnector>)) -> usize {
    recorder.take();
    for _ in 0..uses {
        end(acquired(rig).await);
    }
    let events = recorder.take();
    let warnings: Vec<_> = events.iter().filter(|event| event.is_warning()).collect();
    for warning in &warnings {
        assert_eq!(warning.field("pool"), "default");
        let text = warning.field("message");
        assert!(text.starts_with("100 connections were closed") && text.contains("call `release`"), "{text}");
    }
    warnings.len()
}

#[tokio::test]
async fn callers_that_drop_all_connections_are_warned_of_once() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(|b| b.server("a"));
    let a_success = |mut conn: PooledConn<ScriptedConnector>| conn.report_success();
    assert_eq!(warnings_after(&rig, &recorder, 200, PooledConn::discard).await, 0);
    assert_eq!(warnings_after(&rig, &recorder, 200, a_success).await, 0, "it was meant to close");
    assert_eq!(warnings_after(&rig, &recorder, 99, drop).await, 0);
    assert_eq!(warnings_after(&rig, &recorder, 1, drop).await, 1);
    assert_eq!(warnings_after(&rig, &recorder, 300, drop).await, 0);
}

#[tokio::test]
async fn callers_that_return_a_connection_may_drop_the_others() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(|b| b.server("a"));
    assert_eq!(warnings_after(&rig, &recorder, 99, drop).await, 0);
    assert_eq!(warnings_after(&rig, &recorder, 1, PooledConn::release).await, 0);
    assert_eq!(warnings_after(&rig, &recorder, 300, drop).await, 0);
    // Nor are they warned of whose connector recycles all that come back.
    let rig = Rig::manual(|b| b.server("a"));
    rig.connector.set_after_use("a", Ended::Released, AfterUse::Recycle);
    assert_eq!(warnings_after(&rig, &recorder, 1, PooledConn::release).await, 0);
    assert_eq!(warnings_after(&rig, &recorder, 300, drop).await, 0);
}

#[tokio::test]
async fn no_event_without_state_change() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(|b| b.server(Server::new("a").max_rps(1_000.0)).server("b").max_conns_per_server(2));
    assert_eq!(recorder.take().len(), 2, "registered");
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let pool = rig.pool.clone();
        callers.spawn(async move {
            for round in 0..100 {
                let conn = match pool.try_acquire() {
                    Ok(conn) => conn,
                    Err(_) => pool.acquire().await.expect("the servers serve"),
                };
                yield_now().await;
                match (round + caller) % 9 {
                    0 => conn.discard(),
                    1 => drop(conn.detach()),
                    _ => conn.release(),
                }
            }
        });
    }
    while !callers.is_empty() {
        while let Some(ended) = callers.try_join_next() {
            ended.expect("each caller was served");
        }
        rig.clock.advance(MILLISECOND);
        settle().await;
    }
    assert_eq!(recorder.take(), []);
}

#[tokio::test]
async fn each_connection_has_an_event_when_it_opens_and_one_with_the_reason_when_it_closes() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(|b| steady(b).name("sessions").max_conns_per_server(1));
    rig.pool.acquire().await.expect("it accepts").release();
    rig.pool.acquire().await.expect("it is idle").discard();
    drop(rig.pool.acquire().await.expect("it accepts"));
    let events = recorder.take_those(|event| !event.field("connection").is_empty());
    let fields = |event| ["pool", "server", "connection", "why", "uses"].map(|name| Recorded::field(event, name));
    let fields: Vec<_> = events.iter().map(|event| (event.level, fields(event))).collect();
    let expected = [
        (Level::DEBUG, ["sessions", "a", "open", "", ""]),
        (Level::DEBUG, ["sessions", "a", "closed", "discarded", "2"]),
        (Level::DEBUG, ["sessions", "a", "open", "", ""]),
        (Level::DEBUG, ["sessions", "a", "closed", "dropped", "1"]),
    ];
    assert_eq!(fields, expected);
}

#[tokio::test]
async fn disabling_and_enabling_are_events() {
    let (recorder, _guard) = record();
    let rig = Rig::manual(steady);
    recorder.take();
    rig.pool.disable("a", Some(SECOND)).expect("the server is registered");
    pass(&rig, SECOND * 2, async || {}).await;
    rig.pool.enable("a").expect("the server is registered");
    rig.pool.drain("a", SECOND).await.expect("the server is registered");
    let events = recorder.take();
    let states: Vec<_> = events.iter().map(|event| ["state", "ends_in"].map(|name| event.field(name))).collect();
    assert_eq!(states, [["disabled", "1s"], ["enabled", ""], ["disabled", ""]]);
    assert_eq!(about_a(&events).iter().filter(|(level, _)| *level == Level::INFO).count(), 3);
}

#[tokio::test]
async fn followed_set_that_is_refused_is_a_warning() {
    struct Once(Option<[&'static str; 2]>);
    impl futures_core::Stream for Once {
        type Item = [&'static str; 2];
        fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut task::Context<'_>) -> task::Poll<Option<Self::Item>> {
            task::Poll::Ready(self.0.take())
        }
    }
    let (recorder, _guard) = record();
    let rig = Rig::manual(steady);
    recorder.take();
    let _follow = rig.pool.follow(Once(Some(["b", "b"]))).expect("there is a runtime");
    settle().await;
    let [event] = recorder.take().try_into().expect("one event");
    assert!(event.is_warning());
    assert_eq!(event.field("cause"), "server \"b\" is registered already or listed twice");
}
