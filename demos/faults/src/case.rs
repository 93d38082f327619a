//! One fault with one contestant: load, the fault, and what became of the requests and the permits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use connring_real_servers::RealServer;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fault::Fault;
use crate::pools::{CONNS, Contestant};
use crate::protocol::{BoxError, Protocol, Reply};
use crate::relay::Relay;
use crate::report::Row;

pub(crate) const TASKS: usize = 64;
const PAUSE: Duration = Duration::from_millis(5);
const STEADY: Duration = Duration::from_secs(1);
/// How long the load goes on after a fault.
const AFTER: Duration = Duration::from_secs(3);
/// How long a pool may take to hand out all its connections, after the load.
const SETTLES: Duration = Duration::from_secs(5);
/// The server that has the fault.
const FAULTY: usize = 1;

/// One request.
struct Record {
    began: Instant,
    took: Duration,
    result: Result<Reply, ()>,
    is_right: bool,
}

pub(crate) async fn run<P: Protocol, C: Contestant<P>>(
    fault: Fault,
    servers: &mut [RealServer],
) -> Result<Row, BoxError> {
    let mut admin = P::administer(&servers[FAULTY]).await?;
    let mut addresses: Vec<_> = servers.iter().map(RealServer::address).collect();
    let relay = match fault {
        Fault::Reset => Some(Relay::start(servers[FAULTY].socket_address()).await?),
        _ => None,
    };
    if let Some(relay) = &relay {
        addresses[FAULTY] = relay.address();
    }

    let pool = Arc::new(C::over(&addresses));
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(load::<P, C>(task, Arc::clone(&pool), Arc::clone(&is_over)));
    }
    sleep(STEADY).await;
    let out = if fault == Fault::Syns { pool.hold(FAULTY).await } else { None };
    let (began, connects) = (Instant::now(), pool.connects(FAULTY));
    fault.inflict(&mut servers[FAULTY], &mut admin, relay.as_ref()).await?;
    let (ended, connects) = (Instant::now(), pool.connects(FAULTY) - connects);
    out.into_iter().for_each(C::let_go);
    sleep(AFTER).await;
    is_over.store(true, Ordering::Relaxed);
    let records: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let lost = lost::<P, C>(&pool, servers.len()).await;

    let is_back = |record: &&Record| record.began >= ended && matches!(record.result, Ok(Reply { server: FAULTY, .. }));
    let during = records.iter().filter(|record| (began..ended).contains(&record.began));
    let mut times: Vec<_> = during.clone().map(|record| record.took).collect();
    times.sort_unstable();
    Ok(Row {
        fault: fault.label::<P>(),
        pool: C::NAME,
        before: records.iter().filter(|record| record.began < began).count(),
        wrong: records.iter().filter(|record| !record.is_right).count(),
        lost,
        failed: during.filter(|record| record.result.is_err()).count(),
        late: records.iter().filter(|record| record.began >= ended && record.result.is_err()).count(),
        back: records.iter().filter(is_back).map(|record| record.began + record.took - ended).min(),
        connects,
        times,
    })
}

async fn load<P: Protocol, C: Contestant<P>>(task: usize, pool: Arc<C>, is_over: Arc<AtomicBool>) -> Vec<Record> {
    let mut records = Vec::new();
    for round in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let own = format!("{task}/{round}");
        let began = Instant::now();
        let result = pool.request(&own).await;
        let is_right = result.as_ref().map_or(true, |reply| reply.text == own);
        records.push(Record { began, took: began.elapsed(), result, is_right });
        sleep(PAUSE).await;
    }
    records
}

/// How many permits are lost: connections that the pool says are checked out, although none is, or those that cannot be
/// checked out, whichever is more.
async fn lost<P: Protocol, C: Contestant<P>>(pool: &Arc<C>, servers: usize) -> usize {
    let deadline = Instant::now() + SETTLES;
    while pool.in_use() > 0 && Instant::now() < deadline {
        sleep(PAUSE).await;
    }
    let in_use = pool.in_use();
    let mut held = JoinSet::new();
    for server in (0..servers).flat_map(|server| vec![server; CONNS as usize]) {
        let pool = Arc::clone(pool);
        held.spawn(async move {
            loop {
                match pool.hold(server).await {
                    None if Instant::now() < deadline => sleep(PAUSE).await,
                    held => return held,
                }
            }
        });
    }
    // All of them are held before one is let go.
    let held = held.join_all().await;
    in_use.max(held.iter().filter(|held| held.is_none()).count())
}
