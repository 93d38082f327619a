//! The rate that is set against the rate that is granted, from 1 to 10 000 000 a second, with the default burst.
//!
//! - `spin`: one thread calls `try_acquire` again and again.
//! - `line`: callers on one thread acquire and release in loops, and so wait in the line.
//!
//! `granted` is (n − 1) / (tₙ − t₁) of the n hand-outs after the burst was used up. `excess` is by how many hand-outs
//! the fullest of all windows exceeds `burst + rate × T`, the burst included; it must not be above 0. A token was taken
//! between the moments when its caller asked for it and had it, and a window counts those for which both are within it:
//! so in the line, where a caller asks long before its turn, an excess by less than the number of callers is not seen.
//!
//! Time is the pool's own clock, since its pace is what the limit is kept by; `clock` is by how much that is fast
//! against the system's.
//!
//! What pollutes it: where the machine takes the processor away for longer than the burst lasts, 10 ms or a single
//! token, what would have been granted meanwhile is lost. So what must be reached is asked of the best round, and that
//! there is no excess of all. The highest rates are more than one thread asks for.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use connring::{Clock, Pool};
use tokio::task::JoinSet;

use crate::contestants::{Numbers, current_thread};
use crate::report::{Bar, Entrant, Metric, Options, Report, max, min};

const GRANTED: Metric = Metric { name: "granted", unit: "% of the rate" };
const EXCESS: Metric = Metric { name: "excess", unit: "hand-outs" };
const PACE: Metric = Metric { name: "clock", unit: "ppm" };
const RATES: [u64; 10] = [1, 10, 50, 100, 1_000, 10_000, 100_000, 200_000, 1_000_000, 10_000_000];
/// How long hand-outs are counted: this, or as long as three take.
const SPAN: Duration = Duration::from_millis(500);
const SPIN: &str = "spin";
const LINE: &str = "line";

/// A token was taken between these two times of the pool's clock, in nanoseconds.
#[derive(Clone, Copy)]
struct HandOut {
    asked: u64,
    got: u64,
}

#[derive(Clone, Copy)]
struct Rate {
    per_second: u64,
    /// The default.
    burst: u64,
    /// How long hand-outs are counted.
    span: u64,
}

pub fn run(options: &Options) {
    let mut report = Report::new("rate", options);
    let entrants = RATES.into_iter().flat_map(|rate| [SPIN, LINE].map(|name| entrant(name, rate)));
    report.measure(&[GRANTED, EXCESS, PACE], entrants.collect());
    add_bars(&mut report);
    report.print();
}

fn entrant(name: &str, per_second: u64) -> Entrant<'static> {
    let span = SPAN.max(Duration::from_secs_f64(3.5 / per_second as f64));
    let rate = Rate { per_second, burst: 1 + per_second.div_ceil(100), span: span.as_nanos() as u64 };
    let hand_outs = if name == SPIN { spin } else { line };
    let measure = move || {
        let clock = Clock::system();
        let (origin, began) = (clock.now(), Instant::now());
        let (hand_outs, first_counted) = hand_outs(rate, &clock);
        let pace = (clock.now() - origin).as_secs_f64() / began.elapsed().as_secs_f64();
        vec![granted(&hand_outs[first_counted..], rate), excess(&hand_outs, rate), 1e6 * (pace - 1.0)]
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

/// All hand-outs in their order, and which is the first that counts.
fn spin(rate: Rate, clock: &Clock) -> (Vec<HandOut>, usize) {
    let runtime = current_thread();
    let _inside = runtime.enter();
    let pool = pool(rate, 1, clock);
    runtime.block_on(pool.acquire()).expect("it accepts").release();
    let mut hand_outs = Vec::new();
    let mut asked = nanos(clock);
    // Where the burst outlasts one span, it is faster than one thread asks: then all hand-outs count.
    let (mut first_counted, mut end) = (0, asked + rate.span);
    while asked < end {
        let conn = pool.try_acquire();
        let got = nanos(clock);
        if let Ok(conn) = conn {
            hand_outs.push(HandOut { asked, got });
            conn.release();
        } else if first_counted == 0 {
            first_counted = hand_outs.len();
            end = got + rate.span;
        }
        asked = got;
    }
    (hand_outs, first_counted)
}

/// The same of callers in the line.
fn line(rate: Rate, clock: &Clock) -> (Vec<HandOut>, usize) {
    // A caller is back in the line after it was served: more callers than tokens come within a step of the timer.
    let callers = (rate.per_second / 100).clamp(4, 200) as u32;
    // While the burst is handed out more comes, and is handed out at once: those do not count either.
    let first_counted = 1 + 5 * (rate.burst as usize - 1);
    let hand_outs = Arc::new(Mutex::new(Vec::new()));
    current_thread().block_on(async {
        let pool = pool(rate, callers, clock);
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            tasks.spawn(take_turns(pool.clone(), clock.clone(), Arc::clone(&hand_outs), first_counted, rate.span));
        }
        tasks.join_next().await;
        tasks.shutdown().await;
    });
    let hand_outs = std::mem::take(&mut *hand_outs.lock().expect("no panic"));
    (hand_outs, first_counted)
}

