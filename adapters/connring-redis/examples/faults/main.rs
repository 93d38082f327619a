//! Faults of one of three Redis servers under load, with connring and with one pool for each server, used in turn:
//! deadpool-redis and bb8-redis.
//!
//! Run it with `cargo run --release -p connring-redis --example faults`. It needs redis-server, and takes a minute and a half.
//!
//! 64 tasks send an `ECHO` of a text of their own, wait for the answer for 250 ms at most, and pause for 5 ms. None tries
//! again. After a second one server has a fault for a second. The columns of requests, failures and times are those of
//! the requests that began in that second, with the wait for a connection:
//!
//! - *wrong*: the answer was not the text; *failed*: no answer in time, an error, or no connection;
//! - *late*: failed requests that began after the fault had ended;
//! - *back*: from the end of the fault until the server answers a request that began after it;
//! - *connects*: attempts at that server during the fault.
//!
//! Sources of error: servers, tasks and pools share the machine. All pools have the same sizes and timeouts; the peers
//! check each connection by a `PING` at checkout, as they do by default.

#![cfg(unix)]
#![allow(clippy::disallowed_methods, reason = "real servers take real time")]

mod contestants;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use connring_real_servers::{RealServer, redis};
use redis::{Client, cmd};
use tokio::time::{sleep, timeout};

use crate::contestants::{Bb8, Connring, Contestant, Deadpool, Reply};

const TASKS: usize = 64;
const PATIENCE: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(5);
const STEADY: Duration = Duration::from_secs(1);
const FAULT: Duration = Duration::from_secs(1);
/// How long the load goes on after a fault.
const AFTER: Duration = Duration::from_secs(4);
/// The server that has the fault.
const FAULTY: usize = 1;

#[derive(Clone, Copy)]
enum Fault {
    /// SIGKILL, and a restart.
    Kill,
    /// SIGSTOP and SIGCONT.
    Stop,
    /// `CLIENT KILL` of all connections, every 100 ms.
    KillClients,
    /// The same, and `maxclients` refuses new ones.
    Full,
}

const FAULTS: [(&str, Fault); 4] = [
    ("SIGKILL, restart", Fault::Kill),
    ("SIGSTOP, SIGCONT", Fault::Stop),
    ("CLIENT KILL", Fault::KillClients),
    ("maxclients", Fault::Full),
];

/// One request.
struct Record {
    began: Instant,
    took: Duration,
    result: Result<Reply, ()>,
    is_right: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    println!(
        "{:<18}{:<16}{:>9}{:>7}{:>8}{:>9}{:>9}{:>9}{:>6}{:>9}{:>10}",
        "fault", "pool", "requests", "wrong", "failed", "p50 ms", "p99 ms", "max ms", "late", "back ms", "connects"
    );
    for (name, fault) in FAULTS {
        measure::<Connring>(name, fault).await;
        measure::<Deadpool>(name, fault).await;
        measure::<Bb8>(name, fault).await;
    }
}

async fn measure<C: Contestant>(name: &str, fault: Fault) {
    let mut servers: Vec<_> = (0..3).map(|_| redis().expect("redis-server is installed")).collect();
    let addresses: Vec<_> = servers.iter().map(RealServer::address).collect();
    let pool = Arc::new(C::over(&addresses));
    let is_over = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> =
        (0..TASKS).map(|task| tokio::spawn(load(task, Arc::clone(&pool), Arc::clone(&is_over)))).collect();
    sleep(STEADY).await;
    let (began, connects) = (Instant::now(), pool.connects(FAULTY));
    inflict(fault, &mut servers[FAULTY]).await;
    let (ended, connects) = (Instant::now(), pool.connects(FAULTY) - connects);
    sleep(AFTER).await;
    is_over.store(true, Ordering::Relaxed);
    let mut records = Vec::new();
    for task in tasks {
        records.extend(task.await.expect("the task does not panic"));
    }

    let wrong = records.iter().filter(|record| !record.is_right).count();
    let late = records.iter().filter(|record| record.began >= ended && record.result.is_err()).count();
    let is_back = |record: &&Record| record.began >= ended && matches!(record.result, Ok(Reply { server: FAULTY, .. }));
    let back = records.iter().filter(is_back).map(|record| record.began + record.took - ended).min();
    let during = records.iter().filter(|record| (began..ended).contains(&record.began));
    let failed = during.clone().filter(|record| record.result.is_err()).count();
    let mut times: Vec<_> = during.map(|record| record.took).collect();
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let quantile = |ratio: f64| ms(times[((times.len() - 1) as f64 * ratio) as usize]);
    let back = back.map_or_else(|| "never".to_owned(), |time| format!("{:.0}", ms(time)));
    println!(
        "{name:<18}{:<16}{:>9}{wrong:>7}{failed:>8}{:>9.2}{:>9.2}{:>9.2}{late:>6}{back:>9}{connects:>10}",
        C::NAME,
        times.len(),
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    );
}

async fn load<C: Contestant>(task: usize, pool: Arc<C>, is_over: Arc<AtomicBool>) -> Vec<Record> {
    let mut records = Vec::new();
    for round in 0.. {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let own = format!("{task}/{round}");
        let began = Instant::now();
        let result = pool.echo(&own).await;
        let is_right = result.as_ref().map_or(true, |reply| reply.text == own);
        records.push(Record { began, took: began.elapsed(), result, is_right });
        sleep(PAUSE).await;
    }
    records
}

async fn inflict(fault: Fault, server: &mut RealServer) {
    match fault {
        Fault::Kill => {
            server.kill();
            sleep(FAULT).await;
            server.start_again();
        }
        Fault::Stop => {
            server.stop();
            sleep(FAULT).await;
            server.resume();
        }
        Fault::KillClients | Fault::Full => {
            let client = Client::open(format!("redis://{}", server.address())).expect("an address");
            let mut admin = client.get_multiplexed_async_connection().await.expect("a connection");
            let ended = Instant::now() + FAULT;
            let mut config = cmd("CONFIG");
            config.arg(&["SET", "maxclients"]);
            if let Fault::Full = fault {
                let () = config.clone().arg(1).query_async(&mut admin).await.expect("an answer");
            }
            while Instant::now() < ended {
                let kill = cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).exec_async(&mut admin).await;
                kill.expect("an answer");
                sleep(FAULT / 10).await;
            }
            let () = config.arg(10_000).query_async(&mut admin).await.expect("an answer");
        }
    }
}

/// Waits for an answer, but not for ever.
async fn in_time<T, E>(answer: impl Future<Output = Result<T, E>>) -> Option<Result<T, E>> {
    timeout(PATIENCE, answer).await.ok()
}
