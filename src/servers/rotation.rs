//! The order in which the servers of a set are tried.
//!
//! A cursor rotates over the set: each acquire starts at the next server in it. If that server cannot serve, the pass
//! goes on at a second cursor, which points after the last server that served such a pass. So the share of a server
//! that cannot serve is spread evenly over the others, instead of doubling that of its successor.
//!
//! Each shard has two cursors of its own, so that threads do not contend for one. A thread that has a shard to itself
//! rotates strictly. Threads that share a shard may now and then take the same turn.
//!
//! Weighted turns are those of the static stride scheduler of gRPC (proposal A58): of its passes over the set, each
//! server takes part in as many as its weight is of the largest one.

use crate::raw::{ANYWHERE, UpSet};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// 2⁶⁴ divided by the golden ratio: the multiples of the fraction lie evenly between 0 and 1.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Rotation<const SHARDS: usize> {
    shards: Box<[Cursors; SHARDS]>,
}

/// Alone on its cache lines, of which processors fetch two at a time.
#[derive(Debug)]
#[repr(align(128))]
struct Cursors {
    next: AtomicUsize,
    miss: AtomicUsize,
    /// The number of passes over the set; or the state of the random numbers, where two servers are compared.
    passes: AtomicU64,
}

impl<const SHARDS: usize> Rotation<SHARDS> {
    /// Each shard starts at another server of the set, the first at the `start`-th.
    pub(crate) fn new(start: usize) -> Self {
        let first = ANYWHERE + start;
        let cursors = |at| Cursors {
            next: AtomicUsize::new(first + at),
            miss: AtomicUsize::new(first + at),
            passes: AtomicU64::new(mixed((start + at) as u64)),
        };
        Self { shards: Box::new(core::array::from_fn(cursors)) }
    }

    #[inline(always)]
    fn near(&self, near: usize) -> &Cursors {
        &self.shards[near % SHARDS]
    }

    /// Takes a turn: the next server of the set.
    #[inline(always)]
    pub(crate) fn next(&self, near: usize, set: &UpSet) -> Option<usize> {
        // Relaxed, here and below: it publishes nothing. A load and a store, not a read-modify-write, which would cost
        // more than the rest of the rotation: threads that share the cursor may lose turns.
        let cursor = &self.near(near).next;
        let server = set.next_from(cursor.load(Ordering::Relaxed))?;
        cursor.store(server + 1, Ordering::Relaxed);
        Some(server)
    }

    /// Takes a weighted turn. `share` tells in how many of 2⁶⁴ passes a server takes part: the one of the largest
    /// weight in almost all of them.
    #[inline]
    pub(crate) fn next_weighted(&self, near: usize, set: &UpSet, share: impl Fn(usize) -> u64) -> Option<usize> {
        let Cursors { next, passes, .. } = self.near(near);
        // Relaxed: see `next`.
        let (mut at, mut pass) = (next.load(Ordering::Relaxed), passes.load(Ordering::Relaxed));
        loop {
            let server = set.next_from(at)?;
            if server < at {
                pass = pass.wrapping_add(1);
            }
            at = server + 1;
            let share = share(server);
            // The servers take part in different passes, though their weights be the same.
            let phase = GOLDEN.wrapping_mul(server as u64).wrapping_add(share.wrapping_mul(pass));
            if phase.overflowing_add(share).1 {
                next.store(at, Ordering::Relaxed);
                passes.store(pass, Ordering::Relaxed);
                return Some(server);
            }
        }
    }

    /// Takes a turn: the next server of the set, or a random other one if its `load` is lower.
    #[inline]
    pub(crate) fn next_of_two(&self, near: usize, set: &UpSet, load: impl Fn(usize) -> usize) -> Option<usize> {
        let (passes, first) = (&self.near(near).passes, self.next(near, set)?);
        // Relaxed: see `next`.
        let draw = passes.load(Ordering::Relaxed).wrapping_add(1);
        passes.store(draw, Ordering::Relaxed);
        let second = set.other(first, (mixed(draw) >> 32) as usize)?;
        Some(if load(second) < load(first) { second } else { first })
    }

    /// The pass goes on from this server, whose turn it was.
    #[inline]
    pub(crate) fn go_on_from(&self, near: usize, server: usize) {
        // Relaxed: see `next`.
        self.near(near).next.store(server + 1, Ordering::Relaxed);
    }

    /// Tries the server of the last turn again, by `serve`, then each of the others once.
    pub(crate) fn go_on<T>(&self, near: usize, set: &UpSet, mut serve: impl FnMut(usize) -> Option<T>) -> Option<T> {
        let Cursors { next, miss, .. } = self.near(near);
        // If another thread shares the cursor, or the set has changed, it is some other server's turn.
        let first = set.next_from(next.load(Ordering::Relaxed).saturating_sub(1))?;
        if let Some(served) = serve(first) {
            return Some(served);
        }
        let start = set.next_from(miss.load(Ordering::Relaxed))?;
        for server in set.iter_from(start) {
            if server == first {
                continue;
            }
            if let Some(served) = serve(server) {
                miss.store(server + 1, Ordering::Relaxed);
                return Some(served);
            }
        }
        miss.store(start + 1, Ordering::Relaxed);
        None
    }

    /// Tries servers of the set until one serves: the next in turn, then each of the others once.
    pub(crate) fn pass<T>(&self, near: usize, set: &UpSet, serve: impl FnMut(usize) -> Option<T>) -> Option<T> {
        self.next(near, set)?;
        self.go_on(near, set, serve)
    }
}

/// SplitMix64's number of a counter.
fn mixed(counter: u64) -> u64 {
    mix(counter.wrapping_mul(GOLDEN))
}

