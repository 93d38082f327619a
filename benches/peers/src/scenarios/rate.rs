//! Accuracy of the rate limit: the granted rate relative to the configured one, from 1 to 10 000 000 checkouts a
//! second, with the default burst.
//!
//! - `spin`: one thread calls `try_acquire` in a loop.
//! - `wait queue`: callers on one thread acquire and release in loops, and so wait in the queue.
//!
//! `granted` is (n − 1) / (tₙ − t₁) over the n checkouts after the burst. `excess` is the largest number of checkouts
//! by which any window of length T exceeds `burst + rate × T`, the burst included; it must not be positive. The token
//! of a checkout is taken between the request and the checkout, and a window counts a checkout only if it contains
//! both. In the wait queue a request comes long before its checkout, so an excess smaller than the number of callers
//! goes undetected.
//!
//! Times are read from the pool's clock, because the limit is enforced by it. `clock` is how fast that clock runs
//! relative to the system's.
//!
//! Sources of error: a thread that is preempted for longer than the burst lasts, 10 ms or one token, loses the tokens
//! of that time. So the granted rate must reach its target in the best round; the excess must hold in all rounds. At
//! the highest rates the limit exceeds the calls that one thread can make.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use connring::{Clock, Pool};
use tokio::task::JoinSet;

use crate::contestants::{Numbers, current_thread};
use crate::report::{Entrant, Metric, Options, Report, Target, max, min};

const GRANTED: Metric = Metric { name: "granted", unit: "% of the rate" };
const EXCESS: Metric = Metric { name: "excess", unit: "checkouts" };
const PACE: Metric = Metric { name: "clock", unit: "ppm" };
const RATES: [u64; 10] = [1, 10, 50, 100, 1_000, 10_000, 100_000, 200_000, 1_000_000, 10_000_000];
/// How long checkouts are counted, or the time of three tokens if that is longer.
const SPAN: Duration = Duration::from_millis(500);
const SPIN: &str = "spin";
const WAIT_QUEUE: &str = "wait queue";

/// The start and the end of an acquire on the pool's clock, in nanoseconds. The token was taken in between.
#[derive(Clone, Copy)]
struct Checkout {
    asked: u64,
    got: u64,
}

#[derive(Clone, Copy)]
struct Rate {
    per_second: u64,
    /// The default burst of this rate.
    burst: u64,
    /// How long checkouts are counted, in nanoseconds.
    span: u64,
}

pub fn run(options: &Options) {
    let mut report = Report::new("rate", options);
    let entrants = RATES.into_iter().flat_map(|rate| [SPIN, WAIT_QUEUE].map(|name| entrant(name, rate)));
    report.measure(&[GRANTED, EXCESS, PACE], entrants.collect());
    add_targets(&mut report);
    report.print();
}

fn entrant(name: &str, per_second: u64) -> Entrant<'static> {
    let span = SPAN.max(Duration::from_secs_f64(3.5 / per_second as f64));
    let rate = Rate { per_second, burst: 1 + per_second.div_ceil(100), span: span.as_nanos() as u64 };
    let checkouts = if name == SPIN { spin } else { wait_in_queue };
    let measure = move || {
        let clock = Clock::system();
        let (origin, began) = (clock.now(), Instant::now());
        let (checkouts, first_counted) = checkouts(rate, &clock);
        let pace = (clock.now() - origin).as_secs_f64() / began.elapsed().as_secs_f64();
        vec![granted(&checkouts[first_counted..], rate), excess(&checkouts, rate), 1e6 * (pace - 1.0)]
    };
    Entrant {
        contestant: name.to_owned(),
        setting: vec![("rate", per_second)],
        against: "",
        measure: Box::new(measure),
    }
}

fn pool(rate: Rate, conns: u32, clock: &Clock) -> Pool<Numbers> {
    let builder = Pool::builder(Numbers).clock(clock.clone()).server("server").max_rps(rate.per_second as f64);
    builder.max_conns_per_server(conns).max_waiters(usize::MAX).build().expect("in range")
}

/// Calls `try_acquire` in a loop. Returns all checkouts in order, and the index of the first that counts as granted.
fn spin(rate: Rate, clock: &Clock) -> (Vec<Checkout>, usize) {
    let runtime = current_thread();
    let _inside = runtime.enter();
    let pool = pool(rate, 1, clock);
    runtime.block_on(pool.acquire()).expect("the server accepts").release();
    let mut checkouts = Vec::new();
    let mut asked = nanos(clock);
    // If the burst lasts for the whole span, the limit exceeds the calls of this thread, and all checkouts count.
    let (mut first_counted, mut end) = (0, asked + rate.span);
    while asked < end {
        let conn = pool.try_acquire();
        let got = nanos(clock);
        if let Ok(conn) = conn {
            checkouts.push(Checkout { asked, got });
            conn.release();
        } else if first_counted == 0 {
            first_counted = checkouts.len();
            end = got + rate.span;
        }
        asked = got;
    }
    (checkouts, first_counted)
}

