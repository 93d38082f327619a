//! The pause of connecting to a server.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Pause, Time};

/// The end of a pause that begins at zero, by the failures in a row. Longer than a step of the time that the word
/// keeps.
fn end(failures: u32) -> Time {
    Time::from_nanos(u64::from(failures) * 1_000_000)
}

/// Property: of failures that come together one sets the pause and counts (I1).
/// Threads: three fail at the same time.
/// Mutation that fails it: `failed` stores without a CAS.
pub fn failures_together_pause_once() {
    check(3, || {
        let pause = Arc::new(Pause::new());
        let fail = |pause: &Pause| usize::from(pause.failed(Time::ZERO, end));
        let others = [(); 2].map(|()| {
            let pause = Arc::clone(&pause);
            thread::spawn(move || fail(&pause))
        });
        let here = fail(&pause);
        assert_eq!(here + others.map(|other| other.join().unwrap()).iter().sum::<usize>(), 1);
        assert_eq!(pause.until(), end(1));
        assert!(pause.failed(end(1), end));
        assert_eq!(pause.until(), end(2), "two in a row");
    });
}
