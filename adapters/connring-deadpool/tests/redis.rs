//! The manager of deadpool-redis, against real servers.

#[path = "../../real-servers/redis_of_a_manager.rs"]
mod of_a_manager;

use std::sync::Arc;

use connring_deadpool::DeadpoolConnector;
use deadpool_redis::{Manager, redis};

type Connector = DeadpoolConnector<Manager>;

fn connector() -> Connector {
    Connector::new(|server| Manager::new(format!("redis://{}", server.address())).map(Arc::new))
}
