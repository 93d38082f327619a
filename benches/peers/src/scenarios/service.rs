//! What keeps a pool fit for service, each case against its bar.
//!
//! | case | load |
//! |---|---|
//! | 3 servers with a minimum of 5 idle connections are down for 10 minutes, then back | none |
//! | 100 connections, opened together, with a lifetime of a minute and a minimum of 100 idle ones | none, for an hour |
//! | one of 4 servers is drained | 64 tasks without a pause, on threads |
//! | 3 servers with weights 5 : 3 : 2; one goes down and comes back | one task |
//! | one of 4 servers answers ten times slower; least in use against round robin | 64 tasks in a closed loop, 30 s |
//! | totals against what callers counted | 16 tasks, 1 000 000 uses, on threads |
//!
//! The cases without threads run on a manual clock and a scripted connector: what they show follows from the seed, the
//! number of the round. Each bar is compared with the worst round.

mod calls;
mod choosing;
mod idle;

use self::calls::{drain, totals};
use self::choosing::{least_in_use, weighted};
use self::idle::{comes_back, lives_out};
use crate::report::{Metric, Options, Report, Row, Target, max, min};

pub fn run(options: &Options) {
    let mut report = Report::new("service", options);
    let seeds = || 1..=u64::from(options.rounds);
    let mut add = |figure: &str, unit, bar: fn(f64) -> Target, value: f64, values: Vec<f64>| {
        // Not a number, of what never came, is the worst.
        let worst = match bar(value) {
            _ if values.iter().any(|value| value.is_nan()) => f64::NAN,
            Target::AtMost(_) => max(&values),
            Target::AtLeast(_) => min(&values),
        };
        report.target(format!("{figure}, {unit}"), worst, bar(value));
        let metric = Metric { name: "service", unit };
        report.push(Row { contestant: figure.to_owned(), setting: Vec::new(), metric, against: "", values });
    };

    eprintln!("service: idle connections");
    let back = seeds().map(comes_back).collect();
    add("3 servers are back: until 15 connections are idle", "s", Target::AtMost, 2.0, back);
    let lived: Vec<_> = seeds().map(lives_out).collect();
    let closed = lived.iter().map(|lived| lived.most_closed as f64).collect();
    add("100 connections live out: closed", "in one second", Target::AtMost, 10.0, closed);
    let idle = lived.iter().map(|lived| lived.fewest_idle as f64).collect();
    add("100 connections live out: idle", "at least", Target::AtLeast, 100.0, idle);

    eprintln!("service: choosing");
    let off = seeds().map(weighted).collect();
    add("weights 5 : 3 : 2, one down and back: shares off by", "%", Target::AtMost, 1.0, off);
    let times = seeds().map(least_in_use).collect();
    add("one of 4 ten times slower: least in use to round robin", "times", Target::AtLeast, 1.5, times);

    eprintln!("service: calls");
    let drained: Vec<_> = seeds().map(|_| drain()).collect();
    let failed = drained.iter().map(|drained| drained.failed as f64).collect();
    add("a server is drained under load: failed", "requests", Target::AtMost, 0.0, failed);
    let after = drained.iter().map(|drained| drained.started_after as f64).collect();
    add("a server is drained under load: started there afterwards", "requests", Target::AtMost, 0.0, after);
    let wrong = seeds().map(|_| totals() as f64).collect();
    add("totals: differences to what callers counted", "counts", Target::AtMost, 0.0, wrong);

    report.print_bars();
}
