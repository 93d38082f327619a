//! Models of the failures in a row.

use core::time::Duration;

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Strikes, Time};

const MEMORY: Duration = Duration::from_secs(10);

/// Property: of as many reports as the threshold exactly one reaches it (I1), whatever the order of their times.
/// Threads: three report.
/// Mutation that fails it: `count` stores instead of a CAS, or starts again at an earlier time.
pub fn one_report_reaches_the_threshold() {
    check(3, || {
        let strikes = Arc::new(Strikes::default());
        let count = |strikes: &Strikes, ms: u64| strikes.count(Time::from_nanos(ms * 1_000_000), MEMORY);
        let others = [2, 3].map(|ms| {
            let strikes = Arc::clone(&strikes);
            thread::spawn(move || count(&strikes, ms))
        });
        let here = count(&strikes, 1);
        let [first, second] = others.map(|other| other.join().unwrap());
        let mut counts = [here, first, second];
        counts.sort_unstable();
        assert_eq!(counts, [1, 2, 3]);
    });
}

/// Property: a clear takes place between two reports: those after it count from one, and none is lost (I1).
/// Threads: two report, the main one clears.
/// Mutation that fails it: `count` stores instead of a CAS.
pub fn a_clear_starts_again() {
    check(3, || {
        let strikes = Arc::new(Strikes::default());
        let reports = [(); 2].map(|()| {
            let strikes = Arc::clone(&strikes);
            thread::spawn(move || strikes.count(Time::ZERO, MEMORY))
        });
        strikes.clear();
        let mut counts = reports.map(|report| report.join().unwrap());
        counts.sort_unstable();
        // How many of the two came after the clear.
        let after = strikes.count(Time::ZERO, MEMORY) - 1;
        assert_eq!(counts, if after == 1 { [1, 1] } else { [1, 2] });
    });
}
