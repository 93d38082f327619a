//! The order in which the servers of a set are tried.
//!
//! A cursor rotates over the set: each acquire starts at the next server in it. If that server cannot serve, the pass
//! goes on at a second cursor, which points after the last server that served such a pass. So the share of a server
//! that cannot serve is spread evenly over the others, instead of doubling that of its successor.
//!
//! Each shard has two cursors of its own, so that threads do not contend for one. A thread that has a shard to itself
//! rotates strictly. Threads that share a shard may now and then take the same turn.

use crate::raw::{ANYWHERE, UpSet};
use crate::sync::{AtomicUsize, Ordering};

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
}

impl<const SHARDS: usize> Rotation<SHARDS> {
    /// Each shard starts at another server of the set, the first at the `start`-th.
    pub(crate) fn new(start: usize) -> Self {
        let start = ANYWHERE + start;
        let cursors = |at| Cursors { next: AtomicUsize::new(start + at), miss: AtomicUsize::new(start + at) };
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

    /// Tries the server of the last turn again, by `serve`, then each of the others once.
    pub(crate) fn go_on<T>(&self, near: usize, set: &UpSet, mut serve: impl FnMut(usize) -> Option<T>) -> Option<T> {
        let Cursors { next, miss } = self.near(near);
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
}
