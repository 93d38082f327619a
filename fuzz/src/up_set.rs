//! The up set against a `BTreeSet`: the same numbers, the same next one from any position, the same order from any
//! start.

use std::cell::Cell;
use std::collections::BTreeSet;

use arbitrary::{Arbitrary, Unstructured};

use crate::raw::{ANYWHERE, UpSet};

const MAX_CAPACITY: u16 = 400;
const MAX_OPS: usize = 300;

#[derive(Debug, Arbitrary)]
struct Case {
    capacity: u16,
    ops: Vec<Op>,
}

#[derive(Debug, Arbitrary)]
enum Op {
    Insert(u16),
    Remove(u16),
    /// Numbers that are next to each other, over the ends of words.
    InsertRun(u16, u8),
    RemoveRun(u16, u8),
    /// The condition changes while it is read: these are the values, and the last one stays.
    Refresh(u16, Vec<bool>),
    NextFrom(u16),
    /// From a position that names no number.
    NextFromAnywhere(u32),
    IterFrom(u16),
}

struct Run {
    set: UpSet,
    model: BTreeSet<usize>,
}

pub fn run(data: &[u8]) {
    let Ok(case) = Case::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let capacity = usize::from(case.capacity % MAX_CAPACITY);
    let mut run = Run { set: UpSet::new(capacity), model: BTreeSet::new() };
    assert_eq!(run.set.capacity(), capacity.max(1).next_multiple_of(64));
    for op in case.ops.into_iter().take(MAX_OPS) {
        run.step(op);
        run.check();
    }
}

impl Run {
    fn number(&self, number: u16) -> usize {
        usize::from(number) % self.set.capacity()
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Insert(number) => self.refresh(number, &[true]),
            Op::Remove(number) => self.refresh(number, &[false]),
            Op::InsertRun(number, count) => self.follow_run(number, count, true),
            Op::RemoveRun(number, count) => self.follow_run(number, count, false),
            Op::Refresh(number, looks) => self.refresh(number, &looks),
            Op::NextFrom(at) => self.check_next(at.into()),
            Op::NextFromAnywhere(at) => self.check_next(ANYWHERE + at as usize),
            Op::IterFrom(at) => self.check_iter(at.into()),
        }
    }

    fn follow_run(&mut self, number: u16, count: u8, is_in: bool) {
        (0..count.into()).for_each(|step| self.refresh(number.wrapping_add(step), &[is_in]));
    }

    /// Two looks in a row that are the same end it, with the bit that they say.
    fn refresh(&mut self, number: u16, looks: &[bool]) {
        let number = self.number(number);
        let look = |index: usize| looks.get(index).or(looks.last()).copied().unwrap_or_default();
        let count = Cell::new(0);
        self.set.refresh(number, || look(count.replace(count.get() + 1)));
        let last = (1..).find(|&index| look(index) == look(index - 1)).expect("the last look stays");
        assert_eq!(count.get(), last + 1, "looks at {looks:?}");
        if look(last) {
            self.model.insert(number);
        } else {
            self.model.remove(&number);
        }
    }

    fn check_next(&self, at: usize) {
        let expected = match at.checked_sub(ANYWHERE) {
            Some(turn) => self.model.iter().nth(turn % self.model.len().max(1)),
            None => self.model.range(at..).next().or(self.model.first()),
        };
        assert_eq!(self.set.next_from(at), expected.copied(), "from {at}");
    }

    fn check_iter(&self, at: usize) {
        let start = if at < self.set.capacity() { at } else { 0 };
        let expected = self.model.range(start..).chain(self.model.range(..start)).copied();
        assert!(self.set.iter_from(at).eq(expected), "from {at}");
    }

    fn check(&self) {
        assert_eq!((self.set.len(), self.set.is_empty()), (self.model.len(), self.model.is_empty()));
        // From the start, and round the end of the set.
        let last = self.model.last().map_or(0, |last| last + 1);
        for at in [0, last] {
            self.check_next(at);
            self.check_iter(at);
        }
    }
}
