//! Redis: `ECHO`.

use bb8_redis::RedisConnectionManager;
use connring::Pool;
use connring_real_servers::RealServer;
use connring_redis::{RedisConn, RedisConnector};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Client, cmd};

use crate::protocol::{Ask, BoxError, Protocol, Reply, request};

/// Sends commands to one server.
pub(crate) struct Redis(MultiplexedConnection);

/// This many clients, and the one that sets the limit.
const LIMIT: u32 = 4 + 1;
/// Redis' own default.
const UNLIMITED: u32 = 10_000;

fn url(address: &str) -> String {
    format!("redis://{address}/")
}

async fn echo(conn: &mut (impl ConnectionLike + Send), text: &str) -> Result<String, BoxError> {
    Ok(cmd("ECHO").arg(text).query_async(conn).await?)
}

impl Ask for RedisConn {
    async fn ask(&mut self, text: &str) -> Result<String, BoxError> {
        echo(self, text).await
    }
}

impl Ask for MultiplexedConnection {
    async fn ask(&mut self, text: &str) -> Result<String, BoxError> {
        echo(self, text).await
    }
}

impl Protocol for Redis {
    const NAME: &str = "Redis";
    const CLOSES: &str = "CLIENT KILL";
    const LIMITS: &str = "maxclients";
    type Connector = RedisConnector;
    type Client = Pool<RedisConnector>;
    type Deadpool = deadpool_redis::Manager;
    type Bb8 = RedisConnectionManager;

    fn start() -> Option<RealServer> {
        connring_real_servers::redis()
    }

    fn connector() -> RedisConnector {
        RedisConnector::new()
    }

    fn client(pool: Pool<RedisConnector>) -> Self::Client {
        pool
    }

    async fn request(pool: &Self::Client, text: &str) -> Result<Reply, ()> {
        request(pool, text).await
    }

    fn deadpool(address: &str) -> deadpool_redis::Manager {
        deadpool_redis::Manager::new(url(address)).expect("an address")
    }

    fn bb8(address: &str) -> RedisConnectionManager {
        RedisConnectionManager::new(url(address)).expect("an address")
    }

    async fn administer(server: &RealServer) -> Result<Self, BoxError> {
        Ok(Self(Client::open(url(&server.address()))?.get_multiplexed_async_connection().await?))
    }

    async fn close_all(&mut self, _: &RealServer) -> Result<(), BoxError> {
        Ok(cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).exec_async(&mut self.0).await?)
    }

    async fn set_limited(&mut self, _: &RealServer, is_limited: bool) -> Result<(), BoxError> {
        let limit = if is_limited { LIMIT } else { UNLIMITED };
        Ok(cmd("CONFIG").arg(&["SET", "maxclients"]).arg(limit).exec_async(&mut self.0).await?)
    }
}
