use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as StdStream};
use std::task::{Context, Waker};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpSocket;
use tokio::time::sleep;

use super::race::{ATTEMPT_DELAY, connect_any};
use super::*;
use crate::clock::Clock;
use crate::connector::ConnectFault;
use crate::sync::{Mutex, lock};

/// Longer than the default `check_idle_after`.
const LONG: Duration = Duration::from_millis(501);

fn idle_for(idle: Duration) -> ConnInfo {
    ConnInfo::with(Server::new("any"), idle, idle, 1)
}

/// A connection and the server's end of it, which blocks.
async fn pair(connector: &TcpConnector) -> (TcpStream, StdStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let conn = connector.connect(&Server::from(listener.local_addr().unwrap())).await.unwrap();
    (conn, listener.accept().unwrap().0)
}

/// Asks again until the kernel has carried over what the other side did. The thread does not go back to the reactor.
fn becomes_unfit(connector: &TcpConnector, conn: &mut TcpStream, idle: Duration) -> bool {
    (0..1_000_000).any(|_| {
        std::thread::yield_now();
        !connector.is_reusable(conn, &idle_for(idle))
    })
}

/// An address without a listener.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn fake(count: u16) -> Vec<SocketAddr> {
    (0..count).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect()
}

#[tokio::test]
async fn a_quiet_connection_is_good() {
    let connector = TcpConnector::new();
    let (mut conn, mut server) = pair(&connector).await;
    assert!(connector.is_reusable(&mut conn, &idle_for(Duration::ZERO)));
    assert!(connector.is_reusable(&mut conn, &idle_for(LONG)));
    // And again after it was used and read dry.
    server.write_all(b"pong").unwrap();
    conn.readable().await.unwrap();
    assert_eq!(conn.try_read(&mut [0; 64]).unwrap(), 4);
    assert!(connector.is_reusable(&mut conn, &idle_for(LONG)));
}

#[tokio::test]
async fn a_close_that_the_reactor_delivered_is_seen() {
    let connector = TcpConnector::new();
    let (mut conn, server) = pair(&connector).await;
    drop(server);
    conn.readable().await.unwrap();
    assert!(!connector.is_reusable(&mut conn, &idle_for(Duration::ZERO)));
}

#[tokio::test]
async fn unexpected_bytes_are_seen() {
    let connector = TcpConnector::new();
    let (mut conn, mut server) = pair(&connector).await;
    server.write_all(b"late answer").unwrap();
    conn.readable().await.unwrap();
    assert!(!connector.is_reusable(&mut conn, &idle_for(Duration::ZERO)));
}

#[tokio::test]
async fn a_reset_is_seen() {
    let connector = TcpConnector::new();
    let (mut conn, server) = pair(&connector).await;
    SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    conn.readable().await.unwrap();
    assert!(!connector.is_reusable(&mut conn, &idle_for(Duration::ZERO)));
}

#[tokio::test]
async fn a_peek_sees_what_the_reactor_has_not_delivered() {
    let connector = TcpConnector::new();
    let (mut closed, server) = pair(&connector).await;
    drop(server);
    assert!(becomes_unfit(&connector, &mut closed, LONG));
    assert!(
        connector.is_reusable(&mut closed, &idle_for(Duration::from_millis(500))),
        "the reactor did run: this tests nothing"
    );

    let (mut dirty, mut server) = pair(&connector).await;
    server.write_all(b"late answer").unwrap();
    assert!(becomes_unfit(&connector, &mut dirty, LONG));
}

#[tokio::test]
async fn check_idle_after_sets_when() {
    let connector = TcpConnector::new().check_idle_after(Duration::ZERO);
    let (mut conn, server) = pair(&connector).await;
    drop(server);
    assert!(becomes_unfit(&connector, &mut conn, Duration::from_nanos(1)));
    assert!(TcpConnector::new().check_idle_after(Duration::MAX).is_reusable(&mut conn, &idle_for(Duration::MAX)));
}

#[tokio::test]
async fn a_check_takes_no_byte_from_a_good_connection() {
    let connector = TcpConnector::new();
    let (mut conn, mut server) = pair(&connector).await;
    assert!(connector.is_reusable(&mut conn, &idle_for(LONG)));
    assert_eq!(conn.try_write(b"ping").unwrap(), 4);
    let mut request = [0; 4];
    server.read_exact(&mut request).unwrap();
    server.write_all(&request).unwrap();
    conn.readable().await.unwrap();
    let mut answer = [0; 5];
    assert_eq!((conn.try_read(&mut answer).unwrap(), &answer[..4]), (4, &b"ping"[..]));
}

