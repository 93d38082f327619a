//! Dead connections are not reused: tests on real TCP and Unix sockets.
//!
//! No test waits for time to pass. A test waits for an end of stream or a byte at a twin: a second descriptor of the
//! client's socket. On the pool's runtime the twin is readable when the reactor has delivered the event. On another
//! runtime, while the pool's is not driven, the twin is readable when the system has the event and the reactor has not.
#![cfg(unix)]

use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connring::{Clock, Connector, Pool, PooledConn, TcpConnector, TryAcquireError, UnixConnector};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};

use crate::support::settle;

/// The default of the connectors.
const CHECK_IDLE_AFTER: Duration = Duration::from_millis(500);

/// A transport under test, with a server that listens.
trait Net: Sized {
    type Connector: Connector<Conn = Self::Stream, Error: fmt::Debug>;
    type Stream: AsFd + AsyncRead + AsyncWrite + Unpin + Send + 'static;

    async fn listen() -> Self;
    fn address(&self) -> String;
    async fn accept(&self) -> Self::Stream;
    fn connector(check_idle_after: Duration) -> Self::Connector;
}

struct Tcp(TcpListener);

impl Net for Tcp {
    type Connector = TcpConnector;
    type Stream = TcpStream;

    async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port is free"))
    }

    fn address(&self) -> String {
        self.0.local_addr().expect("it listens").to_string()
    }

    async fn accept(&self) -> TcpStream {
        self.0.accept().await.expect("the pool connects").0
    }

    fn connector(check_idle_after: Duration) -> TcpConnector {
        TcpConnector::new().check_idle_after(check_idle_after)
    }
}

struct Unix(UnixListener, PathBuf);

impl Net for Unix {
    type Connector = UnixConnector;
    type Stream = UnixStream;

    async fn listen() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("connring-it-{}-{number}", std::process::id()));
        Self(UnixListener::bind(&path).expect("the path is free"), path)
    }

    fn address(&self) -> String {
        self.1.to_str().expect("the path is text").to_owned()
    }

    async fn accept(&self) -> UnixStream {
        self.0.accept().await.expect("the pool connects").0
    }

    fn connector(check_idle_after: Duration) -> UnixConnector {
        UnixConnector::new().check_idle_after(check_idle_after)
    }
}

impl Drop for Unix {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.1);
    }
}

/// An action of the server on an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    Closes,
    Writes,
}

/// A pool with one idle connection, on a manual clock and without maintenance: the test alone sets the idle time.
struct Scene<N: Net> {
    pool: Pool<N::Connector>,
    clock: Clock,
    net: N,
    /// The server's end.
    peer: Option<N::Stream>,
    /// A second descriptor of the idle connection's socket. While it is open, no other socket has its inode number.
    twin: OwnedFd,
}

impl<N: Net> Scene<N> {
    async fn new(check_idle_after: Duration) -> Self {
        let net = N::listen().await;
        let clock = Clock::manual();
        let builder = Pool::builder(N::connector(check_idle_after)).server(net.address()).clock(clock.clone());
        let pool = builder.max_conns_per_server(1).idle_timeout(None).max_lifetime(None).maintenance(false).build();
        let pool = pool.expect("the settings are in range");
        let conn = pool.acquire().await.expect("the server listens");
        let peer = Some(net.accept().await);
        let twin = conn.as_fd().try_clone_to_owned().expect("a descriptor is free");
        conn.release();
        Self { pool, clock, net, peer, twin }
    }

    /// Closes the connection at the server, or writes an unsolicited byte string.
    async fn harm(&mut self, harm: Harm) {
        let peer = self.peer.as_mut().expect("not yet closed");
        match harm {
            Harm::Closes => self.peer = None,
            Harm::Writes => peer.write_all(b"late answer").await.expect("the connection is open"),
        }
    }

    /// Whether `conn` is the connection that was idle.
    fn is_same(&self, conn: &PooledConn<N::Connector>) -> bool {
        let conn = conn.as_fd().try_clone_to_owned().expect("a descriptor is free");
        number(&conn) == number(&self.twin)
    }

    /// Waits until the reactor of the current runtime has delivered the event.
    async fn delivered(&self) {
        let twin = self.twin.try_clone().expect("a descriptor is free");
        // The type of the stream is irrelevant: it is only polled for readability.
        let twin = UnixStream::from_std(twin.into()).expect("a socket can be polled");
        twin.readable().await.expect("the reactor runs");
        // Both descriptors become ready together. If the reactor took them one by one, it needs another turn.
        settle().await;
    }

    /// Sends a request, receives its answer, and releases the connection.
    async fn converses(&mut self, mut conn: PooledConn<N::Connector>) {
        let peer = self.peer.as_mut().expect("not yet closed");
        let mut seen = [0; 4];
        conn.write_all(b"ping").await.expect("the connection is open");
        peer.read_exact(&mut seen).await.expect("the connection is open");
        peer.write_all(b"pong").await.expect("the connection is open");
        conn.read_exact(&mut seen).await.expect("the connection is open");
        assert_eq!(&seen, b"pong");
        conn.release();
    }
}