async fn take_turns(pool: Pool<Numbers>, clock: Clock, all: Arc<Mutex<Vec<HandOut>>>, first_counted: usize, span: u64) {
    loop {
        let asked = nanos(&clock);
        let conn = pool.acquire_timeout(Duration::from_secs(60)).await.expect("its turn comes");
        let got = nanos(&clock);
        conn.release();
        let mut all = all.lock().expect("no panic");
        all.push(HandOut { asked, got });
        if all.get(first_counted).is_some_and(|first| got - first.got >= span) {
            return;
        }
    }
}

fn nanos(clock: &Clock) -> u64 {
    clock.now().as_nanos() as u64
}

/// In per cent of the rate.
fn granted(hand_outs: &[HandOut], rate: Rate) -> f64 {
    let [first, .., last] = hand_outs else { panic!("two hand-outs at least") };
    let took = (last.got - first.got) as f64 / 1e9;
    100.0 * (hand_outs.len() - 1) as f64 / took / rate.per_second as f64
}

/// Of all windows that begin when a hand-out was asked for and end when one was got, the largest excess.
fn excess(hand_outs: &[HandOut], rate: Rate) -> f64 {
    let earned = |at: u64| rate.per_second as f64 * at as f64 / 1e9;
    // When the first of those from here on was asked for: in a window that begins then are all of them.
    let mut begins: Vec<_> = hand_outs.iter().map(|hand_out| hand_out.asked).collect();
    for index in (1..begins.len()).rev() {
        begins[index - 1] = begins[index - 1].min(begins[index]);
    }
    let (mut before, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for (index, (begin, hand_out)) in begins.into_iter().zip(hand_outs).enumerate() {
        // The begin that leaves the most hand-outs for the tokens that were earned since.
        before = before.min(index as f64 - earned(begin));
        most = most.max((index + 1) as f64 - earned(hand_out.got) - before);
    }
    most - rate.burst as f64
}

fn add_bars(report: &mut Report) {
    let row = |name, metric: Metric, rate| report.row(name, metric.name, &[("rate", rate)]).expect("it was measured");
    let mut bars = Vec::new();
    for rate in RATES {
        if rate <= 1_000_000 {
            let off = row(SPIN, GRANTED, rate).values.iter().map(|granted| (granted - 100.0).abs()).collect::<Vec<_>>();
            bars.push((format!("{rate} rps, spin: off by, %, the best round"), min(&off), Bar::AtMost(0.1)));
        }
        if rate <= 200_000 {
            bars.push((
                format!("{rate} rps, line: granted, %, the best round"),
                max(&row(LINE, GRANTED, rate).values),
                Bar::AtLeast(99.0),
            ));
        }
    }
    let excess = RATES.into_iter().flat_map(|rate| [SPIN, LINE].map(|name| max(&row(name, EXCESS, rate).values)));
    bars.push(("the largest excess in any window".to_owned(), max(&excess.collect::<Vec<_>>()), Bar::AtMost(0.0)));
    for (figure, value, bar) in bars {
        report.bar(figure, value, bar);
    }
}

#[cfg(test)]
mod tests {
    use super::{HandOut, Rate, excess};

    /// One token each nanosecond, two at once.
    fn excess_of(hand_outs: &[(u64, u64)]) -> f64 {
        let hand_outs: Vec<_> = hand_outs.iter().map(|&(asked, got)| HandOut { asked, got }).collect();
        excess(&hand_outs, Rate { per_second: 1_000_000_000, burst: 2, span: 0 })
    }

    #[test]
    fn an_excess_is_that_of_the_fullest_window() {
        assert_eq!(excess_of(&[(0, 0), (0, 0), (1, 1), (2, 2)]), 0.0);
        assert_eq!(excess_of(&[(0, 0), (0, 0), (9, 9), (9, 9), (9, 9), (20, 20)]), 1.0);
        assert_eq!(excess_of(&[(0, 0), (5, 5), (10, 10)]), -1.0);
        // Any of them may have been served as late as 3.
        assert_eq!(excess_of(&[(0, 3), (0, 3), (0, 3)]), -2.0);
    }
}
