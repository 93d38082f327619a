//! Compares the idle connections of a generation, used by one thread, with plain queues: the same order, the same
//! refused items, and each item dropped once.

use std::collections::VecDeque;
use std::rc::Rc;

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::Idle;

const MAX_CAPACITY: usize = 24;
const MAX_SHARDS: usize = 8;
const MAX_OPS: usize = 300;

#[derive(Debug, Arbitrary)]
struct Case {
    capacity: u8,
    shards: u8,
    bounded: bool,
    ops: Vec<Op>,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Push(u8),
    PushMany(u8, u8),
    Pop(u8),
    PopOwn(u8),
    /// Keeps the items whose number has this bit set.
    Retain(u8),
    Close,
    Drain,
}

/// An item. The strong count of `_alive` counts the existing items.
struct Item {
    number: u32,
    _alive: Rc<()>,
}

/// A shard of the reference. Unless the set is bounded, its slot holds one item beyond the room of its queue.
struct Shard {
    room: usize,
    slot: Option<u32>,
    queue: VecDeque<u32>,
}

impl Shard {
    fn push(&mut self, item: u32, bounded: bool) -> bool {
        if !bounded && self.slot.is_none() && self.queue.is_empty() {
            self.slot = Some(item);
            return true;
        }
        let has_room = self.queue.len() < self.room;
        if has_room {
            self.queue.push_back(item);
        }
        has_room
    }

    fn pop(&mut self) -> Option<u32> {
        self.slot.take().or_else(|| self.queue.pop_front())
    }

    fn len(&self) -> usize {
        usize::from(self.slot.is_some()) + self.queue.len()
    }
}

struct Run {
    idle: Idle<Item>,
    capacity: usize,
    bounded: bool,
    shards: Vec<Shard>,
    is_closed: bool,
    next: u32,
    alive: Rc<()>,
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let capacity = 1 + usize::from(case.capacity) % MAX_CAPACITY;
    let shards = 1 + usize::from(case.shards) % MAX_SHARDS;
    // The number of shards is a power of two, and each has room for at least two items.
    let count = [8, 4, 2, 1].into_iter().find(|&count| count <= shards && 2 * count <= capacity).unwrap_or(1);
    let room = |shard| capacity / count + usize::from(shard < capacity % count);
    let shard = |shard| Shard { room: room(shard), slot: None, queue: VecDeque::new() };
    let mut run = Run {
        idle: Idle::new(capacity, shards, case.bounded),
        capacity,
        bounded: case.bounded,
        shards: (0..count).map(shard).collect(),
        is_closed: false,
        next: 0,
        alive: Rc::new(()),
    };
    run.check_fits();
    for op in case.ops.into_iter().take(MAX_OPS) {
        run.step(op);
        run.check();
    }
    let Run { idle, alive, .. } = run;
    drop(idle);
    assert_eq!(Rc::strong_count(&alive), 1, "an item was not dropped");
}

impl Run {
    fn step(&mut self, op: Op) {
        match op {
            Op::Push(thread) => self.push(thread.into()),
            Op::PushMany(thread, count) => (0..count % 16).for_each(|_| self.push(thread.into())),
            Op::Pop(thread) => {
                let popped = self.idle.pop(thread.into()).map(|item| item.number);
                assert_eq!(popped, self.pop(thread.into()));
            }
            Op::PopOwn(thread) => {
                let popped = self.idle.pop_own(thread.into()).map(|item| item.number);
                let thread = self.at(thread.into());
                assert_eq!(popped, self.shards[thread].pop());
            }
            Op::Retain(bit) => self.retain(bit),
            Op::Close => {
                self.idle.close();
                self.is_closed = true;
            }
            Op::Drain => {
                let mut refused = Vec::new();
                self.idle.drain(|item| refused.push(item.number));
                assert_eq!(refused, self.drain());
            }
        }
    }

    fn at(&self, thread: usize) -> usize {
        thread % self.shards.len()
    }

    fn push(&mut self, thread: usize) {
        if !self.bounded && self.len() == self.capacity {
            // A server has no more connections than its maximum.
            return;
        }
        let number = self.next;
        self.next += 1;
        let mut refused = Vec::new();
        let item = Box::new(Item { number, _alive: Rc::clone(&self.alive) });
        self.idle.push(item, thread, |item| refused.push(item.number));
        let mut expected = Vec::new();
        let order: Vec<_> = (thread..thread + self.shards.len()).map(|thread| self.at(thread)).collect();
        if !order.into_iter().any(|shard| self.shards[shard].push(number, self.bounded)) {
            assert!(self.bounded, "an unbounded set has room for its capacity");
            expected.push(number);
        }
        if self.is_closed {
            expected.extend(self.drain());
        }
        assert_eq!(refused, expected);
    }

    fn pop(&mut self, thread: usize) -> Option<u32> {
        (thread..thread + self.shards.len()).find_map(|thread| {
            let shard = self.at(thread);
            self.shards[shard].pop()
        })
    }

    fn drain(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.pop(0)).collect()
    }

    fn retain(&mut self, bit: u8) {
        let keeps = |number: u32| number >> (bit % 4) & 1 == 1;
        let (mut seen, mut refused) = (Vec::new(), Vec::new());
        let keep = |item: &mut Item| {
            seen.push(item.number);
            keeps(item.number)
        };
        self.idle.retain(keep, |item| refused.push(item.number));
        let (mut all, mut expected) = (Vec::new(), Vec::new());
        for shard in &mut self.shards {
            all.extend(shard.slot.iter().chain(&shard.queue));
            expected.extend(shard.slot.iter().chain(&shard.queue).filter(|&&number| !keeps(number)));
            shard.slot = shard.slot.filter(|&number| keeps(number));
            shard.queue.retain(|&number| keeps(number));
        }
        if self.is_closed {
            expected.extend(self.drain());
        }
        assert_eq!((seen, refused), (all, expected));
    }

    fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    fn check(&self) {
        let len = self.len();
        assert!(len <= self.capacity);
        assert_eq!((self.idle.len(), self.idle.is_empty(), self.idle.is_closed()), (len, len == 0, self.is_closed));
        assert_eq!(Rc::strong_count(&self.alive), 1 + len, "an item was lost or duplicated");
    }

    fn check_fits(&self) {
        for (capacity, bounded) in [(self.capacity, false), (self.capacity, true), (self.capacity + 1, self.bounded)] {
            let fits = capacity == self.capacity && (self.bounded || !bounded);
            assert_eq!(self.idle.fits(capacity, bounded), fits, "{capacity}, bounded: {bounded}");
        }
    }
}
