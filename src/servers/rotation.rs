//! The order in which the servers of a set are tried.
//!
//! A cursor rotates over the set: each acquire starts at the next server in it. If that server cannot serve, a scan
//! goes on at a second cursor, which stands after the server where the last scan ended. So the share of a server that
//! cannot serve is spread evenly over the others, instead of doubling that of its successor.
//!
//! Each shard has cursors of its own, so that threads do not contend for one. A thread that has a shard to itself
//! rotates strictly. Threads that share a shard may now and then take the same turn.
//!
//! Weighted turns are those of a sequence (`set/turns.rs`), over which a third cursor rotates.

use crate::raw::{ANYWHERE, ServerSet};
use crate::sync::{AtomicUsize, Ordering};

/// 2⁶⁴ divided by the golden ratio: the multiples of the fraction lie evenly between 0 and 1.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// So many turns of a sequence are looked at for one whose server is in the set.
const MOST_LOOKS: usize = 64;

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
    /// The place in the weighted turns; or the number of draws, where two servers are compared.
    turn: AtomicUsize,
    /// The place in the weighted turns from which `stand_in` goes on.
    missed_turn: AtomicUsize,
}

impl Cursors {
    /// Chooses a server for a weighted turn whose own server has left the set since the turns were computed. It goes
    /// over the same turns by a cursor of its own, so that the shares stay in proportion. If it finds none, it takes
    /// the next server of the set.
    #[cold]
    #[inline(never)]
    fn stand_in(&self, set: &ServerSet, turns: &[u32]) -> Option<usize> {
        // Relaxed: see `next`.
        let from = self.missed_turn.load(Ordering::Relaxed) % turns.len();
        let looked_at = turns[from..].iter().chain(&turns[..from]).zip(from..).take(MOST_LOOKS);
        let found = looked_at.map(|(&server, turn)| (server as usize, turn)).find(|&(server, _)| set.contains(server));
        self.missed_turn.store(found.map_or(from + MOST_LOOKS, |(_, turn)| turn + 1), Ordering::Relaxed);
        found.map(|(server, _)| server).or_else(|| set.next_from(self.next.load(Ordering::Relaxed)))
    }
}

impl<const SHARDS: usize> Rotation<SHARDS> {
    /// Each shard starts at another server of the set, the first at the `start`-th.
    pub(crate) fn new(start: usize) -> Self {
        let first = ANYWHERE + start;
        let cursors = |at| Cursors {
            next: AtomicUsize::new(first + at),
            miss: AtomicUsize::new(first + at),
            turn: AtomicUsize::new(mixed(start + at)),
            missed_turn: AtomicUsize::new(0),
        };
        Self { shards: Box::new(core::array::from_fn(cursors)) }
    }

    #[inline(always)]
    fn cursors(&self, thread: usize) -> &Cursors {
        &self.shards[thread % SHARDS]
    }

    /// Takes a turn: the next server of the set.
    #[inline(always)]
    pub(crate) fn next(&self, thread: usize, set: &ServerSet) -> Option<usize> {
        // Relaxed, here and below: it publishes nothing. A load and a store, not a read-modify-write, which would cost
        // more than the rest of the rotation: threads that share the cursor may lose turns.
        let cursor = &self.cursors(thread).next;
        let server = set.next_from(cursor.load(Ordering::Relaxed))?;
        cursor.store(server + 1, Ordering::Relaxed);
        Some(server)
    }

    /// Takes a turn: the next of the weighted `turns`, if there are any.
    #[inline(always)]
    pub(crate) fn next_turn(&self, thread: usize, set: &ServerSet, turns: &[u32]) -> Option<usize> {
        if turns.is_empty() {
            return self.next(thread, set);
        }
        let cursors = self.cursors(thread);
        // Relaxed: see `next`.
        let mut turn = cursors.turn.load(Ordering::Relaxed);
        if turn >= turns.len() {
            turn %= turns.len();
        }
        cursors.turn.store(turn + 1, Ordering::Relaxed);
        let owner = turns[turn] as usize;
        let server = if set.contains(owner) { owner } else { cursors.stand_in(set, turns)? };
        cursors.next.store(server + 1, Ordering::Relaxed);
        Some(server)
    }

    /// Takes a turn: the next server of the set, or a random other one if its `load` is lower.
    #[inline]
    pub(crate) fn next_of_two(&self, thread: usize, set: &ServerSet, load: impl Fn(usize) -> u32) -> Option<usize> {
        let (turn, first) = (&self.cursors(thread).turn, self.next(thread, set)?);
        // Relaxed: see `next`.
        let draw = turn.load(Ordering::Relaxed).wrapping_add(1);
        turn.store(draw, Ordering::Relaxed);
        let second = set.other(first, mixed(draw))?;
        Some(if load(second) < load(first) { second } else { first })
    }

    /// The pass goes on from this server, whose turn it was.
    #[inline]
    pub(crate) fn go_on_from(&self, thread: usize, server: usize) {
        // Relaxed: see `next`.
        self.cursors(thread).next.store(server + 1, Ordering::Relaxed);
    }

