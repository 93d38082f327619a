//! Whose turn it is.
//!
//! One cursor rotates over the servers that are up: each acquire starts at the next. If that server cannot serve, the
//! pass goes on at a second cursor, which stands after the server that served last. So the share of a server that
//! cannot serve is spread evenly over the others, instead of doubling that of its successor.

use crate::sync::{AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Cursors {
    turn: AtomicUsize,
    miss: AtomicUsize,
}

impl Cursors {
    /// Tries servers until one serves: the one whose turn it is, then each of the others once.
    pub(crate) fn pass<'a, S, T>(&self, servers: &'a [S], mut serve: impl FnMut(&'a S) -> Option<T>) -> Option<T> {
        // Relaxed, here and below: plain counters, which publish nothing. They wrap without harm.
        let count = servers.len();
        if count == 0 {
            return None;
        }
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % count;
        if let Some(served) = serve(&servers[first]) {
            return Some(served);
        }
        if count == 1 {
            return None;
        }
        let start = self.miss.fetch_add(1, Ordering::Relaxed) % count;
        for step in 0..count {
            let index = if start + step < count { start + step } else { start + step - count };
            if index == first {
                continue;
            }
            if let Some(served) = serve(&servers[index]) {
                if step > 0 {
                    self.miss.fetch_add(step, Ordering::Relaxed);
                }
                return Some(served);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Cursors;

    fn shares(servers: &[bool], passes: usize) -> Vec<usize> {
        let cursors = Cursors::default();
        let indexed: Vec<_> = servers.iter().copied().enumerate().collect();
        let mut shares = vec![0; servers.len()];
        for _ in 0..passes {
            if let Some(index) = cursors.pass(&indexed, |&(index, serves)| serves.then_some(index)) {
                shares[index] += 1;
            }
        }
        shares
    }

    #[test]
    fn strict_rotation() {
        let cursors = Cursors::default();
        let order: Vec<_> = (0..8).filter_map(|_| cursors.pass(&[0, 1, 2, 3], |&server| Some(server))).collect();
        assert_eq!(order, [0, 1, 2, 3, 0, 1, 2, 3]);
    }

    #[test]
    fn the_share_of_one_that_cannot_serve_is_spread_evenly() {
        assert_eq!(shares(&[true, false, true, true], 12_000), [4_000, 0, 4_000, 4_000]);
        assert_eq!(shares(&[false, false, true, true, true], 15_000), [0, 0, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn a_pass_tries_each_server_once() {
        let cursors = Cursors::default();
        for _ in 0..10 {
            let mut tried = [0; 7];
            let indices: [usize; 7] = core::array::from_fn(|index| index);
            let served: Option<()> = cursors.pass(&indices, |&index| {
                tried[index] += 1;
                None
            });
            assert_eq!((served, tried), (None, [1; 7]));
        }
    }
}
