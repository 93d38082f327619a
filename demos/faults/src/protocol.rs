//! What differs between the protocols: the servers, the managers of the pools, and how a request is made.

use std::error::Error;

use connring::{Connector, Pool, PooledConn};
use connring_real_servers::RealServer;
use deadpool::managed;
use tokio::time::timeout;

use crate::pools::PATIENCE;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// An answer.
pub(crate) struct Reply {
    pub(crate) text: String,
    /// The number of the server that sent it.
    pub(crate) server: usize,
}

/// A connection on which a server sends a text back.
pub(crate) trait Ask: Send {
    fn ask(&mut self, text: &str) -> impl Future<Output = Result<String, BoxError>> + Send;
}

pub(crate) trait Protocol: Send + Sync + Sized + 'static {
    const NAME: &str;
    /// How the server closes all connections.
    const CLOSES: &str;
    /// The server's limit on connections.
    const LIMITS: &str;
    type Connector: Connector;
    /// What users of connring send requests by: its pool, or a client over it.
    type Client: Send + Sync + 'static;
    type Deadpool: managed::Manager<Type: Ask>;
    type Bb8: bb8::ManageConnection<Connection: Ask>;

    /// Starts a server. `None` if it is not installed.
    fn start() -> Option<RealServer>;

    /// Makes a started server fit for the clients.
    fn prepare(_: &RealServer) -> impl Future<Output = Result<(), BoxError>> {
        async { Ok(()) }
    }

    fn connector() -> Self::Connector;
    fn client(pool: Pool<Self::Connector>) -> Self::Client;
    fn request(client: &Self::Client, text: &str) -> impl Future<Output = Result<Reply, ()>> + Send;
    fn deadpool(address: &str) -> Self::Deadpool;
    fn bb8(address: &str) -> Self::Bb8;

    /// Prepares [`close_all`](Self::close_all) and [`set_limited`](Self::set_limited), so that they need no new
    /// descriptor.
    fn administer(server: &RealServer) -> impl Future<Output = Result<Self, BoxError>>;
    /// Lets the server close all connections of clients, idle and busy.
    fn close_all(&mut self, server: &RealServer) -> impl Future<Output = Result<(), BoxError>>;
    /// Lets the server accept a few connections only, or as many as before. Open ones may stay.
    fn set_limited(&mut self, server: &RealServer, is_limited: bool) -> impl Future<Output = Result<(), BoxError>>;
}

/// A request by a connection of connring's pool.
pub(crate) async fn request<C: Connector<Conn: Ask>>(pool: &Pool<C>, text: &str) -> Result<Reply, ()> {
    let mut conn = pool.acquire().await.map_err(drop)?;
    let server = PooledConn::info(&conn).server().name().parse().map_err(drop)?;
    match timeout(PATIENCE, conn.ask(text)).await {
        Ok(Ok(text)) => {
            conn.release();
            Ok(Reply { text, server })
        }
        Ok(Err(error)) => {
            conn.broken(error);
            Err(())
        }
        Err(elapsed) => {
            conn.fail(elapsed);
            Err(())
        }
    }
}
