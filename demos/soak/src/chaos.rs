//! What goes wrong, and what operators do, at random moments.

use std::error::Error;
use std::io;
use std::time::{Duration, Instant};

use connring::{LoadBalancing, Pool, Server, TcpConnector};
use fastrand::Rng;
use tokio::time::sleep;

use crate::servers::OwnServer;

/// Changes something every 10 to 200 ms. At the end all servers run, none is disabled, and the policy is the default.
/// Returns how many changes were made.
pub(crate) async fn until(
    end: Instant,
    pool: &Pool<TcpConnector>,
    servers: &mut [OwnServer],
    seed: u64,
) -> Result<u64, Box<dyn Error>> {
    let (mut rng, mut changes) = (Rng::with_seed(seed), 0);
    while Instant::now() < end {
        let at = rng.usize(..servers.len());
        change(&mut rng, pool, &mut servers[at]).await?;
        changes += 1;
        sleep(Duration::from_millis(rng.u64(10..200))).await;
    }
    for server in servers.iter_mut() {
        server.restart().await?;
        // Not registered at the moment, or not disabled: either is well.
        let _ = pool.enable(&server.address());
    }
    pool.set_load_balancing(LoadBalancing::RoundRobin);
    Ok(changes)
}

/// One change. The pool refuses those that do not apply, such as removing a server that is not registered.
async fn change(rng: &mut Rng, pool: &Pool<TcpConnector>, server: &mut OwnServer) -> io::Result<()> {
    let name = server.address();
    let with = |rng: &mut Rng| {
        let server = Server::new(&*name).max_conns(rng.u32(1..12)).weight(rng.u32(1..5)).tier(rng.u32(..2));
        if rng.bool() { server.max_rps(rng.f64() * 5_000.0 + 100.0) } else { server }
    };
    match rng.u8(..20) {
        0..=2 => server.kill().await,
        3..=6 => server.restart().await?,
        7 => server.hang().await?,
        8 => drop(pool.deregister(&name)),
        9 | 10 => drop(pool.register(with(rng))),
        11 | 12 => drop(pool.update(with(rng))),
        13 => pool.reset(),
        14 => drop(pool.reset_server(&name)),
        15 => drop(pool.disable(&name, Some(Duration::from_millis(rng.u64(10..500))))),
        16 => drop(pool.enable(&name)),
        17 => drop(pool.drain(&name, Duration::from_millis(rng.u64(..50))).await),
        18 => drop(pool.warm_up(Duration::from_millis(rng.u64(..50))).await),
        _ => pool.set_load_balancing(
            [LoadBalancing::RoundRobin, LoadBalancing::Weighted, LoadBalancing::LeastInUse][rng.usize(..3)],
        ),
    }
    Ok(())
}
