//! A deterministic simulation of clients, servers, network and time. See `README.md` in this folder.

mod caller;
mod features;
mod health;
mod hooks;
mod limits;
mod monitor;
mod net;
mod observer;
mod orders;
mod plan;
mod recovery;
mod reports;
mod rng;
mod run;
mod tiers;
mod uses;
mod wait_queue;
mod weather;
mod world;

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use crate::features::{Coverage, Features};
use crate::plan::Plan;
use crate::run::{Report, run};
use crate::world::Event;

/// The seeds of the ordinary test command.
const SEEDS: u64 = 300;
/// Virtual time is free: a seed that takes this long in real time hangs.
const HANGS_AFTER: Duration = Duration::from_secs(60);
/// The number of events of a trace that are printed.
const SHOWN: usize = 400;

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

fn tell(report: &Report) -> String {
    let Report { seed, violation, trace, .. } = report;
    let skipped = trace.len().saturating_sub(SHOWN);
    let mut text = format!("{:#?}\n... {skipped} events before these\n", Plan::new(*seed));
    for (at, event) in &trace[skipped..] {
        text.push_str(&format!("{:>9.3} ms  {event:?}\n", *at as f64 / 1e6));
    }
    let violation = violation.as_deref().unwrap_or("nothing is wrong");
    let features = Features::new(*seed);
    let without = Features::all().beyond(features);
    text.push_str(&format!(
        "\nseed {seed}: {violation}\nwith: {features:?}\nwithout: {without:?}\nreplay: {}\n",
        command(*seed)
    ));
    text
}

fn command(seed: u64) -> String {
    format!("SIM_SEED={seed} cargo test --test sim -- --nocapture invariants_hold_for_all_seeds")
}

/// `SIM_SEED` replays one seed with its trace; `SIM_SEEDS` says how many are run, `SIM_FROM` from which on;
/// `SIM_WITHOUT` switches features off.
#[test]
fn invariants_hold_for_all_seeds() {
    if let Some(seed) = number("SIM_SEED") {
        let report = run(seed);
        let text = tell(&report);
        assert!(report.violation.is_none(), "{text}");
        println!("{text}");
        return;
    }
    let from = number("SIM_FROM").unwrap_or(0);
    let until = from + number("SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(from);
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    let running: Vec<_> = (0..threads).map(|_| AtomicU64::new(u64::MAX)).collect();
    let (reports, received) = channel();
    let mut sum = Sum::default();
    thread::scope(|scope| {
        for running in &running {
            let (reports, next) = (reports.clone(), &next);
            scope.spawn(move || {
                loop {
                    // Relaxed: each thread takes numbers of its own; the rest is behind the channel.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        break;
                    }
                    running.store(seed, Ordering::Relaxed);
                    let report = run(seed);
                    let failed = report.violation.is_some();
                    if reports.send(report).is_err() || failed {
                        next.store(until, Ordering::Relaxed);
                    }
                }
                running.store(u64::MAX, Ordering::Relaxed);
            });
        }
        drop(reports);
        loop {
            match received.recv_timeout(HANGS_AFTER) {
                Ok(report) => sum.add(&report),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    let seeds = running.iter().map(|seed| seed.load(Ordering::Relaxed));
                    let seeds: Vec<_> = seeds.filter(|&seed| seed != u64::MAX).map(command).collect();
                    eprintln!("one of these hangs:\n{}", seeds.join("\n"));
                    std::process::abort();
                }
            }
        }
    });
    println!("{sum:?}");
    if let Some(failed) = sum.failed {
        panic!("{}", tell(&run(failed)));
    }
    // An event that never occurs leaves its invariants unchecked.
    let Sum { seeds, got, attempts, probes, joins, stalls, coverage, .. } = &sum;
    let (seeds, gaps) = (*seeds, coverage.gaps());
    let is_whole = seeds >= SEEDS && env::var_os("SIM_WITHOUT").is_none();
    assert!(!is_whole || gaps.is_empty(), "{}", gaps.join("\n"));
    assert!(!is_whole || [got, attempts, probes, joins, stalls].iter().all(|&&count| count > seeds / 4), "{sum:?}");
}

/// Totals over all runs.
#[derive(Debug, Default)]
struct Sum {
    seeds: u64,
    failed: Option<u64>,
    events: u64,
    virtual_s: u64,
    got: u64,
    attempts: u64,
    probes: u64,
    joins: u64,
    stalls: u64,
    gave_up: u64,
    removals: u64,
    coverage: Coverage,
}

impl Sum {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.events += report.trace.len() as u64;
        self.virtual_s += report.trace.last().map_or(0, |&(at, _)| at / 1_000_000_000);
        if report.violation.is_some() {
            self.failed = Some(self.failed.map_or(report.seed, |failed| failed.min(report.seed)));
        }
        self.coverage.add(report.features, report.shown());
        for (_, event) in &report.trace {
            match event {
                Event::Gets { .. } => self.got += 1,
                Event::AttemptBegins { is_probe, .. } => {
                    self.attempts += 1;
                    self.probes += u64::from(*is_probe);
                }
                Event::Joins { .. } => self.joins += 1,
                Event::Stalls { .. } => self.stalls += 1,
                Event::GivesUp { .. } => self.gave_up += 1,
                Event::Removes { .. } => self.removals += 1,
                _ => {}
            }
        }
    }
}

#[test]
fn runs_are_deterministic() {
    for seed in 0..50 {
        let first = run(seed);
        let second = thread::scope(|scope| scope.spawn(|| run(seed)).join().expect("no panic"));
        let differs = first.trace.iter().zip(&second.trace).position(|(first, second)| first != second);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(first.trace.len(), second.trace.len(), "seed {seed}");
        assert!(first.trace.len() > 20, "seed {seed}");
    }
    assert_ne!(run(1).trace, run(2).trace);
}
