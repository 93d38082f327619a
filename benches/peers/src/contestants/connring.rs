//! connring with its defaults, upkeep included, but without lifetimes, as the others. Dials and upkeep have a thread of
//! their own, one for all pools.

use std::convert::Infallible;
use std::hint;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::Duration;

use connring::{Connector, Pool, PooledConn};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{Async, Sync, open_all};

pub struct Connring<C: Connector>(pub Pool<C>);

#[derive(Clone, Copy)]
pub struct Setup {
    pub servers: u32,
    /// For each server.
    pub conns: u32,
    /// A rate limit that is never met: it costs its work and turns nobody away.
    pub is_limited: bool,
}

const NEVER_MET_RPS: f64 = 1e9;
const HOUR: Duration = Duration::from_secs(3_600);

/// Numbers, without I/O and without a check.
pub struct Numbers;

impl Connector for Numbers {
    type Conn = u64;
    type Error = Infallible;

    async fn connect(&self, _server: &connring::Server) -> Result<u64, Infallible> {
        Ok(1)
    }
}

/// What a caller looks at in a connection.
pub trait Value {
    fn value(&self) -> u64;
}

impl Value for u64 {
    fn value(&self) -> u64 {
        *self
    }
}

impl Value for TcpStream {
    fn value(&self) -> u64 {
        self.as_raw_fd() as u64
    }
}

impl Connring<Numbers> {
    pub fn new(setup: Setup) -> Self {
        Self::with(Numbers, (0..setup.servers).map(|server| format!("server-{server}")), setup)
    }
}

impl<C: Connector<Conn: Value>> Connring<C> {
    /// With all connections open.
    pub fn with(connector: C, addresses: impl Iterator<Item = String>, setup: Setup) -> Self {
        let pool = Self::cold(connector, addresses, setup);
        open_all(&pool, setup.servers * setup.conns);
        pool
    }

    /// Without a connection. What fails is left alone for longer than a measurement takes.
    pub fn cold(connector: C, addresses: impl Iterator<Item = String>, setup: Setup) -> Self {
        let mut builder = Pool::builder(connector)
            .servers(addresses)
            .max_conns_per_server(setup.conns)
            .idle_timeout(None)
            .max_lifetime(None)
            .max_waiters(usize::MAX)
            .backoff(HOUR, HOUR)
            .backoff_spread_ratio(0.0)
            .runtime(background());
        if setup.is_limited {
            builder = builder.max_rps(NEVER_MET_RPS);
        }
        Self(builder.build().expect("a pool"))
    }
}

/// Where all pools dial and do their upkeep: a thread, for as long as the process lives.
pub fn background() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    RUNTIME.get_or_init(build).handle().clone()
}

impl<C: Connector<Conn: Value>> Sync for Connring<C> {
    type Conn<'a> = PooledConn<C>;

    fn acquire(&self) -> Self::Conn<'_> {
        // With a limit, a thread that loses the processor between its look at the clock and its token, for longer than
        // the burst lasts, finds none. It tries again, and the time counts.
        loop {
            match self.0.try_acquire() {
                Ok(conn) => return conn,
                Err(_) => hint::spin_loop(),
            }
        }
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        (**conn).value()
    }

    fn release(&self, conn: Self::Conn<'_>) {
        conn.release();
    }
}

impl<C: Connector<Conn: Value>> Async for Connring<C> {
    type Conn<'a> = PooledConn<C>;

    async fn acquire(&self) -> Self::Conn<'_> {
        self.0.acquire().await.expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        (**conn).value()
    }

    fn release(&self, conn: Self::Conn<'_>) {
        conn.release();
    }
}