    /// Tries the server of the last turn again, by `serve`, then each of the others once.
    pub(crate) fn go_on<T>(
        &self,
        thread: usize,
        set: &ServerSet,
        mut serve: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        let Cursors { next, miss, .. } = self.cursors(thread);
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
    pub(crate) fn try_each<T>(
        &self,
        thread: usize,
        set: &ServerSet,
        serve: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        self.next(thread, set)?;
        self.go_on(thread, set, serve)
    }
}

/// A number below 2³²: the upper half of SplitMix64's number of a counter.
fn mixed(counter: usize) -> usize {
    (mix((counter as u64).wrapping_mul(GOLDEN)) >> 32) as usize
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
    use crate::raw::ServerSet;

    fn set(numbers: impl IntoIterator<Item = usize>) -> ServerSet {
        let set = ServerSet::new(64);
        for number in numbers {
            set.refresh(number, || true);
        }
        set
    }

    fn shares(servers: &[bool], passes: usize) -> Vec<usize> {
        let rotation = Rotation::<1>::new(0);
        let all = set(0..servers.len());
        let mut shares = vec![0; servers.len()];
        for _ in 0..passes {
            if let Some(server) = rotation.try_each(0, &all, |server| servers[server].then_some(server)) {
                shares[server] += 1;
            }
        }
        shares
    }

    #[test]
    fn one_thread_rotates_strictly_over_the_set() {
        let rotation = Rotation::<1>::new(2);
        let order = |set: &ServerSet| (0..8).filter_map(|_| rotation.next(0, set)).collect::<Vec<_>>();
        assert_eq!(order(&set(0..4)), [2, 3, 0, 1, 2, 3, 0, 1]);
        assert_eq!(order(&set([0, 2, 3])), [2, 3, 0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn each_shard_has_a_turn_of_its_own() {
        let rotation = Rotation::<8>::new(0);
        let servers = set(0..3);
        for thread in [0, 1, 7] {
            let order: Vec<_> = (0..4).filter_map(|_| rotation.next(thread, &servers)).collect();
            assert_eq!(order, (0..4).map(|turn| (thread + turn) % 3).collect::<Vec<_>>(), "thread {thread}");
        }
        assert_eq!(rotation.next(8, &servers), Some(1), "thread 8 shares the cursor of thread 0");
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
            let served: Option<()> = rotation.try_each(0, &servers, |server| {
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
            let served: Option<()> = rotation.try_each(0, &servers, |server| {
                tried[server] += 1;
                None
            });
            assert_eq!((served, tried), (None, [1; 7]));
        }
    }

    #[test]
    fn weighted_turns_rotate_over_their_sequence() {
        let (rotation, servers) = (Rotation::<1>::new(0), set(0..3));
        let take = |turns: &[u32], count| -> Vec<_> {
            (0..count).filter_map(|_| rotation.next_turn(0, &servers, turns)).collect()
        };
        let order = take(&[2, 0, 2, 1], 12);
        assert_eq!(order[..4], order[4..8]);
        assert_eq!(order[..4], order[8..]);
        let at = order.iter().position(|&server| server == 1).expect("it has one turn");
        assert_eq!([order[(at + 1) % 4], order[(at + 2) % 4], order[(at + 3) % 4]], [2, 0, 2]);
        // A shorter sequence, then none.
        assert_eq!(take(&[1], 2), [1, 1]);
        assert_eq!(take(&[], 4), [2, 0, 1, 2], "after the server that was last");
    }

    #[test]
    fn weighted_turns_of_a_server_that_left_are_shared_in_proportion() {
        let (rotation, turns) = (Rotation::<1>::new(0), [0, 1, 0, 2, 0, 1, 0, 0, 1, 2]);
        let serve = |set: &ServerSet, turns: &[u32]| rotation.next_turn(0, set, turns);
        let (mut shares, some) = ([0; 4], set([1, 2, 3]));
        for _ in 0..1_000 {
            shares[serve(&some, &turns).expect("some are in it")] += 1;
        }
        assert_eq!(shares, [0, 600, 400, 0]);
        let others: Vec<_> = (0..4).filter_map(|_| serve(&set([3, 5]), &turns)).collect();
        assert!(others == [3, 5, 3, 5] || others == [5, 3, 5, 3], "they have no turns: {others:?}");
        assert_eq!(serve(&set([]), &turns), None);
        // One of many, far from the first look.
        let turns: Vec<_> = (0..1_000).map(|turn| u32::from(turn == 900)).collect();
        assert!((0..50).all(|_| serve(&set([1]), &turns) == Some(1)));
        // Each look goes on from the one before, until it comes to that turn. Meanwhile they rotate over the set.
        let rotation = Rotation::<1>::new(0);
        let turns: Vec<_> = (0..1_000).map(|turn| if turn == 900 { 2 } else { 0 }).collect();
        let served: Vec<_> = (0..16).filter_map(|_| rotation.next_turn(0, &set([1, 2]), &turns)).collect();
        assert_eq!(served.windows(2).filter(|turns| turns[0] == turns[1]).count(), 1, "{served:?}");
    }

    #[test]
    fn shards_begin_at_different_weighted_turns() {
        let (rotation, servers, turns) = (Rotation::<64>::new(0), set(0..4), [0, 1, 2, 3]);
        let mut firsts: Vec<_> = (0..64).filter_map(|thread| rotation.next_turn(thread, &servers, &turns)).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts, [0, 1, 2, 3]);
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen_and_ties_keep_the_turn() {
        let (rotation, servers) = (Rotation::<1>::new(0), set(0..4));
        let turns = (0..8).filter_map(|_| rotation.next_of_two(0, &servers, |_| 3)).collect::<Vec<_>>();
        assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3]);
        let mut shares = [0; 4];
        for _ in 0..10_000 {
            let chosen = rotation.next_of_two(0, &servers, |server| u32::from(server == 0));
            shares[chosen.expect("some are in it")] += 1;
        }
        assert_eq!(shares[0], 0, "each other one has less load");
        assert!(shares[1..].iter().all(|share| (3_100..3_600).contains(share)), "{shares:?}");
        assert_eq!(rotation.next_of_two(0, &set([2]), |_| 0), Some(2), "there is no other");
    }
}
