//! The faults, and how one server gets them.

use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use connring_real_servers::RealServer;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::network::{BACKLOG, Rules};
use crate::protocol::{BoxError, Protocol};
use crate::relay::Relay;

/// How long a fault lasts.
const LASTS: Duration = Duration::from_secs(1);
/// How often connections are closed in that time.
const EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// SIGKILL of all its processes, and a restart
    Kill,
    /// SIGSTOP and SIGCONT: its kernel still accepts connections
    Stop,
    /// The server closes all connections, idle and busy, every 100 ms
    Close,
    /// The server has a limit of few connections, and closes all once
    Limit,
    /// SIGSTOP, and its listen backlog is full: connects hang as well
    Backlog,
    /// The client has no free descriptor, and the server closes all connections
    Descriptors,
    /// A proxy in front of the server resets its connection in the middle of each tenth answer
    Reset,
    /// A firewall resets busy connections and drops SYNs; one idle connection is checked out
    Syns,
    /// All packets are dropped, behind that the server is killed, and another takes its place
    Partition,
}

impl Fault {
    pub(crate) fn label<P: Protocol>(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL, restart",
            Self::Stop => "SIGSTOP, SIGCONT",
            Self::Close => P::CLOSES,
            Self::Limit => P::LIMITS,
            Self::Backlog => "backlog full",
            Self::Descriptors => "no descriptors",
            Self::Reset => "reset in mid-answer",
            Self::Syns => "SYNs dropped",
            Self::Partition => "partition, power cut",
        }
    }

    /// Whether it needs a network namespace.
    pub(crate) fn is_of_network(self) -> bool {
        matches!(self, Self::Syns | Self::Partition)
    }

    /// Lets a server have the fault for its time. It is over when this returns.
    pub(crate) async fn inflict<P: Protocol>(
        self,
        server: &mut RealServer,
        admin: &mut P,
        relay: Option<&Relay>,
    ) -> Result<(), BoxError> {
        let end = Instant::now() + LASTS;
        match self {
            Self::Kill => {
                server.kill();
                sleep_until(end).await;
                server.start_again();
            }
            Self::Stop => {
                server.stop();
                sleep_until(end).await;
                server.resume();
            }
            Self::Close => {
                while Instant::now() < end {
                    admin.close_all(server).await?;
                    sleep(EVERY).await;
                }
            }
            Self::Limit => {
                admin.set_limited(server, true).await?;
                admin.close_all(server).await?;
                sleep_until(end).await;
                admin.set_limited(server, false).await?;
            }
            Self::Backlog => {
                server.stop();
                let waiting = fill_backlog(server.socket_address()).await?;
                sleep_until(end).await;
                server.resume();
                drop(waiting);
            }
            Self::Descriptors => {
                let limit = NoDescriptors::begin()?;
                admin.close_all(server).await?;
                sleep_until(end).await;
                drop(limit);
            }
            Self::Reset => {
                let relay = relay.ok_or("no relay")?;
                relay.set_cutting(true);
                sleep_until(end).await;
                relay.set_cutting(false);
            }
            Self::Syns => {
                let resets = Rules::reset_busy(server.port())?;
                let syns = Rules::drop_syns(server.port())?;
                sleep(EVERY).await;
                drop(resets);
                sleep_until(end).await;
                drop(syns);
            }
            Self::Partition => {
                let partition = Rules::drop_all(server.port())?;
                server.kill();
                sleep_until(end).await;
                drop(partition);
                server.start_again();
            }
        }
        Ok(())
    }
}

/// Opens connections to a server that accepts none, until one hangs.
async fn fill_backlog(server: SocketAddr) -> Result<Vec<Socket>, BoxError> {
    let mut waiting = Vec::new();
    while let Ok(connected) = timeout(EVERY, TcpStream::connect(server)).await {
        drop(connected?);
        for _ in 0..BACKLOG {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            // In progress, or hanging.
            let _ = socket.connect(&server.into());
            waiting.push(socket);
        }
    }
    Ok(waiting)
}

/// While it lives, this process gets no new descriptor.
struct NoDescriptors(Rlimit);

impl NoDescriptors {
    fn begin() -> Result<Self, BoxError> {
        let before = getrlimit(Resource::Nofile);
        // Open ones stay, and each new number is above it.
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..before })?;
        Ok(Self(before))
    }
}

impl Drop for NoDescriptors {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.0).expect("a limit below the hard one");
    }
}
