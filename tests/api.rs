//! The public types: `Send`, `Sync` and `Unpin`, error chains, nameable pools, and I/O through a pooled connection.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::error::Error;
use std::io;
use std::marker::PhantomPinned;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::test_util::{
    Connect, ConnectCounts, FaultyConnector, Reuse, RoundTrip, ScriptedConn, ScriptedConnector, ScriptedError,
};
use connring::{
    AcquireError, AcquireOptions, AfterUse, BoxConn, BoxConnector, BoxError, BoxPool, BuildError, Builder, Clock,
    CloseReason, CloseTimeout, ConnInfo, ConnectFault, Connector, Counts, DrainReport, Ejection, Ended, Failure,
    FnConnector, Follow, FollowError, LoadBalancing, Pool, PoolConfig, PoolStatus, PooledConn, PrefixedConfig, Reason,
    Server, ServerError, ServerReport, ServerState, ServerStatus, StateChange, StateKind, TcpConnector, Totals,
    TryAcquireError, Unavailable, WaitOutcome, WarmUpReport, WarmUpServer, WeakPool, connect_fn,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

/// Asserts at compile time that the types are `Send`, `Sync` and `Unpin`, and evaluates to their names.
macro_rules! are_send_sync_unpin {
    ($($name:ident $(<$($parameter:ty),+>)?),+ $(,)?) => {{
        $( is_send_sync_unpin::<$name $(<$($parameter),+>)?>(); )+
        [$( stringify!($name) ),+]
    }};
}

fn is_send_sync_unpin<T: Send + Sync + Unpin>() {}
fn is_send<T: Send>(_: T) {}
fn is_error<E: Error + Send + Sync + 'static>() {}

/// A connection with the one bound that a connector requires, `Send`. It is neither `Sync` nor `Unpin`.
struct Bare {
    _not_sync: Cell<u8>,
    _not_unpin: PhantomPinned,
}

struct BareConnector;

impl Connector for BareConnector {
    type Conn = Bare;
    type Error = io::Error;

    async fn connect(&self, _server: &Server) -> io::Result<Bare> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

#[test]
fn public_types_are_send_sync_and_unpin() {
    type Tcp = TcpConnector;
    let mut asserted: BTreeSet<_> = are_send_sync_unpin!(
        AcquireError<io::Error>,
        AcquireOptions,
        AfterUse,
        BoxConn<DuplexStream>,
        BoxConnector<DuplexStream>,
        BoxError,
        BoxPool<DuplexStream>,
        BuildError,
        Builder<Tcp>,
        RoundTrip,
        Clock,
        CloseReason,
        CloseTimeout,
        ConnInfo,
        Connect,
        ConnectCounts,
        ConnectFault,
        Counts,
        DrainReport,
        Ejection,
        Ended,
        Failure<io::Error>,
        FaultyConnector<Tcp>,
        Follow,
        FollowError,
        FnConnector<fn(), DuplexStream, io::Error>,
        LoadBalancing,
        Pool<Tcp>,
        PoolConfig,
        PoolStatus,
        PooledConn<Tcp>,
        PrefixedConfig<*const ()>,
        Reason<io::Error>,
        Reuse,
        ScriptedConn,
        ScriptedConnector,
        ScriptedError,
        Server,
        ServerError,
        ServerReport<io::Error>,
        ServerState,
        ServerStatus,
        StateKind,
        TcpConnector,
        Totals,
        TryAcquireError,
        Unavailable<io::Error>,
        WarmUpReport,
        WarmUpServer,
        WaitOutcome,
        WeakPool<Tcp>,
    )
    .into();
    is_send_sync_unpin::<StateChange<'_>>();
    asserted.insert("StateChange");
    #[cfg(unix)]
    asserted.extend({
        use connring::UnixConnector;
        are_send_sync_unpin!(UnixConnector)
    });
    #[cfg(not(unix))]
    asserted.insert("UnixConnector");
    assert_eq!(asserted, exported(), "the list above and the exports of src/lib.rs differ");
}

const TRAITS: &[&str] = &["Connector", "FlagPrefix", "Observer"];

/// Returns the names of the types that `src/lib.rs` and `connring::test_util` export.
fn exported() -> BTreeSet<&'static str> {
    let exports = include_str!("../src/lib.rs").split(';').filter_map(|item| item.split("pub use crate::").nth(1));
    let scripted = [
        include_str!("../src/connector/scripted.rs"),
        include_str!("../src/connector/scripted/script.rs"),
        include_str!("../src/connector/scripted/tally.rs"),
    ];
    let declared = scripted.into_iter().flat_map(str::lines).filter_map(|line| {
        let name = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum "))?;
        name.split(|c: char| !c.is_alphanumeric()).next()
    });
    let words = exports.flat_map(|export| export.split(|c: char| !c.is_alphanumeric() && c != '_'));
    // Not the constants.
    let words = words.filter(|word| word.starts_with(char::is_uppercase) && !word.contains('_'));
    let types = words.filter(|word| !TRAITS.contains(word));
    types.chain(declared).collect()
}

#[test]
fn pool_requires_only_send_of_connections() {
    is_send_sync_unpin::<Pool<BareConnector>>();
    is_send_sync_unpin::<Builder<BareConnector>>();
    is_send_sync_unpin::<BoxConnector<Bare>>();
    fn is_send_and_unpin<T: Send + Unpin>() {}
    is_send_and_unpin::<PooledConn<BareConnector>>();
}

#[test]
fn public_futures_are_send() {
    let pool = Pool::builder(BareConnector).build().expect("the settings are in range");
    is_send(pool.acquire());
    is_send(pool.acquire_now());
    is_send(pool.acquire_timeout(Duration::ZERO));
    is_send(pool.close());
    is_send(pool.close_timeout(Duration::ZERO));
    is_send(pool.drain("a", Duration::ZERO));
    is_send(pool.warm_up(Duration::ZERO));
    is_send(pool.acquire_owned());
    is_send(pool.acquire_with(AcquireOptions::new()));
    is_send(Clock::manual().sleep_until(Duration::ZERO));
    let server = Server::new("a");
    is_send(BareConnector.boxed().connect(&server));
    is_send(TcpConnector::new().connect(&server));
    #[cfg(unix)]
    is_send(connring::UnixConnector::new().connect(&server));
    is_send(connect_fn(|_: Server| async { io::Result::Ok(()) }).connect(&server));
    is_send(ScriptedConnector::new(Clock::manual()).connect(&server));
    let (mut conn, _) = tokio::io::duplex(1);
    let connector = connect_fn(|_: Server| async { Err(io::Error::other("never connected")) });
    let connector = connector.check(async |_: &mut DuplexStream| Ok(()));
    let connector = connector.recycle(async |_: &mut DuplexStream| Ok(())).close(|_, _| async {});
    is_send(Connector::check(&connector, &mut conn));
    is_send(Connector::recycle(&connector, &mut conn));
    is_send(Connector::close(&connector, tokio::io::duplex(1).0, CloseReason::Reset));
    let connector = connector.boxed();
    is_send(connector.check(&mut conn));
    is_send(connector.recycle(&mut conn));
    is_send(connector.close(conn, CloseReason::Reset));
}

#[test]
fn errors_can_be_boxed() {
    is_error::<AcquireError<io::Error>>();
    is_error::<AcquireError<BoxError>>();
    is_error::<Unavailable<io::Error>>();
    is_error::<Failure<io::Error>>();
    is_error::<TryAcquireError>();
    is_error::<BuildError>();
    is_error::<ServerError>();
    is_error::<CloseTimeout>();
    is_error::<BoxError>();
    is_error::<ScriptedError>();
    fn is_copy<T: Copy>() {}
    is_copy::<TryAcquireError>();
}

/// Returns the texts of an error and of its sources.
fn chain(error: &(dyn Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |&error| error.source()).map(ToString::to_string).collect()
}

#[tokio::test(start_paused = true)]
async fn error_chain_ends_at_connect_error_without_repetition() {
    let clock = Clock::tokio();
    let connector = ScriptedConnector::new(clock.clone());
    connector.set_default(Connect::Refuse);
    let pool = Pool::builder(connector).clock(clock).server("a").build().expect("the settings are in range");

    let unavailable = pool.acquire_now().await.expect_err("the server refuses");
    assert_eq!(
        chain(&unavailable),
        ["all servers are down", "connect failed", "a refused the connection, as scripted"]
    );

    let AcquireError::Unavailable(reason) = unavailable else { panic!("`acquire_now` fails with another error") };
    let server = reason.servers()[0].to_string();
    assert!(server.starts_with("a: down (failures: 1, retried in ") && server.ends_with("ms)"), "{server}");

    let timeout = pool.acquire_timeout(Duration::from_secs(1)).await.expect_err("the server refuses");
    let texts = chain(&timeout);
    assert!(texts[0].starts_with("timed out after 1") && texts[0].ends_with(": all servers are down"), "{}", texts[0]);
    assert_eq!(texts[1..], ["connect failed", "a refused the connection, as scripted"]);
}

#[tokio::test(start_paused = true)]
async fn down_reason_carries_text_of_reported_failure() {
    let clock = Clock::tokio();
    let ejection = Ejection::new().consecutive_failures(1).max_ejected_ratio(1.0);
    let pool = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).ejection(ejection);
    let pool = pool.servers(["a", "b", "c"]).max_conns_per_server(1).build().expect("the settings are in range");
    let mut reasons = Vec::new();
    let mut conns = Vec::new();
    for _ in 0..3 {
        conns.push(pool.acquire().await.expect("all servers accept"));
    }
    // The last server is not ejected. Its only connection is in use.
    let last = conns.pop();
    for mut conn in conns {
        let address = PooledConn::info(&conn).server().address().to_owned();
        // Each takes a reference to an error, or a plain text.
        if reasons.is_empty() {
            let error = io::Error::other("malformed response");
            conn.fail(&error);
            reasons.push((address, error.to_string()));
        } else {
            conn.report_failure_for("no response", Duration::from_secs(60));
            conn.discard();
            reasons.push((address, "no response".to_owned()));
        }
    }
    reasons.sort();
    let AcquireError::Unavailable(unavailable) = pool.acquire_now().await.expect_err("no server is left") else {
        panic!("`acquire_now` fails with another error")
    };
    let texts = unavailable.servers().iter().filter_map(|report| {
        let Reason::Down { cause, .. } = &report.reason else { return None };
        let cause = cause.as_ref().expect("the report has a cause");
        assert_eq!(chain(&**cause)[0], "a caller reported a failure");
        let (name, text) = (&report.name, report.to_string());
        assert!(text.starts_with(&format!("{name}: ejected (retried in ")), "{text}");
        Some((report.name.to_string(), chain(&**cause)[1..].join(": ")))
    });
    assert_eq!(texts.collect::<Vec<_>>(), reasons);
    drop(last);
}

