//! The weighted turns, and slow start.
//!
//! The turns are a sequence of server numbers that repeats. Each server of the up set has as many of them as its weight
//! says, at even distances: of `n` turns the k-th is at the (k + p)/n-th part of the sequence, where the phases `p` of
//! the servers lie evenly between 0 and 1. (gRPC's static stride scheduler, proposal A58, gives the same shares, and
//! decides at each turn.)
//!
//! The list has the turns. After a change of the up set or of a weight, the background task computes them anew: at
//! once, but not twice within a tick. So a server that changes its state costs the same however many there are.

use super::Servers;
use crate::connector::Connector;
use crate::load_balancing::LoadBalancing;
use crate::raw::{TICK, Time};
use crate::server::ServerRecord;
use crate::servers::list::{List, ListEntry};
use crate::sync::Arc;

/// More turns than this, and than [`MOST_EACH`] for each server, are rounded.
const MOST: usize = 16_384;
const MOST_EACH: usize = 16;
/// Of so much time one part at most goes into computing them.
const PARTS: u32 = 20;

/// Keeps the turns up to date, for the background task.
#[derive(Debug, Default)]
pub(crate) struct TurnsUpkeep {
    /// They are not computed again before this time.
    next: Time,
}

impl TurnsUpkeep {
    /// Goes on with the ramps and computes the turns, if that is due. Returns when it is due next.
    pub(crate) fn run<C: Connector>(&mut self, servers: &Servers<C>, now: Time) -> Time {
        if now >= self.next && servers.turns_changed.take() {
            servers.ramp(now);
            servers.renew_turns();
            let took = servers.notifier.clock.time().since(now);
            self.next = now.after(TICK.max(PARTS * took));
        }
        if servers.turns_changed.is_noted() { self.next } else { Time::NEVER }
    }
}

impl<C: Connector> Servers<C> {
    /// The up set or a weight has changed: the background task computes the turns anew.
    pub(in crate::servers) fn turns_changed(&self) {
        self.turns_changed.note();
        // After the note: either this is the list of `set_policy`, or that notes a change after this one.
        if self.list().policy == LoadBalancing::Weighted {
            self.notifier.wake();
        }
    }

    /// Changes how callers choose. A closed pool has no callers.
    pub(crate) fn set_policy(&self, policy: LoadBalancing) {
        let Ok(mut edit) = self.edit(Time::ZERO) else { return };
        edit.list.policy = policy;
        edit.list.turns = Arc::new([]);
        self.notifier.signals.set_in_turn(policy != LoadBalancing::LeastInUse);
        edit.publish();
        self.renew_turns();
        // For changes that came meanwhile, and found the old list: see there.
        self.turns_changed();
    }

    /// Computes the turns, if callers take weighted ones, and publishes a list that has them. Not under the lock: it
    /// may take milliseconds. If another list was published meanwhile, they are computed again.
    fn renew_turns(&self) {
        let list = self.list.load_full();
        if list.policy != LoadBalancing::Weighted {
            return;
        }
        let weight = |number| Some((number, list.entry(number)?.server().weight.now()));
        let turns = turns(&list.up.iter_from(0).filter_map(weight).collect::<Vec<_>>());
        let Ok(mut edit) = self.edit(Time::ZERO) else { return };
        if self.list().version == list.version {
            edit.list.turns = turns;
            edit.publish();
        } else {
            drop(edit);
            self.turns_changed();
        }
    }

    /// Begins the ramp of a server that is about to come into use.
    pub(in crate::servers) fn start_ramp_if_new(&self, list: &List<C>, number: usize) {
        let is_new = |entry: &&ListEntry<C>| {
            self.may_be_used(Some(entry.server().health.snapshot())) && !list.up.contains(number)
        };
        if let Some(entry) = list.entry(number).filter(is_new) {
            self.start_ramp(entry.server());
        }
    }

