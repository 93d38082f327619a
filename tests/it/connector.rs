//! The connectors of the crate under a pool, on real sockets.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use connring::{Clock, ConnInfo, ConnectFault, Connector, Pool, PooledConn, Server, ServerState, TcpConnector};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::task::JoinSet;

use crate::hazards::on_event;
use crate::support::{poll_once, settle};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A user's connector with an error of its own and no `classify`: its first attempts fail with this number.
#[cfg(unix)]
struct Failing {
    code: i32,
    left: AtomicU32,
}

#[cfg(unix)]
#[derive(Debug, thiserror::Error)]
#[error("the session cannot be opened")]
struct SessionError(#[from] io::Error);

#[cfg(unix)]
impl Connector for Failing {
    type Conn = ();
    type Error = SessionError;

    async fn connect(&self, _server: &Server) -> Result<(), SessionError> {
        let fails = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails { Err(io::Error::from_raw_os_error(self.code).into()) } else { Ok(()) }
    }

    fn is_reusable(&self, _conn: &mut (), _info: &ConnInfo) -> bool {
        true
    }
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn fault_of_the_client_inside_a_users_error_leaves_the_server_up() {
    for (code, is_up) in [(libc::EMFILE, true), (libc::ECONNREFUSED, false), (libc::EADDRNOTAVAIL, false)] {
        let connector = Failing { code, left: AtomicU32::new(1) };
        let pool = Pool::builder(connector).clock(Clock::tokio()).server("a").build().expect("in range");
        let acquired = pool.acquire_timeout(MS).await.map(PooledConn::release);
        assert!(acquired.is_err(), "{code}");
        assert_eq!(pool.status().servers[0].state == ServerState::Up, is_up, "{code}");
        pool.acquire_timeout(SECOND).await.expect("the server is retried after its backoff").release();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn unix_server_with_a_short_listen_queue_stays_up_and_serves_all() {
    use connring::UnixConnector;
    use socket2::SockAddr;

    let path = std::env::temp_dir().join(format!("connring-it-short-{}", std::process::id()));
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a descriptor is free");
    socket.bind(&SockAddr::unix(&path).expect("the path is short")).expect("the path is free");
    socket.listen(0).expect("it is bound");
    socket.set_nonblocking(true).expect("it is open");
    let pool = Pool::builder(UnixConnector::new()).server(path.to_str().expect("the path is text"));
    let pool = pool.max_conns_per_server(16).max_concurrent_connects_per_server(16).backoff(5 * MS, 5 * MS);
    let pool = pool.build().expect("in range");
    let mut callers = JoinSet::new();
    for _ in 0..16 {
        let pool = pool.clone();
        callers.spawn(async move { pool.acquire_timeout(10 * SECOND).await });
    }
    // One connection fits into the queue, so some attempts fail before the first is accepted.
    settle().await;
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(socket));
    let listener = tokio::net::UnixListener::from_std(listener).expect("the reactor runs");
    let accepting = tokio::spawn(async move {
        let mut accepted = Vec::new();
        loop {
            accepted.push(listener.accept().await.expect("a descriptor is free").0);
        }
    });
    let mut served = Vec::new();
    while let Some(conn) = callers.join_next().await {
        assert_eq!(pool.status().servers[0].state, ServerState::Up);
        served.push(conn.expect("no panic").expect("the server accepts"));
    }
    assert_eq!(served.len(), 16);
    accepting.abort();
    let _ = std::fs::remove_file(path);
}

/// A host without a free blocking thread: no look-up gets anywhere.
#[test]
fn look_up_that_outlasts_the_connect_timeout_is_the_clients_fault() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.expect("a runtime").block_on(async {
        let (busy, is_free) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || is_free.recv());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let causes = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&causes);
        let (_dispatch, _guard) = on_event(move |text| {
            if text.contains("cause=") {
                seen.lock().expect("no panic").push(text.to_owned());
            }
        });
        let clock = Clock::manual();
        let builder = Pool::builder(TcpConnector::new()).clock(clock.clone()).server(format!("localhost:{port}"));
        let pool = builder.connect_timeout(200 * MS).backoff(SECOND, SECOND).build().expect("in range");
        let mut waiter = pin!(pool.acquire());
        assert!(poll_once(waiter.as_mut()).await);
        settle().await;
        assert_eq!(pool.status().servers[0].connecting, 1);
        for _ in 0..2 {
            // In steps so short that the timeout does not take the client for stalled.
            clock.advance(100 * MS);
            settle().await;
        }
        assert_eq!((pool.status().servers[0].connecting, pool.status().servers[0].state), (0, ServerState::Up));
        let causes = causes.lock().expect("no panic").clone();
        assert!(causes.len() == 1, "{causes:#?}");
        assert!(causes[0].contains("cause=look-up of \"localhost\" timed out after 200ms"), "{causes:#?}");
        let error = pool.acquire_now().await.expect_err("connecting pauses");
        let cause = std::error::Error::source(&error).expect("the error names it").to_string();
        assert_eq!(cause, "look-up of \"localhost\" timed out after 200ms");
        // Connecting pauses, and then goes on.
        drop(busy);
        clock.advance(2 * SECOND);
        waiter.await.expect("the server listens").release();
    });
}

/// A connect to a dead port of this host may be given that very port as its own, and reach itself.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn connection_to_itself_does_not_take_the_port_of_the_server() {
    // The system takes local ports of every second number first, and tries them in turn: one that it gave will come.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let given = TcpStream::connect(listener.local_addr().expect("it listens")).expect("it listens");
    let dead = given.local_addr().expect("it is open");
    SockRef::from(&given).set_linger(Some(Duration::ZERO)).expect("it is open");
    drop((given, listener));
    let (connector, server) = (TcpConnector::new(), Server::from(dead));
    let mut refused = None;
    for _ in 0..100_000 {
        let error = connector.connect(&server).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        if error.to_string().contains("reached itself") {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("the system chose the port in none of 100000 attempts");
    assert_eq!(connector.classify(&refused), ConnectFault::Server);
    assert!(refused.to_string().contains(&dead.to_string()), "{refused}");
    // Without `SO_REUSEADDR`, which would allow it also after a close in order.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
    socket.bind(&dead.into()).expect("the server can bind its port");
}
