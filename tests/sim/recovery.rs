//! After the trouble: every server is up again within a bounded time, and serves.

use std::sync::Arc;
use std::time::Duration;

use connring::{LoadBalancing, Pool, ServerState};
use tokio::time::sleep;

use crate::caller::Caller;
use crate::net::SimConnector;
use crate::world::{MS, World};

/// Has one caller after another use the pool until all servers are up and have served.
pub(crate) async fn heals(world: &Arc<World>, pool: &Pool<SimConnector>) -> Result<(), String> {
    let (begin, patience) = (world.now(), world.plan.healing());
    // A server of a small weight would serve late.
    pool.set_load_balancing(LoadBalancing::RoundRobin);
    let mut caller = Caller::new(world, pool, world.plan.callers);
    let mut served = vec![false; world.plan.servers];
    loop {
        if let Some(server) = caller.uses_once().await {
            served[server] = true;
        }
        if world.is_over() {
            return Ok(());
        }
        let status = pool.status();
        let sick: Vec<_> = status.servers.iter().filter(|server| server.state != ServerState::Up).collect();
        // The others serve for want of them alone.
        let is_idle = |server: &usize| world.state().is_of_best_tier(*server) && !served[*server];
        let unused: Vec<_> = (0..served.len()).filter(is_idle).collect();
        if sick.is_empty() && unused.is_empty() {
            return Ok(());
        }
        if world.now() > begin + patience.as_nanos() as u64 {
            let ms = (world.now() - begin) / MS;
            return Err(format!(
                "{ms} ms after the trouble {unused:?} have not served, and these are not up: {sick:?}"
            ));
        }
        sleep(Duration::from_millis(5)).await;
    }
}
