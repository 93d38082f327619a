//! Which servers to connect to for waiters. Pure: it reads no clock and changes nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A server that may be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its number.
    pub(crate) number: usize,
    /// Attempts that run at it.
    pub(crate) connecting: u32,
    /// How many more may start.
    pub(crate) room: u32,
    /// Whether it has a token. One without comes after those without attempts.
    pub(crate) has_token: bool,
}

/// Chooses servers for at most `wanted` attempts: each time the first candidate among those with the fewest attempts. A
/// hedge, for waiters whose attempt is late, goes only to servers without attempts.
pub(crate) fn plan(candidates: impl IntoIterator<Item = Candidate>, wanted: usize, is_hedge: bool) -> Vec<usize> {
    let (mut chosen, mut tokenless) = (Vec::new(), Vec::new());
    let mut rest = BinaryHeap::new();
    for (order, candidate) in candidates.into_iter().enumerate() {
        if chosen.len() == wanted {
            return chosen;
        }
        let Candidate { number, connecting, room, has_token } = candidate;
        if room == 0 {
            continue;
        }
        if !has_token {
            tokenless.push(number);
            continue;
        }
        let left = if connecting == 0 {
            chosen.push(number);
            (1, room - 1)
        } else {
            (connecting, room)
        };
        if left.1 > 0 && !is_hedge {
            rest.push(Reverse((left.0, order, number, left.1)));
        }
    }
    chosen.extend(tokenless.into_iter().take(wanted - chosen.len()));
    while chosen.len() < wanted {
        let Some(Reverse((connecting, order, number, room))) = rest.pop() else { break };
        chosen.push(number);
        if room > 1 {
            rest.push(Reverse((connecting + 1, order, number, room - 1)));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::{Candidate, plan};

    fn candidates(servers: &[(u32, u32)]) -> Vec<Candidate> {
        let candidate = |(number, &(connecting, room))| Candidate { number, connecting, room, has_token: true };
        servers.iter().enumerate().map(candidate).collect()
    }

    #[test]
    fn spreads_attempts_over_servers_without_any() {
        assert_eq!(plan(candidates(&[(0, 8), (0, 8), (0, 8)]), 2, false), [0, 1]);
        assert_eq!(plan(candidates(&[(1, 8), (0, 8), (0, 8)]), 2, false), [1, 2]);
    }

    #[test]
    fn then_goes_where_the_fewest_run() {
        assert_eq!(plan(candidates(&[(0, 8), (2, 8), (0, 1)]), 6, false), [0, 2, 0, 0, 1, 0]);
    }

    #[test]
    fn one_without_a_token_comes_after_those_without_attempts_and_before_the_others() {
        let of = |number, connecting, room, has_token| Candidate { number, connecting, room, has_token };
        let servers = [of(0, 0, 1, false), of(1, 0, 2, true), of(2, 1, 1, true), of(3, 0, 1, false)];
        assert_eq!(plan(servers, 1, false), [1]);
        assert_eq!(plan(servers, 2, false), [1, 0]);
        assert_eq!(plan(servers, 5, false), [1, 0, 3, 1, 2]);
    }

    #[test]
    fn never_exceeds_the_room_nor_the_waiters() {
        assert_eq!(plan(candidates(&[(0, 1), (3, 2), (0, 0)]), 10, false), [0, 1, 1]);
        assert_eq!(plan(candidates(&[(0, 9)]), 0, false), []);
    }

    #[test]
    fn a_hedge_goes_only_to_servers_without_attempts() {
        assert_eq!(plan(candidates(&[(1, 8), (0, 8), (0, 8)]), 5, true), [1, 2]);
    }
}
