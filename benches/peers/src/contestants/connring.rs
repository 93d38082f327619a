//! connring with its defaults, maintenance included, but like the others without lifetimes. One background thread runs
//! the connect attempts and the maintenance of all pools.

use std::cell::Cell;
use std::convert::Infallible;
use std::hint;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use connring::{Connector, Pool, PooledConn};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};

use super::{Async, Sync, open_all};

pub struct Connring<C: Connector>(pub Pool<C>);

#[derive(Clone, Copy)]
pub struct Setup {
    pub servers: u32,
    /// Connections to each server.
    pub conns: u32,
    /// Whether a rate limit is set. It is never reached, so it costs its checks and refuses no caller.
    pub is_limited: bool,
}

const UNREACHED_RPS: f64 = 1e9;
const HOUR: Duration = Duration::from_secs(3_600);

/// A connector whose connections are numbers, without I/O and without a check.
pub struct Numbers;

impl Connector for Numbers {
    type Conn = u64;
    type Error = Infallible;

    async fn connect(&self, _server: &connring::Server) -> Result<u64, Infallible> {
        Ok(1)
    }
}

/// Reads a value from a connection, so that the compiler cannot remove the checkout.
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
    /// Builds a pool and opens all its connections.
    pub fn with(connector: C, addresses: impl Iterator<Item = String>, setup: Setup) -> Self {
        let pool = Self::cold(connector, addresses, setup);
        open_all(&pool, setup.servers * setup.conns);
        pool
    }

    /// Builds a pool without a connection. A failed server is retried only after a backoff longer than any measurement.
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
            builder = builder.max_rps(UNREACHED_RPS);
        }
        Self(builder.build().expect("a pool"))
    }
}

/// Returns the runtime for connect attempts and background tasks: one thread, which lives as long as the process.
pub fn background() -> Handle {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    RUNTIME.get_or_init(build).handle().clone()
}

impl<C: Connector<Conn: Value>> Sync for Connring<C> {
    type Conn<'a> = PooledConn<C>;

    fn acquire(&self) -> Self::Conn<'_> {
        // With a limit, a thread that is preempted between reading the clock and taking the token, for longer than the
        // burst lasts, finds no token. It retries, and the time of the retry counts.
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

/// A pool for each of several threads: nothing is shared, so that what two threads reach together is what the machine
/// allows.
pub struct Apart {
    pools: Vec<Connring<Numbers>>,
    threads: AtomicUsize,
}

impl Apart {
    pub fn new(setup: Setup, threads: u32) -> Self {
        Self { pools: (0..threads).map(|_| Connring::new(setup)).collect(), threads: AtomicUsize::new(0) }
    }
}

impl Sync for Apart {
    type Conn<'a> = PooledConn<Numbers>;

    fn acquire(&self) -> Self::Conn<'_> {
        thread_local! {
            static THREAD: Cell<Option<usize>> = const { Cell::new(None) };
        }
        let thread = THREAD.get().unwrap_or_else(|| self.threads.fetch_add(1, Ordering::Relaxed));
        THREAD.set(Some(thread));
        Sync::acquire(&self.pools[thread % self.pools.len()])
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        **conn
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
