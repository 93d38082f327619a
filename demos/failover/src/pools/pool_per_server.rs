//! The baseline: one deadpool pool per server, and round robin over the pools.
//!
//! All timeouts are set, and `recycle` detects connections that the server has closed. There is no failover: an acquire
//! uses the next pool in turn and returns its error.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use deadpool::Runtime;
use deadpool::managed::{BuildError, Manager, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use tokio::net::TcpStream;

use super::{CONNECT_TIMEOUT, Contestant, MAX_CONNS_PER_SERVER, PoolView, ServerView, Tone};

/// How long an acquire waits for a connection of its pool to be returned.
const WAIT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(crate) struct PoolPerServer(Arc<Pools>);

struct Pools {
    list: RwLock<Vec<ServerPool>>,
    next: AtomicUsize,
}

#[derive(Clone)]
struct ServerPool {
    address: Arc<str>,
    pool: Pool<TcpManager>,
}

struct TcpManager {
    address: Arc<str>,
}

pub(crate) struct Conn {
    address: Arc<str>,
    object: Object<TcpManager>,
}

impl PoolPerServer {
    /// Opens a pool for each server.
    ///
    /// # Errors
    ///
    /// Returns an error if deadpool refuses the settings.
    pub(crate) fn open(servers: &[Arc<str>]) -> Result<Self, BuildError> {
        let list = servers.iter().cloned().map(ServerPool::open).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Pools { list: RwLock::new(list), next: AtomicUsize::new(0) })))
    }

    fn next(&self) -> ServerPool {
        let list = self.0.list.read().unwrap_or_else(PoisonError::into_inner);
        list[self.0.next.fetch_add(1, Ordering::Relaxed) % list.len()].clone()
    }
}

impl ServerPool {
    fn open(address: Arc<str>) -> Result<Self, BuildError> {
        let pool = Pool::builder(TcpManager { address: address.clone() })
            .max_size(MAX_CONNS_PER_SERVER as usize)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .build()?;
        Ok(Self { address, pool })
    }
}

impl Manager for TcpManager {
    type Type = TcpStream;
    type Error = io::Error;

    async fn create(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&*self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn recycle(&self, stream: &mut TcpStream, _metrics: &Metrics) -> RecycleResult<io::Error> {
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
            Ok(0) => Err(RecycleError::message("the server closed the connection")),
            Ok(_) => Err(RecycleError::message("unread bytes")),
        }
    }
}

impl Contestant for PoolPerServer {
    const TITLE: &'static str = "deadpool: one pool per server, round robin";

    type Conn = Conn;
    type Error = PoolError<io::Error>;

    async fn acquire(&self) -> Result<Conn, Self::Error> {
        let ServerPool { address, pool } = self.next();
        Ok(Conn { address, object: pool.get().await? })
    }

    fn server(conn: &Conn) -> String {
        conn.address.to_string()
    }

    fn stream(conn: &mut Conn) -> &mut TcpStream {
        &mut conn.object
    }

    fn release(conn: Conn) {
        drop(conn);
    }

    fn is_reused(conn: &Conn) -> bool {
        Object::metrics(&conn.object).recycle_count > 0
    }

    fn fail(conn: Conn, _reason: io::Error) {
        drop(Object::take(conn.object));
    }

    fn broken(conn: Conn, reason: io::Error) {
        Self::fail(conn, reason);
    }

    fn add(&self, address: &str) -> io::Result<()> {
        let server = ServerPool::open(address.into()).map_err(io::Error::other)?;
        self.0.list.write().unwrap_or_else(PoisonError::into_inner).push(server);
        Ok(())
    }

    fn remove(&self, address: &str) -> io::Result<()> {
        let mut list = self.0.list.write().unwrap_or_else(PoisonError::into_inner);
        let before = list.len();
        // The pool stays alive until its last acquires end.
        list.retain(|server| *server.address != *address);
        if list.len() < before { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn view(&self) -> PoolView {
        let list = self.0.list.read().unwrap_or_else(PoisonError::into_inner).clone();
        let waiting = list.iter().map(|server| server.pool.status().waiting).sum();
        let servers = list.into_iter().map(|ServerPool { address, pool }| {
            let status = pool.status();
            let idle = status.available.min(status.size);
            ServerView {
                address,
                state: "in use".into(),
                tone: Tone::Neutral,
                idle,
                in_use: status.size - idle,
                connecting: None,
                retry_after: None,
            }
        });
        PoolView { servers: servers.collect(), waiting }
    }

    async fn close(&self) -> Result<(), String> {
        for server in &*self.0.list.read().unwrap_or_else(PoisonError::into_inner) {
            server.pool.close();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn listen() -> (TcpListener, Arc<str>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().into();
        (listener, address)
    }

    #[tokio::test]
    async fn uses_pools_in_turn_while_servers_are_added_and_removed() {
        let (_first, a) = listen().await;
        let (_second, b) = listen().await;
        let pools = PoolPerServer::open(std::slice::from_ref(&a)).unwrap();
        pools.add(&b).unwrap();
        for address in [&a, &b, &a, &b] {
            assert_eq!(PoolPerServer::server(&pools.acquire().await.unwrap()), **address);
        }
        pools.remove(&a).unwrap();
        assert!(pools.remove(&a).is_err());
        for _ in 0..2 {
            assert_eq!(PoolPerServer::server(&pools.acquire().await.unwrap()), *b);
        }
    }

    #[tokio::test]
    async fn replaces_connection_closed_by_server() {
        let (listener, address) = listen().await;
        let pools = PoolPerServer::open(&[address]).unwrap();
        let mut conn = pools.acquire().await.unwrap();
        let (server_end, _) = listener.accept().await.unwrap();
        let first = PoolPerServer::stream(&mut conn).local_addr().unwrap();
        PoolPerServer::release(conn);

        let mut conn = pools.acquire().await.unwrap();
        assert_eq!(PoolPerServer::stream(&mut conn).local_addr().unwrap(), first, "the connection is reused");
        drop(server_end);
        PoolPerServer::stream(&mut conn).readable().await.unwrap();
        PoolPerServer::release(conn);

        let mut conn = pools.acquire().await.unwrap();
        assert_ne!(PoolPerServer::stream(&mut conn).local_addr().unwrap(), first, "the connection is replaced");
    }
}
