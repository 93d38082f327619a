//! What the pool does while servers or clients fail, each case against its bar.
//!
//! | case | load |
//! |---|---|
//! | one of 4 servers fails half of its requests at once, and callers report it | 400 a second, 10 minutes |
//! | 4 servers are well, and clients drop a fifth of their requests after 1 s | 4 000 a second, 1 minute |
//! | one of 3 servers accepts and hangs; callers drop requests after 1 s | 2 000 a second; `check` hangs, or not |
//! | one of 2 servers swallows SYNs while a caller has a connection to it | 200 a second, 1 minute |
//! | one of 2 servers refuses a connect while 100 connections are in use | used for the first time, and again |
//! | 10 000 servers refuse, and one caller waits | from the end of the start-up on, in windows of 2 s |
//! | 10 000 servers fail one after the other | |
//!
//! All but the last two run on a manual clock and a scripted connector: what they show follows from the seed, which is
//! the number of the round. The last two run in real time, with the code of the scenario `states`, and without a
//! `tracing` subscriber. Each bar is compared with the worst round.
//!
//! Sources of error: arrivals are evenly spaced, and an answer takes 10 ms. The last two share the processor with other
//! programs.

mod connecting;
mod in_use;

use connring::test_util::RoundTrip;

use self::connecting::{Uses, refuses_once, swallows};
use self::in_use::{clients_leave, fails_half, hangs};
use super::states::{failing_one_by_one, milliseconds, refusing};
use crate::report::{Metric, Options, Report, Row, Target, max};

const MANY: u32 = 10_000;
const MINUTES: u32 = 10;
/// Windows in real time.
const WINDOWS: u32 = 5;

pub fn run(options: &Options) {
    let mut report = Report::new("faults", options);
    let seeds = || 1..=u64::from(options.rounds);
    let mut add = |figure: &str, unit, bar: Option<f64>, values: Vec<f64>| {
        if let Some(bar) = bar {
            // Not a number, of a server that was never found out, is the worst.
            let worst = if values.iter().any(|value| value.is_nan()) { f64::NAN } else { max(&values) };
            report.target(format!("{figure}, {unit}"), worst, Target::AtMost(bar));
        }
        let metric = Metric { name: "fault", unit };
        report.push(Row { contestant: figure.to_owned(), setting: Vec::new(), metric, against: "", values });
    };

    // Before any subscriber is set: the events of these cost nothing.
    eprintln!("faults: real time");
    let costs = refusing::after_start_up(MANY, WINDOWS);
    add(&format!("{MANY} servers refuse"), "% of a core", Some(5.0), costs.cpu_percent);
    add(&format!("{MANY} servers refuse: connects"), "a second", None, costs.connects_a_second);
    add(&format!("{MANY} servers refuse: start-up"), "s", None, vec![costs.start_up.as_secs_f64()]);
    let failing: Vec<_> = seeds().map(|_| failing_one_by_one(MANY)).collect();
    let times = failing.iter().map(|took| milliseconds(took.wall)).collect();
    add(&format!("{MANY} servers fail one after the other"), "ms", Some(50.0), times);
    let used = failing.iter().map(|took| milliseconds(took.cpu)).collect();
    add(&format!("{MANY} servers fail one after the other: the thread's processor time"), "ms", None, used);

    eprintln!("faults: manual time");
    let half: Vec<_> = seeds().map(|seed| fails_half(seed, MINUTES)).collect();
    let kept = half.iter().map(|half| half.kept_percent).collect();
    add("a server fails half of its requests: kept of its share", "%", Some(3.0), kept);
    let ejections = half.iter().map(|half| half.ejections_a_minute).collect();
    add("a server fails half of its requests: ejections", "a minute", Some(6.0), ejections);

    let taken_down = seeds().map(|seed| clients_leave(seed) as f64).collect();
    add("clients drop a fifth of the requests to healthy servers: outages", "servers", Some(0.0), taken_down);

    for (check, name) in [(RoundTrip::Ok, "a server hangs"), (RoundTrip::Never, "a server and its check hang")] {
        let hung: Vec<_> = seeds().map(|seed| hangs(seed, check)).collect();
        let ejected = hung.iter().map(|hung| hung.ejected_after).collect();
        add(&format!("{name}: until it is ejected"), "s", Some(3.0), ejected);
        let met = hung.iter().map(|hung| hung.met_percent).collect();
        add(&format!("{name}: requests that meet it afterwards"), "%", Some(0.5), met);
    }

    let hole: Vec<_> = seeds().map(swallows).collect();
    let down = hole.iter().map(|hole| hole.down_after).collect();
    add("a server swallows SYNs: until it is down", "connect timeouts", Some(1.0), down);
    let attempts = hole.iter().map(|hole| hole.attempts as f64).collect();
    add("a server swallows SYNs: afterwards", "attempts at a time", Some(1.0), attempts);

    for (uses, name) in [(Uses::None, "new"), (Uses::Some, "used")] {
        let closed = seeds().map(|seed| refuses_once(seed, uses) as f64).collect();
        add(&format!("a connect is refused beside 100 {name} connections"), "closed", Some(0.0), closed);
    }

    report.print_bars();
}
