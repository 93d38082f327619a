//! 1, 2, 4 … threads up to twice the cores, all at one pool: how many connections a second it hands out in all.
//!
//! connring has 1, 4 and 16 servers, the others know none. A server, and each of the other pools, has twice as many
//! connections as there are threads, so that nobody waits. `limit` is a rate limit that is never met. An asynchronous
//! pool is shared by one current-thread runtime a thread. Here r2d2 is asked with `try_get`, its fastest way.
//!
//! What pollutes it: whatever else runs on the machine, above all with more threads than cores; and on a virtual
//! machine, where its cores lie.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::contestants::{Connring, Contestant, Setup, peers};
use crate::floor::Floor;
use crate::report::{Bar, Entrant, Metric, Options, Report, cores, ratio};

const THROUGHPUT: Metric = Metric { name: "throughput", unit: "million/s" };
/// How long a contestant runs in a round.
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
    add_bars(&mut report);
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
    contestants.extend(peers(conns).into_iter().filter(|peer| peer.name != "r2d2"));
    contestants
}

/// Millions of cycles a second, of all threads together.
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
        let cycles: u64 = handles.into_iter().map(|handle| handle.join().expect("a thread that ended well")).sum();
        cycles as f64 / elapsed.as_secs_f64() / 1e6
    })
}

fn add_bars(report: &mut Report) {
    let row = |name: &str, threads| {
        report.row(name, THROUGHPUT.name, &[("threads", threads)]).expect("all numbers of threads were measured")
    };
    let of = |name: &str, threads, to: &str, to_threads| {
        ratio(row(name, threads), row(to, to_threads)).expect("both were measured in the same rounds")
    };
    let is_peer = |name: &str| !name.starts_with("connring") && !name.starts_with("floor");
    let mut bars = Vec::new();
    for servers in SERVERS {
        let plain = format!("connring, sync, servers: {servers}");
        let limited = format!("connring, sync, limit, servers: {servers}");
        for (name, bar) in [(&plain, 8.0), (&limited, 4.0)] {
            let peers = report.rows().iter().filter(|row| row.setting == [("threads", 2)] && is_peer(&row.contestant));
            let best = peers.map(|peer| of(name, 2, &peer.contestant, 2)).fold(f64::INFINITY, f64::min);
            bars.push((format!("{name}: times the best peer's throughput at 2 threads"), best, bar));
        }
        bars.push((format!("{plain}: 2 threads to 1"), of(&plain, 2, &plain, 1), 1.4));
        let bar = match servers {
            1 => Some(4.0),
            16 => Some(8.0),
            _ => None,
        };
        if let Some(bar) = bar.filter(|_| cores() >= 16) {
            bars.push((format!("{plain}: 16 threads to 1"), of(&plain, 16, &plain, 1), bar));
        }
    }
    for (figure, value, bar) in bars {
        report.bar(figure, value, Bar::AtLeast(bar));
    }
}
