//! An ordered map from numbers to values, for a queue in which most come at the back and leave at the front.
//!
//! The entries are in the order of their numbers. One that leaves in the middle leaves a gap behind, which goes when it
//! comes to the front, or with all others once there are more gaps than values. So all operations take constant
//! amortized time, except for a number that was inserted out of order: looking it up takes logarithmic time.

use crate::sync::VecDeque;

/// Fewer gaps than this are left alone.
const FEW: usize = 64;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Line<V> {
    /// The front one is no gap.
    entries: VecDeque<(u64, Option<V>)>,
    /// How many are no gaps.
    len: usize,
}

impl<V> Line<V> {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), len: 0 }
    }

    /// Where a number is, or would be inserted.
    fn place(&self, number: u64) -> Result<usize, usize> {
        let Some((front, _)) = self.entries.front().filter(|(front, _)| *front <= number) else { return Err(0) };
        // Without compaction each entry is as far from the front as its number.
        let guess = usize::try_from(number - front).unwrap_or(usize::MAX);
        if self.entries.get(guess).is_some_and(|(found, _)| *found == number) {
            return Ok(guess);
        }
        self.entries.binary_search_by_key(&number, |(number, _)| *number)
    }

    /// Inserts a value under a number that has none.
    pub(super) fn insert(&mut self, number: u64, value: V) {
        self.len += 1;
        if self.entries.back().is_none_or(|(back, _)| *back < number) {
            return self.entries.push_back((number, Some(value)));
        }
        match self.place(number) {
            Ok(at) => self.entries[at].1 = Some(value),
            Err(at) => self.entries.insert(at, (number, Some(value))),
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut V> {
        let at = self.place(number).ok()?;
        self.entries[at].1.as_mut()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<V> {
        let at = self.place(number).ok()?;
        let value = self.entries[at].1.take()?;
        self.len -= 1;
        self.drop_front_gaps();
        if self.entries.len() > 2 * self.len + FEW {
            self.entries.retain(|(_, value)| value.is_some());
        }
        Some(value)
    }

    fn drop_front_gaps(&mut self) {
        while self.entries.front().is_some_and(|(_, value)| value.is_none()) {
            self.entries.pop_front();
        }
    }

    /// The front value and its number.
    pub(super) fn front(&self) -> Option<(u64, &V)> {
        let (number, value) = self.entries.front()?;
        Some((*number, value.as_ref()?))
    }

    /// Removes the front value.
    pub(super) fn pop_front(&mut self) -> Option<(u64, V)> {
        let (number, value) = self.entries.pop_front()?;
        self.len -= 1;
        self.drop_front_gaps();
        Some((number, value?))
    }

    /// The values and their numbers, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &V)> {
        self.entries.iter().filter_map(|(number, value)| Some((*number, value.as_ref()?)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries.iter().filter_map(|(_, value)| value.as_ref())
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().filter_map(|(_, value)| value.as_mut())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Line;

    #[test]
    fn does_what_an_ordered_map_does() {
        let (mut line, mut map, mut next, mut left) = (Line::new(), BTreeMap::new(), 0, Vec::new());
        let mut random = 1_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (pick, at) = (random >> 60, (random >> 20) % (next + 1));
            match pick {
                0..=6 => {
                    line.insert(next, next);
                    map.insert(next, next);
                    next += 1;
                }
                7..=9 => {
                    let front = map.first_key_value().map(|(number, _)| *number);
                    assert_eq!(line.front().map(|(number, _)| number), front);
                    if let Some(front) = front {
                        let popped =
                            if pick == 7 { line.pop_front() } else { line.remove(front).map(|value| (front, value)) };
                        assert_eq!(popped, map.pop_first());
                        left.push(front);
                    }
                }
                10..=13 => {
                    let removed = map.remove(&at);
                    assert_eq!(line.remove(at), removed);
                    left.extend(removed);
                }
                14 => assert_eq!(line.get_mut(at), map.get_mut(&at)),
                _ => {
                    // It comes back with its old number.
                    if let Some(number) = left.pop() {
                        line.insert(number, number);
                        map.insert(number, number);
                    }
                }
            }
            assert_eq!(line.len, map.len());
            assert!(line.entries.len() <= 2 * line.len + 64 + 1, "gaps go");
        }
        assert!(line.iter().map(|(number, value)| (number, *value)).eq(map));
    }
}
