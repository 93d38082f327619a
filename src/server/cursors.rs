//! Whose turn it is.
//!
//! A cursor rotates over the servers that are up: each acquire starts at the next. If that server cannot serve, the
//! pass goes on at a second cursor, which stands after the server that served last. So the share of a server that
//! cannot serve is spread evenly over the others, instead of doubling that of its successor.
//!
//! Each stripe has its own two, so that threads do not fight for one. A thread that has a stripe to itself rotates
//! strictly. Threads that share one may now and then take the same turn, wherever in the rotation that is.

use crate::sync::{AtomicUsize, Ordering};

/// If there are more threads than stripes, some share theirs.
#[derive(Debug)]
pub(crate) struct Cursors<const STRIPES: usize> {
    stripes: Box<[Cursor; STRIPES]>,
}

/// Alone on its cache lines, of which processors fetch two at a time.
#[derive(Debug)]
#[repr(align(128))]
struct Cursor {
    turn: AtomicUsize,
    miss: AtomicUsize,
}

impl<const STRIPES: usize> Cursors<STRIPES> {
    pub(crate) fn new() -> Self {
        // Each starts at another server, so that threads that take few turns do not all take the first.
        let cursor = |at| Cursor { turn: AtomicUsize::new(at), miss: AtomicUsize::new(at) };
        Self { stripes: Box::new(core::array::from_fn(cursor)) }
    }

    #[inline]
    fn near(&self, near: usize) -> &Cursor {
        &self.stripes[near % STRIPES]
    }

    /// Takes a turn: whose it is.
    #[inline]
    pub(crate) fn turn<'a, S>(&self, near: usize, servers: &'a [S]) -> Option<&'a S> {
        // Relaxed, here and below: it publishes nothing. A load and a store, not a read-modify-write, which would cost
        // more than the rest of the rotation: what is lost are turns of threads that share the cursor.
        let cursor = &self.near(near).turn;
        let at = cursor.load(Ordering::Relaxed);
        if let Some(server) = servers.get(at) {
            cursor.store(at + 1, Ordering::Relaxed);
            return Some(server);
        }
        // Not always the first, which would get more than its share where the list often shrinks.
        let at = if at == servers.len() { 0 } else { at.checked_rem(servers.len())? };
        let server = servers.get(at)?;
        cursor.store(at + 1, Ordering::Relaxed);
        Some(server)
    }

    /// After a turn whose server did not serve: tries it again, by another way, then each of the others once.
    pub(crate) fn go_on<'a, S, T>(
        &self,
        near: usize,
        servers: &'a [S],
        mut serve: impl FnMut(&'a S) -> Option<T>,
    ) -> Option<T> {
        let Cursor { turn, miss } = self.near(near);
        let count = servers.len();
        // Should another thread share the cursor, or the list be a new one, it is some other server's turn.
        let first = turn.load(Ordering::Relaxed).saturating_sub(1).min(count.saturating_sub(1));
        if let Some(served) = serve(servers.get(first)?) {
            return Some(served);
        }
        let start = miss.load(Ordering::Relaxed) % count;
        let others = (start..count).chain(0..start).filter(|&index| index != first);
        for index in others {
            if let Some(served) = serve(&servers[index]) {
                miss.store(index + 1, Ordering::Relaxed);
                return Some(served);
            }
        }
        miss.store(start + 1, Ordering::Relaxed);
        None
    }

    /// Tries servers until one serves: the one whose turn it is, then each of the others once.
    pub(crate) fn pass<'a, S, T>(
        &self,
        near: usize,
        servers: &'a [S],
        serve: impl FnMut(&'a S) -> Option<T>,
    ) -> Option<T> {
        self.turn(near, servers)?;
        self.go_on(near, servers, serve)
    }
}

#[cfg(test)]
mod tests {
    use super::Cursors;

    fn shares(servers: &[bool], passes: usize) -> Vec<usize> {
        let cursors = Cursors::<1>::new();
        let indexed: Vec<_> = servers.iter().copied().enumerate().collect();
        let mut shares = vec![0; servers.len()];
        for _ in 0..passes {
            if let Some(index) = cursors.pass(0, &indexed, |&(index, serves)| serves.then_some(index)) {
                shares[index] += 1;
            }
        }
        shares
    }

    #[test]
    fn strict_rotation() {
        let cursors = Cursors::<1>::new();
        let order: Vec<_> = (0..8).filter_map(|_| cursors.pass(0, &[0, 1, 2, 3], |&server| Some(server))).collect();
        assert_eq!(order, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn each_stripe_has_a_turn_of_its_own() {
        let cursors = Cursors::<8>::new();
        let servers = [0, 1, 2];
        for near in [0, 1, 7] {
            let order: Vec<_> = (0..4).filter_map(|_| cursors.turn(near, &servers)).collect();
            let expected: Vec<_> = (0..4).map(|turn| &servers[(near + turn) % 3]).collect();
            assert_eq!(order, expected, "near {near}");
        }
        assert_eq!(cursors.turn(8, &servers), Some(&1), "more share the first");
    }

    #[test]
    fn the_share_of_one_that_cannot_serve_is_spread_evenly() {
        assert_eq!(shares(&[true, false, true, true], 12_000), [4_000, 0, 4_000, 4_000]);
        assert_eq!(shares(&[false, false, true, true, true], 15_000), [0, 0, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn passes_that_nobody_serves_rotate() {
        let cursors = Cursors::<1>::new();
        let orders = [(); 3].map(|()| {
            let mut tried = Vec::new();
            let served: Option<()> = cursors.pass(0, &[0, 1, 2], |&server| {
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
        let cursors = Cursors::<1>::new();
        for _ in 0..10 {
            let mut tried = [0; 7];
            let indices: [usize; 7] = core::array::from_fn(|index| index);
            let served: Option<()> = cursors.pass(0, &indices, |&index| {
                tried[index] += 1;
                None
            });
            assert_eq!((served, tried), (None, [1; 7]));
        }
    }
}
