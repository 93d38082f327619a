//! TCP servers on loopback that can be killed, made to hang, and restarted.

use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A connect attempt on loopback that takes longer than this is considered to hang.
const HANGS_AFTER: Duration = Duration::from_millis(100);

/// A server that answers `<number>\n` with `<number> <its own address>\n`.
pub(crate) struct OwnServer {
    address: SocketAddr,
    /// The accepting task, if the server is running.
    listening: JoinSet<()>,
    /// One task for each connection.
    connections: Arc<Mutex<JoinSet<()>>>,
    /// While the server hangs: a listener without an accepting task, and the connections that fill its backlog.
    hanging: Option<(TcpListener, Vec<TcpStream>)>,
}

/// Starts `count` servers.
///
/// Their ports are below the ephemeral range of the system. Within that range, a connect attempt to a dead server can
/// get the server's port as its own local port. It then connects to itself, and the server cannot listen on its port
/// again.
pub(crate) async fn start(count: usize) -> io::Result<Vec<OwnServer>> {
    // Concurrent runs of this program start at different ports.
    let mut port = 10_000 + u16::try_from(std::process::id() % 2_000).expect("a number below 2000") * 10;
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
        let mut server = Self { address, listening: JoinSet::new(), connections: Arc::default(), hanging: None };
        server.restart().await?;
        Ok(server)
    }

    /// Returns the address, even while the server is dead.
    pub(crate) fn address(&self) -> Arc<str> {
        self.address.to_string().into()
    }

    /// Closes the listener and all connections. The port then refuses connections.
    pub(crate) async fn kill(&mut self) {
        self.hanging = None;
        self.listening.shutdown().await;
        self.close_connections().await;
    }

    /// Starts to listen and answer on the server's port, after closing the old connections.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot listen on its port.
    pub(crate) async fn restart(&mut self) -> io::Result<()> {
        self.kill().await;
        let listener = listen(self.address, 1_024)?;
        let (address, connections) = (self.address(), self.connections.clone());
        self.listening.spawn(async move {
            loop {
                // An error of `accept` affects one connection, or is temporary.
                let Ok((stream, _)) = listener.accept().await else {
                    sleep(Duration::from_millis(1)).await;
                    continue;
                };
                let mut connections = connections.lock().unwrap_or_else(PoisonError::into_inner);
                while connections.try_join_next().is_some() {}
                let address = address.clone();
                connections.spawn(async move {
                    // An error of `answer` means that the client closed the connection.
                    let _ = answer(stream, &address).await;
                });
            }
        });
        Ok(())
    }

    /// Hangs, like a host behind a firewall that drops packets: connect attempts get no answer. Closes open connections
    /// once connect attempts hang.
    ///
    /// # Errors
    ///
    /// Returns an error if the server cannot listen on its port, or if the system does not bound the backlog.
    pub(crate) async fn hang(&mut self) -> io::Result<()> {
        self.hanging = None;
        self.listening.shutdown().await;
        let listener = listen(self.address, 0)?;
        let mut filling = Vec::new();
        while let Ok(connected) = timeout(HANGS_AFTER, TcpStream::connect(self.address)).await {
            filling.push(connected?);
            if filling.len() > 1_024 {
                return Err(io::Error::other("the system does not bound the backlog of a listener"));
            }
        }
        self.hanging = Some((listener, filling));
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
    // Connections of the previous listener may still be in TIME_WAIT.
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
