//! Servers of our own, real ones on loopback, that can be killed, made to swallow, and brought back.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How long a connect on loopback may take before it counts as swallowed.
const SWALLOWED_AFTER: Duration = Duration::from_millis(100);

/// A server that answers `<number>\n` with `<number> <its own address>\n`.
pub(crate) struct OwnServer {
    address: SocketAddr,
    /// The task that accepts, if there is one.
    listening: JoinSet<()>,
    /// One task for each connection.
    connections: Arc<Mutex<JoinSet<()>>>,
    /// While it swallows: the listener that nobody accepts from, and what fills its backlog.
    swallowing: Option<(TcpListener, Vec<TcpStream>)>,
}

/// Starts that many servers.
///
/// Their ports lie below the range from which the system takes ports for outgoing connections. A dial to a dead server
/// inside that range now and then gets the server's port as its own, and so is connected to itself; and a port that
/// was taken this way could not be listened on again.
pub(crate) async fn start(count: usize) -> io::Result<Vec<OwnServer>> {
    // Two runs at the same time start looking in different places.
    let mut port = 10_000 + u16::try_from(std::process::id() % 2_000).expect("it is below 2000") * 10;
    let mut servers = Vec::new();
    while servers.len() < count {
        match OwnServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await {
            Ok(server) => servers.push(server),
            Err(error) if error.kind() == ErrorKind::AddrInUse && port < 32_000 => {}
            Err(error) => return Err(error),
        }
        port += 1;
    }
    Ok(servers)
}

impl OwnServer {
    async fn start(address: SocketAddr) -> io::Result<Self> {
        let mut server = Self { address, listening: JoinSet::new(), connections: Arc::default(), swallowing: None };
        server.come_back().await?;
        Ok(server)
    }

    /// The address at which it is, or will be, reached.
    pub(crate) fn address(&self) -> Arc<str> {
        self.address.to_string().into()
    }

    /// Closes its listener and all of its connections. From now on its port refuses.
    pub(crate) async fn kill(&mut self) {
        self.swallowing = None;
        self.listening.shutdown().await;
        self.close_connections().await;
    }

    /// Listens and answers again, on the same port.
    ///
    /// # Errors
    ///
    /// When the port cannot be listened on.
    pub(crate) async fn come_back(&mut self) -> io::Result<()> {
        self.kill().await;
        let listener = listen(self.address, 1_024)?;
        let (address, connections) = (self.address(), self.connections.clone());
        self.listening.spawn(async move {
            loop {
                // An error here is about one connection, or passes.
                let Ok((stream, _)) = listener.accept().await else {
                    sleep(Duration::from_millis(1)).await;
                    continue;
                };
                let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                while connections.try_join_next().is_some() {}
                let address = address.clone();
                connections.spawn(async move {
                    // The client has gone, which is its right.
                    let _ = answer(stream, &address).await;
                });
            }
        });
        Ok(())
    }

    /// Becomes a host that drops what is sent to it: a connect is neither taken nor refused, it hangs. The connections
    /// that are open go on until this is so, and are closed then.
    ///
    /// # Errors
    ///
    /// When the port cannot be listened on, or the system takes connections without end.
    pub(crate) async fn swallow(&mut self) -> io::Result<()> {
        self.listening.shutdown().await;
        let listener = listen(self.address, 0)?;
        let mut filling = Vec::new();
        while let Ok(connected) = timeout(SWALLOWED_AFTER, TcpStream::connect(self.address)).await {
            filling.push(connected?);
            if filling.len() > 1_024 {
                return Err(io::Error::other("a listener with a backlog of 0 takes connections without end"));
            }
        }
        self.swallowing = Some((listener, filling));
        self.close_connections().await;
        Ok(())
    }

    async fn close_connections(&self) {
        let mut connections = std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner));
        connections.shutdown().await;
    }
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // The port is ours again although connections of its last listener linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

async fn answer(stream: TcpStream, address: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while stream.read_until(b'\n', &mut line).await? > 0 {
        line.pop();
        writeln!(line, " {address}")?;
        stream.write_all(&line).await?;
        line.clear();
    }
    Ok(())
}