/// SplitMix64's function of its state, which grows by [`GOLDEN`].
pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::Rotation;
    use crate::raw::UpSet;

    fn set(numbers: impl IntoIterator<Item = usize>) -> UpSet {
        let set = UpSet::new(64);
        numbers.into_iter().for_each(|number| set.refresh(number, || true));
        set
    }

    fn shares(servers: &[bool], passes: usize) -> Vec<usize> {
        let rotation = Rotation::<1>::new(0);
        let all = set(0..servers.len());
        let mut shares = vec![0; servers.len()];
        for _ in 0..passes {
            if let Some(server) = rotation.pass(0, &all, |server| servers[server].then_some(server)) {
                shares[server] += 1;
            }
        }
        shares
    }

    #[test]
    fn one_thread_rotates_strictly_over_the_set() {
        let rotation = Rotation::<1>::new(2);
        let order = |set: &UpSet| (0..8).filter_map(|_| rotation.next(0, set)).collect::<Vec<_>>();
        assert_eq!(order(&set(0..4)), [2, 3, 0, 1, 2, 3, 0, 1]);
        assert_eq!(order(&set([0, 2, 3])), [2, 3, 0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn each_shard_has_a_turn_of_its_own() {
        let rotation = Rotation::<8>::new(0);
        let servers = set(0..3);
        for near in [0, 1, 7] {
            let order: Vec<_> = (0..4).filter_map(|_| rotation.next(near, &servers)).collect();
            assert_eq!(order, (0..4).map(|turn| (near + turn) % 3).collect::<Vec<_>>(), "near {near}");
        }
        assert_eq!(rotation.next(8, &servers), Some(1), "near 8 shares the cursor of near 0");
    }

    #[test]
    fn spreads_the_share_of_a_server_that_cannot_serve_evenly() {
        assert_eq!(shares(&[true, false, true, true], 12_000), [4_000, 0, 4_000, 4_000]);
        assert_eq!(shares(&[false, false, true, true, true], 15_000), [0, 0, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn passes_that_find_nothing_rotate() {
        let rotation = Rotation::<1>::new(0);
        let servers = set(0..3);
        let orders = [(); 3].map(|()| {
            let mut tried = Vec::new();
            let served: Option<()> = rotation.pass(0, &servers, |server| {
                tried.push(server);
                None
            });
            assert_eq!(served, None);
            tried
        });
        assert_eq!(orders, [[0, 1, 2], [1, 2, 0], [2, 0, 1]]);
    }

    #[test]
    fn a_pass_tries_each_server_once() {
        let rotation = Rotation::<1>::new(0);
        let servers = set(0..7);
        for _ in 0..10 {
            let mut tried = [0; 7];
            let served: Option<()> = rotation.pass(0, &servers, |server| {
                tried[server] += 1;
                None
            });
            assert_eq!((served, tried), (None, [1; 7]));
        }
    }

    /// The share of a weight, as the pool's.
    fn share(weight: u64, largest: u64) -> u64 {
        weight.saturating_mul(u64::MAX / largest)
    }

    #[test]
    fn weighted_turns_are_exact_over_each_period() {
        let (rotation, servers, weights) = (Rotation::<1>::new(5), set(0..3), [5, 3, 2]);
        let turn = || rotation.next_weighted(0, &servers, |server| share(weights[server], 5));
        let turns: Vec<_> = (0..1_000).filter_map(|_| turn()).collect();
        for (at, period) in turns.windows(10).enumerate() {
            let shares = [0, 1, 2].map(|server| period.iter().filter(|&&turn| turn == server).count());
            assert_eq!(shares, [5, 3, 2], "from turn {at}: {turns:?}");
        }
    }

    #[test]
    fn weighted_turns_skip_what_is_not_in_the_set_and_keep_the_proportions() {
        let rotation = Rotation::<1>::new(0);
        let weights = |server: usize| [100, 65_535, 1, 300, 300][server];
        let servers = set([0, 2, 3, 4]);
        let mut shares = [0; 5];
        for _ in 0..701 * 10 {
            let server = rotation.next_weighted(0, &servers, |server| share(weights(server), 300));
            shares[server.expect("some are in it")] += 1;
        }
        assert_eq!(shares, [1_000, 0, 10, 3_000, 3_000]);
        assert_eq!(rotation.next_weighted(0, &set([]), |_| 1), None);
        // A weight above the largest, for the moment until that is known, counts as the largest.
        let turns: Vec<_> = (0..4).filter_map(|_| rotation.next_weighted(0, &set(0..2), |_| share(300, 5))).collect();
        assert_eq!(turns.iter().sum::<usize>(), 2, "{turns:?}");
    }

    #[test]
    fn equal_weights_take_turns_strictly() {
        let (rotation, servers) = (Rotation::<1>::new(0), set(0..4));
        let turns = (0..8).filter_map(|_| rotation.next_weighted(0, &servers, |_| share(7, 7))).collect::<Vec<_>>();
        assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen_and_ties_keep_the_turn() {
        let (rotation, servers) = (Rotation::<1>::new(0), set(0..4));
        let turns = (0..8).filter_map(|_| rotation.next_of_two(0, &servers, |_| 3)).collect::<Vec<_>>();
        assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3]);
        let mut shares = [0; 4];
        for _ in 0..10_000 {
            let chosen = rotation.next_of_two(0, &servers, |server| usize::from(server == 0));
            shares[chosen.expect("some are in it")] += 1;
        }
        assert_eq!(shares[0], 0, "each other one has less load");
        assert!(shares[1..].iter().all(|share| (3_100..3_600).contains(share)), "{shares:?}");
        assert_eq!(rotation.next_of_two(0, &set([2]), |_| 0), Some(2), "there is no other");
    }
}
