//! connring with its defaults, upkeep included, but without lifetimes, as the others. Dials and upkeep have a thread of
//! their own.

use std::convert::Infallible;
use std::os::fd::AsRawFd;

use connring::{Connector, Pool, PooledConn};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::{Async, Sync};

/// A pool with all its connections open.
pub struct Connring<C: Connector> {
    pub pool: Pool<C>,
    runtime: Option<Runtime>,
}

#[derive(Clone, Copy)]
pub struct Setup {
    pub servers: u32,
    /// For each server.
    pub conns: u32,
    /// A rate limit that is never met: it costs its work and turns nobody away.
    pub is_limited: bool,
}

const NEVER_MET_RPS: f64 = 1e9;

/// Numbers, without I/O and without a check.
pub struct Numbers;

impl Connector for Numbers {
    type Conn = u64;
    type Error = Infallible;

    async fn connect(&self, _address: &str) -> Result<u64, Infallible> {
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

impl<C: Connector> Connring<C> {
    pub fn with(connector: C, addresses: impl Iterator<Item = String>, setup: Setup) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let mut builder = Pool::builder(connector)
            .servers(addresses)
            .max_conns_per_server(setup.conns)
            .idle_timeout(None)
            .max_lifetime(None)
            .runtime(runtime.handle().clone());
        if setup.is_limited {
            builder = builder.max_rps(NEVER_MET_RPS);
        }
        let pool = builder.build().expect("a pool");
        runtime.block_on(async {
            let mut held = Vec::new();
            for _ in 0..setup.servers * setup.conns {
                held.push(pool.acquire().await.expect("a connection"));
            }
            held.into_iter().for_each(PooledConn::release);
        });
        Self { pool, runtime: Some(runtime) }
    }
}

impl<C: Connector<Conn: Value>> Sync for Connring<C> {
    type Conn<'a> = PooledConn<C>;

    fn acquire(&self) -> Self::Conn<'_> {
        self.pool.try_acquire().expect("a connection")
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
        self.pool.acquire().await.expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        (**conn).value()
    }

    fn release(&self, conn: Self::Conn<'_>) {
        conn.release();
    }
}

impl<C: Connector> Drop for Connring<C> {
    fn drop(&mut self) {
        // Contestants may be dropped inside a runtime, where it must not be waited for.
        self.runtime.take().expect("it is taken here alone").shutdown_background();
    }
}
