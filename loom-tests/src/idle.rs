//! The idle connections and their closed bit.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::Idle;

fn drain(idle: &Idle<u32>, near: usize) -> Vec<u32> {
    std::iter::from_fn(|| idle.pop(near)).collect()
}

/// Returns what may not stay. There are never more items than slots, and the pusher knows it.
fn push(idle: &Idle<u32>, item: u32, near: usize) -> Vec<u32> {
    let mut refused = Vec::new();
    // Called after each look at all stripes: whoever looks again lets the others go on first, as loom needs it of a
    // loop that waits for them.
    let may_be_full = || {
        thread::yield_now();
        false
    };
    idle.push(item, near, may_be_full, |item| refused.push(item));
    refused
}

/// Two stripes of two slots each, with the items in them.
fn striped(stripes: [&[u32]; 2]) -> Arc<Idle<u32>> {
    let idle = Arc::new(Idle::new(4, 2));
    for (near, items) in stripes.iter().enumerate() {
        items.iter().for_each(|&item| assert_eq!(push(&idle, item, near), []));
    }
    idle
}

fn pushes(idle: &Arc<Idle<u32>>, item: u32, near: usize) -> thread::JoinHandle<Vec<u32>> {
    let idle = Arc::clone(idle);
    thread::spawn(move || push(&idle, item, near))
}

fn sorted(mut items: Vec<u32>) -> Vec<u32> {
    items.sort_unstable();
    items
}

/// Property: of a push that races with the close, the item is closed by one of the two, exactly once, and none stays
/// (I1, I2).
/// Threads: two push, the main one closes and drains.
/// Mutation that fails it: no fence in `push`, or none in `close`, or a pusher that sees the bit pops only one item.
pub fn nothing_stays_behind_the_closed_bit() {
    check(Some(3), || {
        let idle = Arc::new(Idle::new(2, 1));
        let pushers = [pushes(&idle, 1, 0), pushes(&idle, 2, 0)];
        idle.close();
        let mut closed = drain(&idle, 0);
        closed.extend(pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()));
        assert_eq!(drain(&idle, 0), [], "an item was left behind");
        assert_eq!(sorted(closed), [1, 2]);
    });
}

/// Property: the same over two stripes: the closer finds what is pushed near any (I1, I2).
/// Threads: two push near different stripes, the main one closes and drains.
/// Mutation that fails it: no fence in `push`, or none in `close`, or `pop` looks only at the nearest stripe.
pub fn nothing_stays_behind_the_closed_bit_in_any_stripe() {
    check(Some(3), || {
        let idle = striped([&[], &[]]);
        let pushers = [pushes(&idle, 1, 0), pushes(&idle, 2, 1)];
        idle.close();
        let mut closed = drain(&idle, 0);
        closed.extend(pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()));
        assert_eq!(idle.len(), 0, "an item was left behind");
        assert_eq!(sorted(closed), [1, 2]);
    });
}

/// Property: the same of an item that finds its stripe full and goes elsewhere (I1, I2). It is a model of its own, with
/// one pusher, because two are too many for four items.
/// Threads: one pushes near a full stripe, the main one closes and drains.
/// Mutation that fails it: no fence in `push`, or none in `close`, or a pusher that sees the bit pops only what is
/// nearest.
pub fn nothing_stays_behind_the_closed_bit_elsewhere() {
    check(Some(3), || {
        let idle = striped([&[1, 2], &[]]);
        let pusher = pushes(&idle, 3, 0);
        idle.close();
        let mut closed = drain(&idle, 0);
        closed.extend(pusher.join().unwrap());
        assert_eq!(idle.len(), 0, "an item was left behind");
        assert_eq!(sorted(closed), [1, 2, 3]);
    });
}

/// Property: each item is reused or closed, exactly once, whoever pops, pushes and closes (I2).
/// Threads: one pops and pushes back, one pops and keeps, the main one closes and drains.
/// Mutation that fails it: no fence in `push`, or none in `close`.
pub fn each_is_reused_or_closed_once() {
    check(Some(2), || {
        let idle = Arc::new(Idle::new(2, 1));
        assert_eq!(push(&idle, 1, 0), []);
        assert_eq!(push(&idle, 2, 0), []);
        let returns = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop_near(0).map_or(Vec::new(), |item| push(&idle, item, 0)))
        };
        let keeps = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop_near(0))
        };
        idle.close();
        let mut seen = drain(&idle, 0);
        seen.extend(returns.join().unwrap());
        seen.extend(keeps.join().unwrap());
        assert_eq!(drain(&idle, 0), [], "an item was left behind");
        assert_eq!(sorted(seen), [1, 2]);
    });
}

/// Property: with as many items as slots no push refuses, and each ends, though every stripe may be found full, one
/// after the other, while an item moves (I2, I4).
/// Threads: two push near different stripes, the main one moves an item from one stripe to the other.
/// Mutation that fails it: `push_elsewhere` refuses after its first look at all stripes.
pub fn nothing_is_refused_while_there_is_room() {
    check(Some(3), || {
        let idle = striped([&[1, 2], &[]]);
        let pushers = [pushes(&idle, 3, 0), pushes(&idle, 4, 1)];
        let moved = idle.pop(0).expect("nobody else takes one");
        assert_eq!(push(&idle, moved, 1), []);
        pushers.into_iter().for_each(|pusher| assert_eq!(pusher.join().unwrap(), []));
        assert_eq!(sorted(drain(&idle, 0)), [1, 2, 3, 4]);
    });
}

/// Property: a pop finds an item that was there before it began and that nobody else takes, in whichever stripe (I5).
/// Threads: two pop near one stripe, the items that suffice for both stay in the other; a third moves an item near the
/// first.
/// Mutation that fails it: `pop` looks only at the nearest stripe.
pub fn what_stays_elsewhere_is_found() {
    check(Some(3), || {
        let idle = striped([&[1], &[2, 3]]);
        let pops = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop(0).expect("an item that nobody else takes"))
        };
        let moves = {
            let idle = Arc::clone(&idle);
            thread::spawn(move || idle.pop_near(0).map_or(Vec::new(), |item| push(&idle, item, 0)))
        };
        let here = idle.pop(0).expect("an item that nobody else takes");
        let mut seen = vec![here, pops.join().unwrap()];
        assert_eq!(moves.join().unwrap(), []);
        seen.extend(drain(&idle, 0));
        assert_eq!(sorted(seen), [1, 2, 3]);
    });
}