    /// Begins the ramp of a server, if slow start is on.
    pub(super) fn start_ramp(&self, server: &ServerRecord<C>) {
        // Without the tick nothing would go on with it. A pool that starts has none yet.
        if let (Some(_), Some(now)) = (self.slow_start, self.notifier.signals.tick()) {
            server.weight.start_ramp(now);
            self.turns_changed();
        }
    }

    /// Goes on with the ramps.
    fn ramp(&self, now: Time) {
        let Some(window) = self.slow_start else { return };
        let ramping = |entry: &ListEntry<C>| entry.server().weight.ramp(now, window);
        if self.list().iter().filter(|(_, entry)| ramping(entry)).count() > 0 {
            // The task need not be woken: this is the task.
            self.turns_changed.note();
        }
    }
}

/// The turns of servers with these weights.
fn turns(weights: &[(usize, u64)]) -> Arc<[u32]> {
    let most = MOST.max(weights.len() * MOST_EACH) as u64;
    let unit = weights.iter().fold(0, |unit, &(_, weight)| gcd(unit, weight)).max(1);
    let sum: u64 = weights.iter().map(|(_, weight)| weight / unit).sum();
    let count = |weight: u64| if sum <= most { weight / unit } else { ((weight / unit * most + sum / 2) / sum).max(1) };
    // The places in 2³² parts of the sequence, each with its server in the lower half.
    let places = weights.iter().zip(0_u64..).flat_map(|(&(number, weight), at)| {
        let (count, phase) = (count(weight), ((2 * at + 1) << 31) / weights.len() as u64);
        (0..count).map(move |turn| ((((turn << 32) + phase) / count) << 32) | number as u64)
    });
    let mut places: Vec<_> = places.collect();
    places.sort_unstable();
    places.into_iter().map(|place| place as u32).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::{MOST, turns};

    fn of(weights: &[u64]) -> Vec<u32> {
        turns(&weights.iter().copied().enumerate().collect::<Vec<_>>()).to_vec()
    }

    fn count(turns: &[u32], server: u32) -> usize {
        turns.iter().filter(|&&turn| turn == server).count()
    }

    #[test]
    fn turns_are_exact_and_evenly_spaced() {
        assert_eq!(of(&[5, 3, 2]), [0, 1, 0, 2, 0, 1, 0, 0, 1, 2]);
        assert_eq!(of(&[700, 700, 700]), [0, 1, 2], "what they have in common does not count");
        assert_eq!(of(&[9]), [0]);
        assert!(of(&[]).is_empty());
        let weights = [1, 50, 7, 300, 99];
        let turns = of(&weights);
        assert_eq!([0, 1, 2, 3, 4].map(|server| count(&turns, server) as u64), weights);
        // No server gets many more turns in any part of the sequence, or many fewer, than its share of that part.
        for server in 0..5 {
            let share = weights[server as usize] as f64 / turns.len() as f64;
            let mut had = 0.0;
            for (at, &turn) in turns.iter().enumerate() {
                had += f64::from(u8::from(turn == server));
                let due = share * (at + 1) as f64;
                assert!((had - due).abs() <= 2.5, "server {server} has had {had} of {due} turns");
            }
        }
    }

    #[test]
    fn a_sequence_that_would_be_long_is_rounded_and_leaves_nobody_out() {
        let weights = [16_777_216, 1, 8_000_001, 4_000_003];
        let (turns, sum) = (of(&weights), weights.iter().sum::<u64>() as f64);
        assert!((MOST - 4..=MOST + 4).contains(&turns.len()), "{}", turns.len());
        for (server, &weight) in weights.iter().enumerate() {
            let share = count(&turns, server as u32) as f64 / turns.len() as f64;
            assert!((share - weight as f64 / sum).abs() < 0.0002, "server {server}: {share}");
        }
        assert_eq!(count(&turns, 1), 1);
        let many: Vec<_> = (0..10_000).map(|server| 1 + server % 60_000).collect();
        let turns = of(&many);
        assert!((155_000..=165_000).contains(&turns.len()) && (0..10_000).all(|server| turns.contains(&server)));
    }
}
