//! TCP: tries each resolved address, and does not wait for a slow one before it tries the next.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::{ConnectFault, Connector, look_up, socket};
use crate::conn_info::ConnInfo;
use crate::server::Server;

/// How long an attempt goes on alone before the next address is tried beside it (RFC 8305 recommends 250 ms).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// The range of the keepalive time that systems accept, in seconds; the upper end is that of Linux.
const KEEPALIVE_SECONDS: std::ops::RangeInclusive<u64> = 1..=32_767;

/// Connects by TCP; addresses are `"host:port"`, `"192.0.2.1:port"` or `"[2001:db8::1]:port"`.
///
/// The scope of an IPv6 address may be a number or a name: `"[fe80::1%2]:port"`, `"[fe80::1%eth0]:port"`.
///
/// A host name is resolved anew for each attempt, on tokio's blocking threads. Its addresses are tried in the order of
/// the resolver: the next one as soon as one failed, and at the latest 250 ms after the one before, which goes on
/// meanwhile. The first that connects is taken and the others are dropped. These times are tokio's, whatever
/// [`Clock`](crate::Clock) the pool has.
///
/// An idle connection is reusable while it has nothing to read. The check sees data that tokio's reactor has delivered
/// without a system call (with one, if the last read filled its buffer completely). A connection that was idle longer
/// than [`peek_after`](TcpConnector::peek_after) gets one non-blocking peek.
///
/// Errors are classified by [`ConnectFault::of`]: a fault of the server, except when this host is out of descriptors,
/// buffers or memory. Of an attempt that failed at several addresses the last error that is the server's fault is
/// returned, or else the last one.
///
/// When a name does not resolve, the error says so with the name, and has that of the system as its source. A look-up
/// that still runs when the pool's connect timeout ends is the client's fault:
/// [`Failure::LookUpTimeout`](crate::Failure::LookUpTimeout).
///
/// # Race window
///
/// A server may close between the check and the first write, or its close may be on the way to this host. For a
/// connection that was idle no longer than `peek_after` the window is wider by what the reactor has not delivered
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
    peek_after: Duration,
}

impl TcpConnector {
    /// A connector with the defaults: nodelay on, keepalive off, a peek after 500 ms.
    pub fn new() -> Self {
        Self { nodelay: true, keepalive: None, peek_after: socket::PEEK_AFTER }
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
    pub fn peek_after(mut self, idle: Duration) -> Self {
        self.peek_after = idle;
        self
    }

    async fn connect_one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(address).await?;
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
        let address = server.address();
        let resolved = look_up::resolve(address).await?;
        connect_any(address, resolved, |address| self.connect_one(address)).await
    }

    fn is_reusable(&self, conn: &mut TcpStream, info: &ConnInfo) -> bool {
        socket::is_reusable(conn.try_read(&mut [0]), SockRef::from(&*conn), info.idle() > self.peek_after)
    }
}

/// Connects to the first of `addresses`, which `host` resolved to, that answers: "Happy Eyeballs" (RFC 8305) without
/// its sorting.
///
/// # Cancel safety
///
/// Dropping it drops every attempt under way.
///
/// # Errors
///
/// When there is no address, or every attempt failed.
async fn connect_any<T, Fut>(
    host: &str,
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> Fut,
) -> io::Result<T>
where
    Fut: Future<Output = io::Result<T>>,
{
    let mut addresses = addresses.into_iter();
    let mut attempts: Vec<Pin<Box<Fut>>> = Vec::new();
    let mut failure: Option<io::Error> = None;
    // Runs only while there is an address to start next.
    let mut delay: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        loop {
            let mut failed = false;
            let mut index = 0;
            while let Some(attempt) = attempts.get_mut(index) {
                match attempt.as_mut().poll(cx) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(conn)) => return Poll::Ready(Ok(conn)),
                    Poll::Ready(Err(error)) => {
                        drop(attempts.remove(index));
                        failure = Some(weightier(failure.take(), error));
                        failed = true;
                    }
                }
            }
            let due =
                attempts.is_empty() || failed || delay.as_mut().is_some_and(|delay| delay.as_mut().poll(cx).is_ready());
            if !due {
                return Poll::Pending;
            }
            match addresses.next() {
                Some(address) => {
                    attempts.push(Box::pin(connect(address)));
                    delay = (addresses.len() > 0).then(|| Box::pin(sleep(ATTEMPT_DELAY)));
                }
                None if attempts.is_empty() => {
                    return Poll::Ready(Err(failure.take().unwrap_or_else(|| {
                        io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} resolves to no address"))
                    })));
                }
                None => return Poll::Pending,
            }
        }
    })
    .await
}

/// The later error, unless the earlier one says more of the server: an address that this host cannot reach, as `::1`
/// where IPv6 is off, must not hide that the server refused at another.
fn weightier(earlier: Option<io::Error>, later: io::Error) -> io::Error {
    match earlier {
        Some(earlier) if weight(&earlier) > weight(&later) => earlier,
        _ => later,
    }
}

fn weight(error: &io::Error) -> u8 {
    match (ConnectFault::of(error), error.kind()) {
        (ConnectFault::Client, _) => 0,
        (ConnectFault::Server, io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkUnreachable) => 1,
        (ConnectFault::Server, _) => 2,
    }
}

#[cfg(test)]
mod tests;
