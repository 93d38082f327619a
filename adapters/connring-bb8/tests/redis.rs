//! The manager of bb8-redis, against real servers.

#[path = "../../real-servers/redis_of_a_manager.rs"]
mod of_a_manager;

use std::sync::Arc;

use bb8_redis::{RedisConnectionManager, redis};
use connring_bb8::Bb8Connector;

type Connector = Bb8Connector<RedisConnectionManager>;

fn connector() -> Connector {
    Connector::new(|server| RedisConnectionManager::new(format!("redis://{}", server.address())).map(Arc::new))
}
