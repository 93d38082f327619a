//! Chaos at random: servers are killed, hang and come back, the pool's servers and settings change, callers give up in
//! the middle. Each answer is checked. At the end the servers are back, the pool is closed, and the program looks
//! whether memory, descriptors and tasks are what they were before, in a calm run of the same pool.
//!
//! Ends with an error if an answer was wrong, if a permit was lost, or if something is left.

#![allow(clippy::disallowed_methods, reason = "a soak takes real time")]

mod callers;
mod chaos;
#[path = "../../failover/src/servers.rs"]
mod servers;
mod usage;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use connring::{Pool, PoolStatus, TcpConnector};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::callers::Counts;
use crate::servers::OwnServer;
use crate::usage::Usage;

/// Chaos for some minutes, then a look at what is left
#[derive(Parser)]
struct Arguments {
    /// How long the chaos lasts, in minutes
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// What happens is drawn from this number; when it happens depends on the machine as well
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tasks that send requests
    #[arg(long, default_value_t = 64)]
    tasks: u64,
    /// Servers on this machine
    #[arg(long, default_value_t = 5)]
    servers: usize,
}

/// How long the load runs before the usage is taken to which that at the end is compared.
const CALM: Duration = Duration::from_secs(3);
/// How long a pool may take to heal, and the runtime to end what was left to it.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the allocated bytes may differ by: maps of the runtime keep room, and names have other lengths.
const BYTES_LEFT: i64 = 64 * 1_024;

fn pool(servers: &[OwnServer]) -> Result<Pool<TcpConnector>, connring::BuildError> {
    Pool::builder(TcpConnector::new())
        .name("soak")
        .servers(servers.iter().map(OwnServer::address))
        .max_conns_per_server(8)
        .connect_timeout(Duration::from_millis(300))
        .backoff(Duration::from_millis(50), Duration::from_millis(500))
        .wait_timeout(Duration::from_millis(500))
        .idle_timeout(Duration::from_secs(5))
        .max_lifetime(Duration::from_secs(10))
        .build()
}

fn start(pool: &Pool<TcpConnector>, arguments: &Arguments, counts: &Arc<Counts>) -> JoinSet<()> {
    let mut callers = JoinSet::new();
    for task in 0..arguments.tasks {
        callers.spawn(callers::run(pool.clone(), arguments.seed * 1_000 + task, Arc::clone(counts)));
    }
    callers
}

/// Waits until each server serves and nothing is in use: a lost permit would stay in use for ever.
async fn healed(pool: &Pool<TcpConnector>) -> Result<(), PoolStatus> {
    let began = Instant::now();
    loop {
        // Callers are what probes wait for.
        if let Ok(conn) = pool.acquire_now().await {
            conn.release();
        }
        let status = pool.status();
        let is_well = |server: &connring::ServerStatus| {
            server.state == connring::ServerState::Up && server.in_use == 0 && server.open == server.idle as u32
        };
        if status.waiters == 0 && status.servers.iter().all(is_well) {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(status);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    // The same load without faults first: the runtime, the allocator and the system keep what they need for it.
    let mut servers = servers::start(arguments.servers).await?;
    let calm_counts = Arc::default();
    let calm = pool(&servers)?;
    let mut callers = start(&calm, arguments, &calm_counts);
    sleep(CALM).await;
    callers.shutdown().await;
    calm.close_timeout(PATIENCE).await?;
    drop(calm);
    let before = Usage::settled(&mut servers).await?;

    let counts = Arc::new(Counts::default());
    let pool = pool(&servers)?;
    let mut callers = start(&pool, arguments, &counts);
    let until = Instant::now() + Duration::from_secs_f64(60.0 * arguments.minutes);
    let changes = chaos::until(until, &pool, &mut servers, arguments.seed).await?;
    callers.shutdown().await;
    pool.set_servers(servers.iter().map(|server| connring::Server::new(server.address())))?;
    let healed = healed(&pool).await;
    let totals = pool.status().totals;
    let closed = pool.close_timeout(PATIENCE).await;
    drop(pool);
    let after = Usage::settled(&mut servers).await?;

    println!(
        "{} minutes, seed {}, {} tasks, {} servers, {changes} changes",
        arguments.minutes, arguments.seed, arguments.tasks, arguments.servers
    );
    println!("{counts}");
    println!("connects {}, failed {}, ejections {}", totals.connects, totals.connect_failures, totals.ejections);
    println!("before  {before}\nafter   {after}");
    if let Err(status) = healed {
        return Err(format!("the pool did not heal in {PATIENCE:?}:\n{status}").into());
    }
    closed?;
    if counts.wrong() > 0 {
        return Err("an answer was wrong".into());
    }
    if after.descriptors > before.descriptors || after.tasks > before.tasks || after.bytes - before.bytes > BYTES_LEFT {
        return Err("something is left".into());
    }
    println!("nothing lost, nothing left");
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