/// The inode number of a socket.
fn number(socket: &OwnedFd) -> u64 {
    let socket = socket.try_clone().expect("a descriptor is free");
    File::from(socket).metadata().expect("the descriptor is open").ino()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

/// Harm that the reactor has delivered is detected without a peek.
async fn delivered_harm_is_detected<N: Net>(harm: Harm) {
    let mut scene = Scene::<N>::new(Duration::MAX).await;
    scene.harm(harm).await;
    scene.delivered().await;
    assert_eq!(scene.pool.status().servers[0].idle, 1);
    assert!(matches!(scene.pool.try_acquire(), Err(TryAcquireError::Unavailable(_))), "reused after {harm:?}");
    let conn = scene.pool.acquire().await.expect("the server listens");
    assert!(!scene.is_same(&conn), "reused after {harm:?}");
    scene.peer = Some(scene.net.accept().await);
    scene.converses(conn).await;
}

/// Harm that the reactor has not delivered is detected by a peek, and only by a peek.
fn undelivered_harm_is_detected_by_peek<N: Net>(harm: Harm) {
    let (pools, another) = (runtime(), runtime());
    let mut scene = pools.block_on(Scene::<N>::new(CHECK_IDLE_AFTER));
    another.block_on(async {
        scene.harm(harm).await;
        scene.delivered().await;
    });
    // The pool's runtime has not run since.
    scene.clock.advance(CHECK_IDLE_AFTER);
    let conn = scene.pool.try_acquire().expect("a peek is not due yet: this is the documented race");
    assert!(scene.is_same(&conn));
    conn.release();
    scene.clock.advance(CHECK_IDLE_AFTER + Duration::from_millis(1));
    let conn = pools.block_on(scene.pool.acquire()).expect("the server listens");
    assert!(!scene.is_same(&conn), "reused after {harm:?}");
}

/// A quiet connection is reused after a short and after a long idle time.
async fn quiet_connection_is_reused<N: Net>() {
    let mut scene = Scene::<N>::new(CHECK_IDLE_AFTER).await;
    for idle in [Duration::ZERO, CHECK_IDLE_AFTER * 2, Duration::from_secs(3_600)] {
        scene.clock.advance(idle);
        let conn = scene.pool.acquire().await.expect("the server listens");
        assert!(scene.is_same(&conn), "closed after {idle:?}");
        scene.converses(conn).await;
    }
}

#[test]
fn closed_tcp_connection_is_not_reused_after_reactor_event() {
    runtime().block_on(delivered_harm_is_detected::<Tcp>(Harm::Closes));
}

#[test]
fn tcp_connection_with_unexpected_bytes_is_not_reused() {
    runtime().block_on(delivered_harm_is_detected::<Tcp>(Harm::Writes));
}

#[test]
fn long_idle_tcp_connection_is_peeked() {
    undelivered_harm_is_detected_by_peek::<Tcp>(Harm::Closes);
    undelivered_harm_is_detected_by_peek::<Tcp>(Harm::Writes);
}

#[test]
fn quiet_tcp_connection_is_reused() {
    runtime().block_on(quiet_connection_is_reused::<Tcp>());
}

#[test]
fn closed_unix_connection_is_not_reused_after_reactor_event() {
    runtime().block_on(delivered_harm_is_detected::<Unix>(Harm::Closes));
}

#[test]
fn unix_connection_with_unexpected_bytes_is_not_reused() {
    runtime().block_on(delivered_harm_is_detected::<Unix>(Harm::Writes));
}

#[test]
fn long_idle_unix_connection_is_peeked() {
    undelivered_harm_is_detected_by_peek::<Unix>(Harm::Closes);
    undelivered_harm_is_detected_by_peek::<Unix>(Harm::Writes);
}

#[test]
fn quiet_unix_connection_is_reused() {
    runtime().block_on(quiet_connection_is_reused::<Unix>());
}

/// How many ends of connections to a port have been closed by the other end alone.
#[cfg(target_os = "linux")]
fn half_closed(port: u16) -> usize {
    const CLOSE_WAIT: &str = "08";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the system has it");
    let remote = format!(":{port:04X}");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|fields| fields[2].ends_with(&remote) && fields[3] == CLOSE_WAIT).count()
}

#[cfg(target_os = "linux")]
#[test]
fn idle_connections_that_the_server_closed_do_not_stay_half_open() {
    runtime().block_on(async {
        let (net, clock) = (Tcp::listen().await, Clock::manual());
        let port = net.0.local_addr().expect("it listens").port();
        let builder = Pool::builder(TcpConnector::new()).server(net.address()).clock(clock.clone());
        let pool = builder.build().expect("the settings are in range");
        let (mut held, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            held.push(pool.acquire().await.expect("the server listens"));
            peers.push(net.accept().await);
        }
        held.into_iter().for_each(PooledConn::release);
        drop(peers);
        while half_closed(port) < 10 {
            settle().await;
        }
        for _ in 0..3 {
            clock.advance(Duration::from_secs(1));
            settle().await;
        }
        assert_eq!((half_closed(port), pool.status().servers[0].open), (0, 0));
    });
}
