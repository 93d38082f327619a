//! Throughput of one pool under contention: checkouts a second of 1, 2, 4 … threads, up to twice the cores, in total.
//!
//! connring has 1, 4 and 16 servers; the other pools have no notion of servers. Each server, and each of the other
//! pools, has twice as many connections as there are threads, so that no caller waits. `limit` is a rate limit that is
//! never reached. An asynchronous pool is shared by threads that each run a current-thread runtime. r2d2 is called with
//! `try_get`, its fastest call.
//!
//! Sources of error: other load on the machine, above all with more threads than cores; on a virtual machine, the
//! placement of its cores, which may be two threads of one core for some rounds and not for others. `a pool a thread`
//! shows what the machine allowed: its threads share nothing.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestants::{Apart, Connring, Contestant, Setup, peers};
use crate::floor::Floor;
use crate::report::{Entrant, Metric, Options, Report, Target, cores, ratio};

const THROUGHPUT: Metric = Metric { name: "throughput", unit: "million/s" };
/// How long a contestant runs in each round.
const SPAN: Duration = Duration::from_millis(100);
const SERVERS: [u32; 3] = [1, 4, 16];
const AGAINST: &str = "connring, sync, servers: 4";

pub fn run(options: &Options) {
    let mut report = Report::new("contended", options);
    let threads = (0..).map(|power| 1 << power).take_while(|&threads| threads <= 2 * cores());
    let contestants: Vec<_> =
        threads.flat_map(|threads| contestants(threads as u32).into_iter().map(move |one| (threads, one))).collect();
    let entrants = contestants.iter().map(|(threads, contestant)| Entrant {
        contestant: contestant.name.clone(),
        setting: vec![("threads", *threads as u64)],
        against: AGAINST,
        measure: Box::new(|| vec![throughput(contestant, *threads)]),
    });
    report.measure(&[THROUGHPUT], entrants.collect());
    add_targets(&mut report);
    report.print();
}

fn contestants(threads: u32) -> Vec<Contestant> {
    let conns = 2 * threads;
    let mut contestants = Vec::new();
    for servers in SERVERS {
        let plain = Setup { servers, conns, is_limited: false };
        let limited = Setup { is_limited: true, ..plain };
        contestants.extend([
            Contestant::by_sync(format!("connring, sync, servers: {servers}"), Connring::new(plain)),
            Contestant::by_sync(format!("connring, sync, limit, servers: {servers}"), Connring::new(limited)),
            Contestant::by_async(format!("connring, async, servers: {servers}"), Connring::new(plain)),
            Contestant::by_async(format!("connring, async, limit, servers: {servers}"), Connring::new(limited)),
            Contestant::by_sync(
                format!("floor, sync, servers: {servers}"),
                Floor::new(servers as usize, conns as usize, None),
            ),
        ]);
    }
    let apart = Apart::new(Setup { servers: 4, conns, is_limited: false }, threads);
    contestants.push(Contestant::by_sync("connring, sync, a pool a thread", apart));
    contestants.extend(peers(conns).into_iter().filter(|peer| peer.name != "r2d2"));
    contestants
}

/// Returns the throughput of all threads together, in millions of cycles a second.
fn throughput(contestant: &Contestant, threads: usize) -> f64 {
    let barrier = Barrier::new(threads + 1);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let work = || {
            let mut is_ready = false;
            contestant.cycles.run(&mut || {
                if !is_ready {
                    is_ready = true;
                    barrier.wait();
                }
                !is_over.load(Ordering::Relaxed)
            })
        };
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        barrier.wait();
        let begin = Instant::now();
        thread::sleep(SPAN);
        is_over.store(true, Ordering::Relaxed);
        let elapsed = begin.elapsed();
        let cycles: u64 = handles.into_iter().map(|handle| handle.join().expect("the thread does not panic")).sum();
        cycles as f64 / elapsed.as_secs_f64() / 1e6
    })
}

fn add_targets(report: &mut Report) {
    let row = |name: &str, threads| {
        report.row(name, THROUGHPUT.name, &[("threads", threads)]).expect("each number of threads was measured")
    };
    let of = |name: &str, threads, to: &str, to_threads| {
        ratio(row(name, threads), row(to, to_threads)).expect("both were measured in the same rounds")
    };
    let is_peer = |name: &str| !name.starts_with("connring") && !name.starts_with("floor");
    let mut targets = Vec::new();
    for servers in SERVERS {
        let plain = format!("connring, sync, servers: {servers}");
        let limited = format!("connring, sync, limit, servers: {servers}");
        for (name, target) in [(&plain, 8.0), (&limited, 4.0)] {
            let peers = report.rows().iter().filter(|row| row.setting == [("threads", 2)] && is_peer(&row.contestant));
            let best = peers.map(|peer| of(name, 2, &peer.contestant, 2)).fold(f64::INFINITY, f64::min);
            targets.push((format!("{name}: times the best peer's throughput at 2 threads"), best, target));
        }
        targets.push((format!("{plain}: 2 threads to 1"), of(&plain, 2, &plain, 1), 1.4));
        let target = match servers {
            1 => Some(4.0),
            16 => Some(8.0),
            _ => None,
        };
        if let Some(target) = target.filter(|_| cores() >= 16) {
            targets.push((format!("{plain}: 16 threads to 1"), of(&plain, 16, &plain, 1), target));
        }
    }
    for (figure, value, target) in targets {
        report.target(figure, value, Target::AtLeast(target));
    }
}