/// Runs callers that wait in the queue. Returns the same as [`spin`].
fn wait_in_queue(rate: Rate, clock: &Clock) -> (Vec<Checkout>, usize) {
    // Each caller rejoins the queue after its checkout. More callers than tokens within one step of the timer keep the
    // queue from running empty.
    let callers = (rate.per_second / 100).clamp(4, 200) as u32;
    // Tokens that arrive while the burst is checked out are taken immediately. They are not counted either.
    let first_counted = 1 + 5 * (rate.burst as usize - 1);
    let checkouts = Arc::new(Mutex::new(Vec::new()));
    current_thread().block_on(async {
        let pool = pool(rate, callers, clock);
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            tasks.spawn(acquire_in_loop(pool.clone(), clock.clone(), Arc::clone(&checkouts), first_counted, rate.span));
        }
        tasks.join_next().await;
        tasks.shutdown().await;
    });
    let checkouts = std::mem::take(&mut *checkouts.lock().expect("the lock is not poisoned"));
    (checkouts, first_counted)
}

async fn acquire_in_loop(
    pool: Pool<Numbers>,
    clock: Clock,
    all: Arc<Mutex<Vec<Checkout>>>,
    first_counted: usize,
    span: u64,
) {
    loop {
        let asked = nanos(&clock);
        let conn = pool.acquire_timeout(Duration::from_secs(60)).await.expect("a token arrives in time");
        let got = nanos(&clock);
        conn.release();
        let mut all = all.lock().expect("the lock is not poisoned");
        all.push(Checkout { asked, got });
        if all.get(first_counted).is_some_and(|first| got - first.got >= span) {
            return;
        }
    }
}

fn nanos(clock: &Clock) -> u64 {
    clock.now().as_nanos() as u64
}

/// Returns the granted rate in percent of the configured one.
fn granted(checkouts: &[Checkout], rate: Rate) -> f64 {
    let [first, .., last] = checkouts else { panic!("fewer than two checkouts") };
    let took = (last.got - first.got) as f64 / 1e9;
    100.0 * (checkouts.len() - 1) as f64 / took / rate.per_second as f64
}

/// Returns the largest excess of all windows that begin at a request and end at a checkout.
fn excess(checkouts: &[Checkout], rate: Rate) -> f64 {
    let earned = |at: u64| rate.per_second as f64 * at as f64 / 1e9;
    // For each checkout, the earliest request of it and all later ones: a window that begins then contains them all.
    let mut begins: Vec<_> = checkouts.iter().map(|checkout| checkout.asked).collect();
    for index in (1..begins.len()).rev() {
        begins[index - 1] = begins[index - 1].min(begins[index]);
    }
    let (mut before, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (index, (begin, checkout)) in begins.into_iter().zip(checkouts).enumerate() {
        // The beginning of a window with the most checkouts relative to the tokens earned since.
        before = before.min(index as f64 - earned(begin));
        most = most.max((index + 1) as f64 - earned(checkout.got) - before);
    }
    most - rate.burst as f64
}

fn add_targets(report: &mut Report) {
    let row =
        |name, metric: Metric, rate| report.row(name, metric.name, &[("rate", rate)]).expect("the row was measured");
    let mut targets = Vec::new();
    for rate in RATES {
        if rate <= 1_000_000 {
            let off = row(SPIN, GRANTED, rate).values.iter().map(|granted| (granted - 100.0).abs()).collect::<Vec<_>>();
            targets.push((format!("{rate} rps, spin: off by, %, the best round"), min(&off), Target::AtMost(0.1)));
        }
        if rate <= 200_000 {
            targets.push((
                format!("{rate} rps, wait queue: granted, %, the best round"),
                max(&row(WAIT_QUEUE, GRANTED, rate).values),
                Target::AtLeast(99.0),
            ));
        }
    }
    let excess = RATES.into_iter().flat_map(|rate| [SPIN, WAIT_QUEUE].map(|name| max(&row(name, EXCESS, rate).values)));
    targets.push((
        "the largest excess in any window".to_owned(),
        max(&excess.collect::<Vec<_>>()),
        Target::AtMost(0.0),
    ));
    for (figure, value, target) in targets {
        report.target(figure, value, target);
    }
}

#[cfg(test)]
mod tests {
    use super::{Checkout, Rate, excess};

    /// Returns the excess at a rate of one token a nanosecond, with a burst of two.
    fn excess_of(checkouts: &[(u64, u64)]) -> f64 {
        let checkouts: Vec<_> = checkouts.iter().map(|&(asked, got)| Checkout { asked, got }).collect();
        excess(&checkouts, Rate { per_second: 1_000_000_000, burst: 2, span: 0 })
    }

    #[test]
    fn excess_is_that_of_fullest_window() {
        assert_eq!(excess_of(&[(0, 0), (0, 0), (1, 1), (2, 2)]), 0.0);
        assert_eq!(excess_of(&[(0, 0), (0, 0), (9, 9), (9, 9), (9, 9), (20, 20)]), 1.0);
        assert_eq!(excess_of(&[(0, 0), (5, 5), (10, 10)]), -1.0);
        // Each token may have been taken as late as 3.
        assert_eq!(excess_of(&[(0, 3), (0, 3), (0, 3)]), -2.0);
    }
}
