//! TCP: tries each resolved address, and does not wait for a slow one before it tries the next.

mod last_good;
mod race;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use self::last_good::LastGood;
use super::fault::OwnFault;
use super::{Connector, look_up, socket};
use crate::conn_info::ConnInfo;
use crate::server::Server;
use crate::sync::Arc;

/// The range of the keepalive time that systems accept, in seconds; the upper end is that of Linux.
const KEEPALIVE_SECONDS: std::ops::RangeInclusive<u64> = 1..=32_767;

/// Connects by TCP; addresses are `"host:port"`, `"192.0.2.1:port"` or `"[2001:db8::1]:port"`.
///
/// The scope of an IPv6 address may be a number or a name: `"[fe80::1%2]:port"`, `"[fe80::1%eth0]:port"`.
///
/// A host name is resolved anew for each attempt, on tokio's blocking threads. Its addresses are tried in the order of
/// the resolver, but the one that worked last comes first ("Happy Eyeballs", RFC 8305): the next one as soon as one
/// failed, and at the latest 250 ms after the one before, which goes on meanwhile. The first that connects is taken and
/// the others are dropped. These times are tokio's, whatever [`Clock`](crate::Clock) the pool has. So only the first
/// attempt waits for an address that is dead. The address is remembered for 4096 names at most, and forgotten when it
/// fails. Clones of a connector share what they remember.
///
/// An idle connection is reusable while it has nothing to read. The check sees data that tokio's reactor has delivered
/// without a system call (with one, if the last read filled its buffer completely). A connection that was idle longer
/// than [`check_idle_after`](TcpConnector::check_idle_after) gets one non-blocking peek.
///
/// # Errors
///
/// An error is the server's fault, by [`ConnectFault::of`](crate::ConnectFault::of), except when this host is out of
/// descriptors, local ports, buffers or memory. Of an attempt that failed at several addresses the last error that is
/// the server's fault is returned, or else the last one.
///
/// When a name does not resolve, the error says so with the name, and has that of the system as its source. A look-up
/// that still runs when the pool's connect timeout ends is the client's fault:
/// [`Failure::LookUpTimeout`](crate::Failure::LookUpTimeout).
///
/// A connect to a port of this host without a listener may reach itself. Such a connection is refused and reset.
///
/// # Race window
///
/// A server may close between the check and the first write, or its close may be on the way to this host. For a
/// connection that was idle no longer than `check_idle_after` the window is wider by what the reactor has not delivered
/// yet. So a first request may fail on a connection that was found good: retry what is safe to retry.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use connring::{Connector, Server, TcpConnector};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), std::io::Error> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address = listener.local_addr()?.to_string();
///
/// let connector = TcpConnector::new().keepalive(Duration::from_secs(60));
/// let conn = connector.connect(&Server::new(address)).await?;
/// assert!(conn.nodelay()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TcpConnector {
    nodelay: bool,
    keepalive: Option<Duration>,
    check_idle_after: Duration,
    /// Clones share it.
    last_good: Arc<LastGood>,
}

impl TcpConnector {
    /// A connector with the defaults: nodelay on, keepalive off, a peek after 500 ms.
    pub fn new() -> Self {
        Self { nodelay: true, keepalive: None, check_idle_after: socket::CHECK_IDLE_AFTER, last_good: Arc::default() }
    }

    /// Whether small writes are sent at once (`TCP_NODELAY`) or gathered into larger packets. Default: `true`.
    #[must_use]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// The time without traffic after which the operating system begins to probe the other side (`SO_KEEPALIVE`). The
    /// interval and the number of probes are the system's defaults.
    ///
    /// Default: off. Systems count in seconds: rounded up to whole ones and clamped to 1 s to 32 767 s.
    #[must_use]
    pub fn keepalive(mut self, after: Duration) -> Self {
        let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
        let seconds = seconds.clamp(*KEEPALIVE_SECONDS.start(), *KEEPALIVE_SECONDS.end());
        self.keepalive = Some(Duration::from_secs(seconds));
        self
    }

    /// A connection that was idle longer than this is peeked at, with one system call, before its checkout.
    ///
    /// Default: 500 ms. Any value: zero peeks at each one whose idle time is not zero, [`Duration::MAX`] at none.
    /// The pool measures idle times in steps of up to 100 ms.
    #[must_use]
    pub fn check_idle_after(mut self, idle: Duration) -> Self {
        self.check_idle_after = idle;
        self
    }

    /// Connects to one of `addresses`, which `name` resolved to.
    async fn connect_any(&self, name: &str, addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
        self.last_good.connect(name, addresses, |address| self.connect_one(address)).await
    }

    async fn connect_one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await.map_err(|error| explained(error, address))?;
        refuse_itself(&stream, address)?;
        stream.set_nodelay(self.nodelay)?;
        if let Some(after) = self.keepalive {
            SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(after))?;
        }
        Ok(stream)
    }
}

impl Default for TcpConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector for TcpConnector {
    type Conn = TcpStream;
    type Error = io::Error;

    async fn connect(&self, server: &Server) -> io::Result<TcpStream> {
        let name = server.address();
        let addresses = look_up::resolve(name).await?;
        self.connect_any(name, addresses).await
    }

    fn is_reusable(&self, conn: &mut TcpStream, info: &ConnInfo) -> bool {
        socket::is_reusable(conn.try_read(&mut [0]), SockRef::from(&*conn), info.idle() > self.check_idle_after)
    }
}

/// Refuses a connection whose two ends are the same socket.
///
/// A connect to a port of this host that nobody listens on, from the range that the system takes local ports from, may
/// get that very port as its local one, and reaches itself (a simultaneous open of TCP). The server could not bind its
/// port as long as that connection is open, nor for a minute after an orderly close: so it is reset.
fn refuse_itself(stream: &TcpStream, address: SocketAddr) -> io::Result<()> {
    let local = stream.local_addr()?;
    // The other end is asked for only where it may be the same: an attempt at `0.0.0.0` reaches `127.0.0.1`.
    if local.port() != address.port() || local.ip() != stream.peer_addr()?.ip() {
        return Ok(());
    }
    SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    let text = format!("the connection to {address} reached itself: no server listens there");
    Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
}

/// Names the cause where no local port is free: `EADDRNOTAVAIL`, as where this host has no address from which it could
/// reach the server's. A datagram socket, which needs such an address but no port of TCP, tells the two apart. It sends
/// nothing.
fn explained(error: io::Error, address: SocketAddr) -> io::Error {
    let any = || if address.is_ipv4() { SocketAddr::from(([0; 4], 0)) } else { SocketAddr::from(([0; 16], 0)) };
    let is_reachable = || UdpSocket::bind(any()).and_then(|socket| socket.connect(address)).is_ok();
    if error.kind() == io::ErrorKind::AddrNotAvailable && is_reachable() {
        return OwnFault::error("no local port is free", error);
    }
    error
}

#[cfg(test)]
mod tests;
