//! A proxy in front of a server that can cut answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Each of so many answers is cut.
const OF: usize = 10;

/// Passes connections on to a server until it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    cuts: Arc<Cuts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Cuts {
    is_cutting: AtomicBool,
    answers: AtomicUsize,
}

impl Cuts {
    fn is_due(&self) -> bool {
        self.is_cutting.load(Ordering::Relaxed) && self.answers.fetch_add(1, Ordering::Relaxed).is_multiple_of(OF)
    }
}

impl Relay {
    pub(crate) async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (address, cuts) = (listener.local_addr()?, Arc::<Cuts>::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, server, Arc::clone(&cuts)));
        Ok(Self { address, cuts, _tasks: tasks })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn set_cutting(&self, is_cutting: bool) {
        self.cuts.is_cutting.store(is_cutting, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, cuts: Arc<Cuts>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let cuts = Arc::clone(&cuts);
        connections.spawn(async move {
            // It ends with either side.
            let _ = pass_on(client, server, &cuts).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn pass_on(mut client: TcpStream, server: SocketAddr, cuts: &Cuts) -> io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut requests, mut to_client) = client.split();
    let (mut answers, mut to_server) = server.split();
    let is_cut = tokio::select! {
        biased;
        is_cut = async {
            let mut buffer = vec![0; 64 * 1_024];
            loop {
                let length = answers.read(&mut buffer).await?;
                if length == 0 {
                    return io::Result::Ok(false);
                }
                if cuts.is_due() {
                    to_client.write_all(&buffer[..length / 2]).await?;
                    return Ok(true);
                }
                to_client.write_all(&buffer[..length]).await?;
            }
        } => is_cut?,
        ended = copy(&mut requests, &mut to_server) => ended.map(|_| false)?,
    };
    if is_cut {
        SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    }
    Ok(())
}
