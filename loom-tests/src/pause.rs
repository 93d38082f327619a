//! A model of the pause of connecting to a server.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Pause, Time};

/// Longer than the resolution of the word.
const PAUSE: u64 = 1_000_000;

/// Property: of concurrent failures, one sets the pause and counts (I1).
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
        assert_eq!(pause.until(), PAUSE);
        assert!(pause.failed(PAUSE, |failures| u64::from(failures) * PAUSE));
        assert_eq!(pause.until(), 2 * PAUSE, "the second failure in a row doubles the pause");
    });
}