#[tokio::test]
async fn options_are_set() {
    let (conn, _server) = pair(&TcpConnector::default()).await;
    assert!(conn.nodelay().unwrap());
    assert!(!SockRef::from(&conn).keepalive().unwrap());

    let (conn, _server) = pair(&TcpConnector::new().nodelay(false).keepalive(Duration::from_millis(1_001))).await;
    assert!(!conn.nodelay().unwrap());
    assert!(SockRef::from(&conn).keepalive().unwrap());
    #[cfg(target_os = "linux")]
    assert_eq!(SockRef::from(&conn).tcp_keepalive_time().unwrap(), Duration::from_secs(2));
    for extreme in [Duration::ZERO, Duration::MAX] {
        let (conn, _server) = pair(&TcpConnector::new().keepalive(extreme)).await;
        assert!(SockRef::from(&conn).keepalive().unwrap());
    }
}

#[tokio::test]
async fn a_host_name_is_tried_at_each_of_its_addresses() {
    // Where the name stands for `::1` too, nobody listens there.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let conn = TcpConnector::new().connect(&Server::new(format!("localhost:{port}"))).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), listener.local_addr().unwrap());
}

#[tokio::test]
async fn the_next_address_is_tried_when_one_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = listener.local_addr().unwrap();
    let connector = TcpConnector::new();
    let addresses = vec![refusing(), refusing(), good];
    let conn = connect_any("two:1", addresses, |address| connector.connect_one(address)).await.unwrap();
    assert_eq!(conn.peer_addr().unwrap(), good);
}

/// An address that answers nothing, as one of a host that is gone: the queue of its listener is full. Returns what
/// keeps it so, too.
#[cfg(target_os = "linux")]
fn dead() -> (SocketAddr, (Socket, Vec<Socket>)) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let fills = |_: &usize| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.connect_timeout(&address.into(), Duration::from_millis(50)).map(|()| socket).ok()
    };
    let queued: Vec<_> = (0..16).map_while(|index| fills(&index)).collect();
    assert!(queued.len() < 16, "the queue does not get full");
    (address, (listener, queued))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dead_address_delays_the_first_connect_to_its_name_alone() {
    let (dead, _full) = dead();
    let live = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = vec![dead, live.local_addr().unwrap()];
    let connector = TcpConnector::new();
    let (clock, mut open) = (Clock::tokio(), Vec::new());
    open.push(connector.connect_any("two:1", addresses.clone()).await.unwrap());
    assert!(clock.now() >= ATTEMPT_DELAY, "the first address answered: this tests nothing");
    // A pool's attempts run on clones.
    for connector in [connector.clone(), connector] {
        let connecting = connector.connect_any("two:1", addresses.clone());
        // It is ready before the timeout is looked at, however busy the machine is.
        let conn = tokio::time::timeout(ATTEMPT_DELAY / 2, connecting).await.expect("it waits for the dead address");
        open.push(conn.unwrap());
    }
    assert!(open.iter().all(|conn| conn.peer_addr().unwrap() == addresses[1]));
}

#[tokio::test]
async fn a_refused_attempt_is_the_servers_fault() {
    let connector = TcpConnector::new();
    let error = connector.connect(&Server::from(refusing())).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(connector.classify(&error), ConnectFault::Server);
    assert!(connector.connect(&Server::new("no port")).await.is_err());
}

#[tokio::test]
async fn no_address_is_an_error_that_names_the_host() {
    let error = connect_any("void:1", Vec::new(), |_| async { Ok(()) }).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("void:1"));
}

/// A connection whose two ends are the same socket.
async fn to_itself(any: &str) -> TcpStream {
    let socket = if any.starts_with('[') { TcpSocket::new_v6() } else { TcpSocket::new_v4() }.unwrap();
    socket.bind(any.parse().unwrap()).unwrap();
    let own = socket.local_addr().unwrap();
    socket.connect(own).await.unwrap()
}

#[tokio::test]
async fn connection_to_itself_is_refused_and_reset() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let stream = to_itself(any).await;
        let own = stream.local_addr().unwrap();
        let error = refuse_itself(&stream, own).unwrap_err();
        assert_eq!(error.to_string(), format!("the connection to {own} reached itself: no server listens there"));
        assert_eq!(ConnectFault::of(&error), ConnectFault::Server);
        drop(stream);
        // Without `SO_REUSEADDR`, which would allow it also where the connection was closed in order.
        let server = Socket::new(Domain::for_address(own), Type::STREAM, None).unwrap();
        server.bind(&own.into()).expect("the server can bind its port");
    }
    // The port alone says nothing.
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let peer = listener.local_addr().unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 3], peer.port()).into()).unwrap();
    let conn = socket.connect(peer).await.unwrap();
    assert_eq!(conn.local_addr().unwrap().port(), peer.port());
    refuse_itself(&conn, peer).unwrap();
}