#[test]
fn pool_is_clone_without_bound_on_connector() {
    fn is_clone<T: Clone>() {}
    is_clone::<Pool<BareConnector>>();
}

/// A user's struct with a pool in a field. [`BoxConnector`] makes the type of that field nameable.
struct Client {
    pool: BoxPool<DuplexStream>,
    /// The server's ends of the connections.
    far_ends: Arc<Mutex<Vec<DuplexStream>>>,
}

impl Client {
    fn new() -> Self {
        let far_ends = Arc::new(Mutex::new(Vec::new()));
        let opened = Arc::clone(&far_ends);
        let connector = connect_fn(move |_: Server| {
            let opened = Arc::clone(&opened);
            async move {
                let (near, far) = tokio::io::duplex(64);
                opened.lock().expect("the lock is not poisoned").push(far);
                io::Result::Ok(near)
            }
        });
        let pool = Pool::builder(connector.boxed()).server("a").build().expect("the settings are in range");
        Self { pool, far_ends }
    }
}

#[tokio::test(start_paused = true)]
async fn pooled_connection_passes_reads_and_writes_through() {
    // The clock is paused, so a hang ends the test at once.
    tokio::time::timeout(Duration::from_secs(1), exchange()).await.expect("the exchange does not hang");
}

async fn exchange() {
    let client = Client::new();
    let mut conn = client.pool.acquire().await.expect("a connection");
    let mut far = client.far_ends.lock().expect("the lock is not poisoned").pop().expect("one connect attempt");
    let mut received = [0; 4];

    conn.write_all(b"ping").await.expect("the buffer has room");
    conn.flush().await.expect("the stream is open");
    far.read_exact(&mut received).await.expect("four bytes");
    assert_eq!(&received, b"ping");

    far.write_all(b"pong").await.expect("the buffer has room");
    conn.read_exact(&mut received).await.expect("four bytes");
    assert_eq!(&received, b"pong");

    let parts = [io::IoSlice::new(b"pi"), io::IoSlice::new(b"ng")];
    assert!(conn.is_write_vectored(), "DuplexStream supports vectored writes");
    assert_eq!(conn.write_vectored(&parts).await.expect("the buffer has room"), 4, "one call writes both parts");
    conn.shutdown().await.expect("the stream is open");
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.expect("end of stream");
    assert_eq!(rest, b"ping");
    assert_eq!(conn.write(b"more").await.expect_err("the stream is shut down").kind(), io::ErrorKind::BrokenPipe);
}
