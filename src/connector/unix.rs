//! Unix stream sockets.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::UnixStream;

use super::fault::OwnFault;
use super::{ConnectFault, Connector, socket};
use crate::conn_info::ConnInfo;
use crate::server::Server;

/// Connects to Unix stream sockets; an address is the path of one, such as `"/run/service.sock"`.
///
/// On Linux an address that begins with `@` names a socket in the abstract namespace, as `ss` and systemd write it:
/// `"@service"`. (A file whose name begins so is `"./@service"`.)
///
/// The check of idle connections is that of [`TcpConnector`](crate::TcpConnector).
///
/// Errors are classified by [`ConnectFault::of`]. A full listen queue (`EAGAIN`) is a fault of the client, which
/// connects faster than the server accepts: the server is overloaded rather than dead. The error says so, and has that
/// of the system as its source.
///
/// # Race window
///
/// As with [`TcpConnector`](crate::TcpConnector#race-window): a server may close the connection between the check and
/// the first write.
///
/// # Examples
///
/// ```no_run
/// use connring::{Connector, Server, UnixConnector};
///
/// # async fn example() -> Result<(), std::io::Error> {
/// let conn = UnixConnector::new().connect(&Server::new("/run/service.sock")).await?;
/// # drop(conn);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct UnixConnector {
    check_idle_after: Duration,
}

impl UnixConnector {
    /// A connector with the default: a peek after 500 ms.
    pub fn new() -> Self {
        Self { check_idle_after: socket::CHECK_IDLE_AFTER }
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
}

impl Default for UnixConnector {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector for UnixConnector {
    type Conn = UnixStream;
    type Error = io::Error;

    async fn connect(&self, server: &Server) -> io::Result<UnixStream> {
        let address = server.address();
        #[cfg(target_os = "linux")]
        if let Some(name) = address.strip_prefix('@') {
            // tokio takes a path that begins with a zero byte for an abstract name.
            return UnixStream::connect(format!("\0{name}")).await.map_err(explained);
        }
        UnixStream::connect(address).await.map_err(explained)
    }

    fn is_reusable(&self, conn: &mut UnixStream, info: &ConnInfo) -> bool {
        socket::is_reusable(conn.try_read(&mut [0]), SockRef::from(&*conn), info.idle() > self.check_idle_after)
    }

    fn classify(&self, error: &io::Error) -> ConnectFault {
        // Also as it comes from the system, for a connector around this one that opens its sockets by itself.
        if is_full(error) { ConnectFault::Client } else { ConnectFault::of(error) }
    }
}

/// Names the cause where the listen queue is full, so that any error around this one is known as the client's fault.
fn explained(error: io::Error) -> io::Error {
    if is_full(&error) { OwnFault::error("the listen queue of the socket is full", error) } else { error }
}

/// Whether the listen queue is full. The connect of a blocking Unix socket waits then; one that may not wait fails.
fn is_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EAGAIN)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::{UnixListener, UnixStream as StdStream};
    use std::path::PathBuf;

    use super::*;

    /// Longer than the default `check_idle_after`.
    const LONG: Duration = Duration::from_millis(501);

    fn idle(idle: Duration) -> ConnInfo {
        ConnInfo::with(Server::new("any"), idle, idle, 1)
    }

    /// A socket's path of its own for each test, removed when it is dropped.
    struct Path(PathBuf);

    impl Path {
        fn new(test: &str) -> Self {
            Self(std::env::temp_dir().join(format!("connring-{}-{test}", std::process::id())))
        }

        fn address(&self) -> &str {
            self.0.to_str().unwrap()
        }

        fn server(&self) -> Server {
            Server::new(self.address())
        }
    }

    impl Drop for Path {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    /// A connection and the server's end of it, which blocks.
    async fn pair(test: &str) -> (UnixStream, StdStream) {
        let path = Path::new(test);
        let listener = UnixListener::bind(path.address()).unwrap();
        let conn = UnixConnector::new().connect(&path.server()).await.unwrap();
        (conn, listener.accept().unwrap().0)
    }

    #[tokio::test]
    async fn a_quiet_connection_is_good() {
        let (mut conn, _server) = pair("quiet").await;
        assert!(UnixConnector::default().is_reusable(&mut conn, &idle(Duration::ZERO)));
        assert!(UnixConnector::default().is_reusable(&mut conn, &idle(LONG)));
    }

    #[tokio::test]
    async fn a_close_that_the_reactor_delivered_is_seen() {
        let (mut conn, server) = pair("closed").await;
        drop(server);
        conn.readable().await.unwrap();
        assert!(!UnixConnector::new().is_reusable(&mut conn, &idle(Duration::ZERO)));
    }

    #[tokio::test]
    async fn unexpected_bytes_are_seen() {
        let (mut conn, mut server) = pair("dirty").await;
        server.write_all(b"late answer").unwrap();
        conn.readable().await.unwrap();
        assert!(!UnixConnector::new().is_reusable(&mut conn, &idle(Duration::ZERO)));
    }

    #[tokio::test]
    async fn a_peek_sees_what_the_reactor_has_not_delivered() {
        let (mut conn, server) = pair("peek").await;
        drop(server);
        assert!(UnixConnector::new().is_reusable(&mut conn, &idle(Duration::from_millis(500))));
        assert!(UnixConnector::new().check_idle_after(Duration::MAX).is_reusable(&mut conn, &idle(Duration::MAX)));
        assert!(!UnixConnector::new().is_reusable(&mut conn, &idle(LONG)));
    }

    #[tokio::test]
    async fn a_missing_socket_is_the_servers_fault() {
        let error = UnixConnector::new().connect(&Path::new("missing").server()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(UnixConnector::new().classify(&error), ConnectFault::Server);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn full_listen_queue_is_the_clients_fault() {
        use std::error::Error;

        use socket2::{Domain, SockAddr, Socket, Type};

        let path = Path::new("full");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(path.address()).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _queued = UnixConnector::new().connect(&path.server()).await.unwrap();
        let error = UnixConnector::new().connect(&path.server()).await.unwrap_err();
        assert_eq!(UnixConnector::new().classify(&error), ConnectFault::Client);
        assert_eq!(ConnectFault::of(&io::Error::other(error)), ConnectFault::Client, "in a connector around this one");
        let error = UnixConnector::new().connect(&path.server()).await.unwrap_err();
        assert_eq!(error.to_string(), "the listen queue of the socket is full");
        let source = error.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!((source.raw_os_error(), error.kind()), (Some(libc::EAGAIN), io::ErrorKind::WouldBlock));
        assert_eq!(UnixConnector::new().classify(source), ConnectFault::Client);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn an_address_with_an_at_sign_is_abstract() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;

        let name = format!("connring-{}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let mut conn = UnixConnector::new().connect(&Server::new(format!("@{name}"))).await.unwrap();
        let (server, _) = listener.accept().unwrap();
        assert!(UnixConnector::new().is_reusable(&mut conn, &idle(LONG)));
        drop(server);
        assert!(!UnixConnector::new().is_reusable(&mut conn, &idle(LONG)));
    }
}
