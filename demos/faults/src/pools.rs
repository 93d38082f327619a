//! The contestants: what they have in common, and connring.

use std::time::Duration;

use connring::{AcquireOptions, Pool, PooledConn, Server};

use crate::protocol::{Protocol, Reply};

/// The most connections to each server.
pub(crate) const CONNS: u32 = 32;
/// The longest wait for a connection.
pub(crate) const WAIT: Duration = Duration::from_secs(1);
/// The longest connect, and the longest check.
pub(crate) const CONNECT: Duration = Duration::from_millis(500);
/// The longest wait for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(250);

pub(crate) trait Contestant<P: Protocol>: Send + Sync + Sized + 'static {
    const NAME: &str;
    /// A connection that is checked out.
    type Held: Send + 'static;
    fn over(addresses: &[String]) -> Self;
    /// Sends a text to a server of the pool's choice.
    fn request(&self, text: &str) -> impl Future<Output = Result<Reply, ()>> + Send;
    /// Checks out a connection, to this server if that can be.
    fn hold(&self, server: usize) -> impl Future<Output = Option<Self::Held>> + Send;
    /// Returns one.
    fn let_go(held: Self::Held);
    /// How many connections are checked out, by what the pool says.
    fn in_use(&self) -> usize;
    /// How many attempts at a server there were.
    fn connects(&self, server: usize) -> u64;
}

/// One pool for all servers.
pub(crate) struct Connring<P: Protocol> {
    pool: Pool<P::Connector>,
    client: P::Client,
}

impl<P: Protocol> Contestant<P> for Connring<P> {
    const NAME: &str = "connring";
    type Held = PooledConn<P::Connector>;

    fn over(addresses: &[String]) -> Self {
        let servers =
            addresses.iter().enumerate().map(|(number, address)| Server::named(number.to_string(), address.clone()));
        let builder = Pool::builder(P::connector()).servers(servers).max_conns_per_server(CONNS);
        let pool = builder.wait_timeout(WAIT).connect_timeout(CONNECT).build().expect("a pool");
        Self { client: P::client(pool.clone()), pool }
    }

    async fn request(&self, text: &str) -> Result<Reply, ()> {
        P::request(&self.client, text).await
    }

    async fn hold(&self, server: usize) -> Option<Self::Held> {
        self.pool.acquire_with(AcquireOptions::new().prefer(server.to_string())).await.ok()
    }

    fn let_go(held: Self::Held) {
        held.release();
    }

    fn in_use(&self) -> usize {
        self.pool.status().servers.iter().map(|server| server.in_use as usize).sum()
    }

    fn connects(&self, server: usize) -> u64 {
        let totals = &self.pool.status().servers[server].totals;
        totals.connects + totals.connect_failures
    }
}
