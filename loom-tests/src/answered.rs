//! Models of the number of open connections that answered.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::health::Tier;
use crate::raw::{Answered, Outage};

/// Two outage numbers, the newer one last.
fn outages() -> [Outage; 2] {
    let tier = Tier::<1>::new();
    let older = tier.outage(0);
    assert!(tier.connect_fails(0, older));
    [older, tier.outage(0)]
}

/// Closes connections counted under `outage` until none is left, and returns how many were.
fn drain(answered: &Answered, outage: Outage) -> usize {
    (0..8).take_while(|_| answered.is_any_proven(outage).then(|| answered.discount_proven(outage)).is_some()).count()
}

/// Property: the count is exact after connections answered and closed at the same time (I2).
/// Threads: two connections answer and stay, one answers and closes, and one that had answered closes.
/// Mutation that fails it: `change` stores instead of a CAS.
pub fn the_count_is_exact() {
    check(3, || {
        let [outage, _] = outages();
        let answered = Arc::new(Answered::default());
        answered.count_proven(outage);
        let stays = {
            let answered = Arc::clone(&answered);
            thread::spawn(move || answered.count_proven(outage))
        };
        let closes = {
            let answered = Arc::clone(&answered);
            thread::spawn(move || {
                answered.count_proven(outage);
                assert!(answered.is_any_proven(outage));
                answered.discount_proven(outage);
            })
        };
        answered.count_proven(outage);
        answered.discount_proven(outage);
        stays.join().unwrap();
        closes.join().unwrap();
        assert_eq!(drain(&answered, outage), 2);
    });
}

/// Property: the count is exact for the newest outage number, while connections still answer and close under an older
/// one (I2).
/// Threads: a connection answers and closes under the older number; one answers under the newer, as does the one of the
/// main thread, which answered under the older before.
/// Mutation that fails it: a newer number keeps the count of the older; an older number counts; `change` stores instead
/// of a CAS.
pub fn the_count_is_that_of_the_newest_outage() {
    check(3, || {
        let [older, newer] = outages();
        let answered = Arc::new(Answered::default());
        answered.count_proven(older);
        let old = {
            let answered = Arc::clone(&answered);
            thread::spawn(move || {
                answered.count_proven(older);
                answered.count_proven(older);
                answered.discount_proven(older);
            })
        };
        let new = {
            let answered = Arc::clone(&answered);
            thread::spawn(move || answered.count_proven(newer))
        };
        answered.discount_proven(older);
        answered.count_proven(newer);
        old.join().unwrap();
        new.join().unwrap();
        assert!(!answered.is_any_proven(older));
        assert_eq!(drain(&answered, newer), 2);
    });
}
