//! Models of the tier in use: restate `Servers::refresh` and `Servers::settle_tier` for one server of each tier.

use loom::sync::{Arc, Mutex};
use loom::thread;

use crate::check;
use crate::health::Tier;
use crate::raw::{ServerSet, TierInUse, Time};

/// One server of each of two tiers.
struct Servers {
    tier: Arc<Tier<2>>,
    in_use: TierInUse,
    switching: Mutex<()>,
    up: ServerSet,
}

impl Servers {
    fn new() -> Arc<Self> {
        let servers = Self {
            tier: Tier::of([0, 1]),
            in_use: TierInUse::default(),
            switching: Mutex::new(()),
            up: ServerSet::new(1),
        };
        servers.refresh(0);
        servers.refresh(1);
        Arc::new(servers)
    }

    fn serves(&self, number: usize) -> bool {
        self.tier.health[number].snapshot().serves()
    }

    fn refresh(&self, number: usize) {
        self.up.refresh(number, || {
            loop {
                let found = self.serves(number);
                if found && number <= self.in_use.get() {
                    return true;
                }
                let (tier, is_switching) = self.in_use.after_change();
                let serving = &self.tier.serving;
                if !is_switching && (serving.has_serving(tier) || !serving.has_worse(tier)) {
                    return false;
                }
                self.settle_tier();
                if self.serves(number) == found {
                    return found && number <= self.in_use.get();
                }
            }
        });
        if self.serves(number) && number < self.in_use.after_change().0 {
            self.settle_tier();
        }
    }

    fn settle_tier(&self) {
        let mut has_changed = false;
        let locked = self.switching.lock().unwrap();
        let best = || (0..2).find(|&number| self.serves(number)).unwrap_or(TierInUse::LAST);
        loop {
            let (before, tier) = (self.in_use.get(), best());
            if tier == before {
                self.in_use.set(tier);
                break;
            }
            if tier < before {
                self.in_use.announce();
                if best() != tier {
                    continue;
                }
            }
            self.in_use.set(tier);
            for number in (0..2).filter(|&number| self.serves(number) && number <= tier) {
                self.up.set(number, true);
            }
            for number in (0..2).filter(|&number| number > tier) {
                self.up.set(number, false);
            }
            has_changed = true;
        }
        drop(locked);
        if has_changed {
            (0..2).for_each(|number| self.refresh(number));
        }
    }

    fn goes_down(&self, number: usize) {
        assert!(self.tier.connect_fails(number, self.tier.outage(number)));
        self.refresh(number);
    }

    fn comes_up(&self, number: usize) {
        assert!(
            self.tier.health[number].begin_recovery(&self.tier.serving, self.tier.outage(number), Time::ZERO).is_some()
        );
        self.refresh(number);
    }

    fn assert_settled(&self) {
        let best = (0..2).find(|&number| self.serves(number));
        assert!(best.is_none() || best == Some(self.in_use.get()), "{:?}", self.in_use);
        assert_eq!(self.up.iter_from(0).collect::<Vec<_>>(), Vec::from_iter(best));
    }
}

fn spawn(servers: &Arc<Servers>, change: fn(&Servers)) -> thread::JoinHandle<()> {
    let servers = Arc::clone(servers);
    thread::spawn(move || change(&servers))
}

/// Property: when no change is under way, the best tier that serves is in use, and its servers alone are in the up set
/// (I1).
/// Threads: the server of the better tier recovers, and goes down in the other thread; or it goes down, and recovers in
/// the other thread; or it goes down while that of the worse tier goes down and recovers.
/// Mutation that fails it: `ServerSet::refresh` looks once.
pub fn the_best_tier_that_serves_is_in_use() {
    check(2, || {
        let servers = Servers::new();
        servers.goes_down(0);
        let recovers = spawn(&servers, |servers| servers.comes_up(0));
        if servers.serves(0) {
            servers.goes_down(0);
        }
        recovers.join().unwrap();
        servers.assert_settled();
    });
    check(2, || {
        let servers = Servers::new();
        let fails = spawn(&servers, |servers| servers.goes_down(0));
        if !servers.serves(0) {
            servers.comes_up(0);
        }
        fails.join().unwrap();
        servers.assert_settled();
    });
    check(2, || {
        let servers = Servers::new();
        let fails = spawn(&servers, |servers| servers.goes_down(0));
        servers.goes_down(1);
        servers.comes_up(1);
        fails.join().unwrap();
        servers.assert_settled();
    });
}

/// Property: while the server of the worse tier serves, the up set is not empty (I2).
/// Threads: the server of the better tier recovers in one thread, which then goes down in the other; a third one looks.
/// Mutation that fails it: `announce` does nothing, or has no fence; `after_change` has no fence.
pub fn the_up_set_is_not_empty_during_a_switch() {
    check(3, || {
        let servers = Servers::new();
        servers.goes_down(0);
        let recovers = spawn(&servers, |servers| servers.comes_up(0));
        // Once it has recovered.
        if servers.tier.health[0].snapshot().serves() {
            let fails = spawn(&servers, |servers| servers.goes_down(0));
            assert!(!servers.up.is_empty(), "the server of the worse tier serves");
            fails.join().unwrap();
        }
        recovers.join().unwrap();
        assert!(!servers.up.is_empty());
        servers.assert_settled();
    });
}
