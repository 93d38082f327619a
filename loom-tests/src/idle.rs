//! The idle queue and its closed bit.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::Idle;

fn drain(idle: &Idle<u32>) -> Vec<u32> {
    std::iter::from_fn(|| idle.pop()).collect()
}

/// Returns what may not stay.
fn push(idle: &Idle<u32>, item: u32) -> Vec<u32> {
    let mut refused = Vec::new();
    idle.push(item, |item| refused.push(item));
    refused
}

/// Property: of a push that races with the close, the item is closed by one of the two, exactly once, and none stays
/// (I1, I2).
/// Threads: two push, the main one closes and drains.
/// Mutation that fails it: no fence in `push`, or none in `close`, or a pusher that sees the bit pops only one item.
pub fn nothing_stays_behind_the_closed_bit() {
    check(Some(3), || {
        let idle = Arc::new(Idle::new(2));
        let pushers: Vec<_> = [1, 2]
            .into_iter()
            .map(|item| {
                let idle = Arc::clone(&idle);
                thread::spawn(move || push(&idle, item))
            })
            .collect();
        idle.close();
        let mut closed = drain(&idle);
        closed.extend(pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()));
        assert_eq!(drain(&idle), [], "an item was left behind");
        closed.sort_unstable();
        assert_eq!(closed, [1, 2]);
    });
}

/// Property: each item is reused or closed, exactly once, whoever pops, pushes and closes (I2).
/// Threads: one pops and pushes back, one pops and keeps, the main one closes and drains.
/// Mutation that fails it: no fence in `push`, or none in `close`.
pub fn each_is_reused_or_closed_once() {
    check(Some(3), || {
        let idle = Arc::new(Idle::new(2));
        assert_eq!(push(&idle, 1), []);
        assert_eq!(push(&idle, 2), []);
        let returns = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop().map_or(Vec::new(), |item| push(&idle, item)))
        };
        let keeps = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop())
        };
        idle.close();
        let mut seen = drain(&idle);
        seen.extend(returns.join().unwrap());
        seen.extend(keeps.join().unwrap());
        assert_eq!(drain(&idle), [], "an item was left behind");
        seen.sort_unstable();
        assert_eq!(seen, [1, 2]);
    });
}