#[test]
fn error_without_a_free_port_is_the_clients_fault() {
    let not_available = || io::Error::from(io::ErrorKind::AddrNotAvailable);
    // This host has an address from which it could reach the first; none without an interface reaches the second.
    let no_port = explained(not_available(), ([127, 0, 0, 1], 1).into());
    let no_address = explained(not_available(), "[fe80::1]:1".parse().unwrap());
    assert_eq!(
        (ConnectFault::of(&no_port), no_port.to_string().as_str()),
        (ConnectFault::Client, "no local port is free")
    );
    assert_eq!(ConnectFault::of(&no_address), ConnectFault::Server);
    assert_eq!([no_port.kind(), no_address.kind()], [io::ErrorKind::AddrNotAvailable; 2]);
    let refused = explained(io::ErrorKind::ConnectionRefused.into(), ([127, 0, 0, 1], 1).into());
    assert_eq!(ConnectFault::of(&refused), ConnectFault::Server);
}

/// What happens at one address: after so many milliseconds it connects or fails with this number.
type Answer = (u64, Result<(), i32>);

/// Races the answers; says who won, at which millisecond, and when each was started.
async fn race(answers: &[Answer]) -> (io::Result<u16>, u128, Vec<u128>) {
    let clock = Clock::tokio();
    let starts = Mutex::new(Vec::new());
    let winner = connect_any("many:1", fake(answers.len().try_into().unwrap()), |address| {
        lock(&starts).push(clock.now().as_millis());
        let (after, answer) = answers[usize::from(address.port())];
        async move {
            sleep(Duration::from_millis(after)).await;
            answer.map(|()| address.port()).map_err(io::Error::from_raw_os_error)
        }
    })
    .await;
    (winner, clock.now().as_millis(), starts.into_inner().unwrap())
}

const NEVER: Answer = (86_400_000, Ok(()));

#[tokio::test(start_paused = true)]
async fn a_swallowed_address_does_not_hold_up_the_next() {
    let (winner, at, starts) = race(&[NEVER, NEVER, (10, Ok(()))]).await;
    assert_eq!(winner.unwrap(), 2);
    assert_eq!(starts.len(), 3);
    assert!((249..=252).contains(&starts[1]) && (499..=504).contains(&starts[2]), "{starts:?}");
    assert!((509..=515).contains(&at), "{at}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_address_may_still_win() {
    let (winner, at, starts) = race(&[(300, Ok(())), NEVER, NEVER]).await;
    assert_eq!((winner.unwrap(), starts.len()), (0, 2));
    assert!((299..=303).contains(&at), "{at}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_starts_the_next_address_at_once() {
    let (winner, at, starts) = race(&[(5, Err(1)), NEVER, (5, Ok(()))]).await;
    assert_eq!(winner.unwrap(), 2);
    assert!((4..=7).contains(&starts[1]) && (254..=258).contains(&starts[2]), "{starts:?}");
    assert!((259..=265).contains(&at), "{at}");
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn the_error_is_the_last_that_is_the_servers_fault() {
    for (answers, expected) in [
        ([(400, Err(libc::ECONNREFUSED)), (5, Err(libc::ETIMEDOUT))], libc::ECONNREFUSED),
        ([(5, Err(libc::ECONNREFUSED)), (5, Err(libc::EADDRNOTAVAIL))], libc::ECONNREFUSED),
        ([(5, Err(libc::EADDRNOTAVAIL)), (5, Err(libc::ECONNREFUSED))], libc::ECONNREFUSED),
        ([(5, Err(libc::ECONNREFUSED)), (5, Err(libc::EMFILE))], libc::ECONNREFUSED),
        ([(5, Err(libc::EADDRNOTAVAIL)), (5, Err(libc::EMFILE))], libc::EADDRNOTAVAIL),
        ([(5, Err(libc::EMFILE)), (5, Err(libc::ENFILE))], libc::ENFILE),
    ] {
        let (winner, ..) = race(&answers).await;
        assert_eq!(winner.unwrap_err().raw_os_error(), Some(expected), "{answers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_it_drops_every_attempt() {
    let held = Arc::new(());
    let mut attempt = Box::pin(connect_any("many:1", fake(3), |_| {
        let held = held.clone();
        async move {
            sleep(Duration::from_secs(86_400)).await;
            drop(held);
            Ok(())
        }
    }));
    assert!(attempt.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    tokio::time::advance(ATTEMPT_DELAY + Duration::from_millis(1)).await;
    assert!(attempt.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(Arc::strong_count(&held), 3);
    drop(attempt);
    assert_eq!(Arc::strong_count(&held), 1);
}
