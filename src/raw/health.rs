//! Whether callers may use a server.
//!
//! # Protocol
//!
//! One word, `{ outage: 45, unused: 10, tier: 4, removed: 1, disabled: 1, ejected: 1, state: 2 }`:
//!
//! ```text
//! Up, Recovering --connect fault of the server--> Down, with the next outage number
//!                --ejected--> Down and ejected until a time, with the next outage number
//! Down --its trial succeeded--> Recovering
//!      --its connections answer while it refuses others--> Up
//! Down and ejected --no server serves--> Down
//! Recovering --first good return, or one interval without a failure--> Up
//! ```
//!
//! `disabled`, `removed` and `tier` are kept by all transitions: the state goes on beneath them. A server serves while
//! it is Up or Recovering and neither bit is set. A changed tier is a transition too: a server that serves stops in the
//! old tier and begins in the new one.
//!
//! The outage number is the time at which the server went down, in steps of 10 µs, and later than the one before. A
//! reset or a move to another address takes the next number too, and leaves the state: what is known by the connections
//! from before counts no more.
//!
//! Beside the word: the end of the last ejection. It is written before the CAS that ejects, while the server is not
//! ejected, so reading it takes no lock. Under a lock: how many ejections came in a row, and the time served since, to
//! which the time while the server is disabled or removed does not add. A transition holds the lock from its look to
//! its last count. Two are a CAS alone, since they neither begin nor end serving: that of Recovering into Up, and the
//! end of an ejection. `come_up` may miss the end of an ejection at the same time: the server then stays down.
//!
//! # Invariants
//!
//! - I1: failures of one outage take the server down at most once; those of an older one not at all.
//! - I2: each change that ends or begins serving is one CAS, and [`Serving`] is lowered before it and raised after it:
//!   it never counts more servers than serve. The lock orders those of one server, so that it counts none twice.
//! - I3: a server that is seen ejected has the end of that ejection, or of a later one.
//!
//! Arithmetic: 2⁴⁵ steps of 10 µs are 11.1 years, and an outage takes at least one step. So no number is used twice in
//! 10 years.
//!
//! # Orderings
//!
//! - The CAS of a transition that holds the lock is Release: a thread that sees a server down, and fences, sees it
//!   counted out (I2).
//! - `snapshot_after_push` is SeqCst (see there).
//! - `ejected_until` loads the word with Acquire, which pairs with the CAS that set the bit: the end was stored before
//!   it (I3). All later changes of the word are read-modify-writes, which keep the pairing.
//! - The CAS of `begin_recovery` also publishes the end of the recovery, which the server stores before it; the
//!   background task fences (Acquire) after it has seen the server recover.
//! - All else is Relaxed: the word publishes nothing but these three. The up set, the due time and the error follow the
//!   change and have orderings of their own.

mod ejections;

use self::ejections::Ejections;
use super::serving::{Serving, TIERS};
use super::time::{STEPS_BITS, STEPS_MAX, Time};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

const STATE: u64 = 3;
const EJECTED: u64 = 1 << 2;
const DISABLED: u64 = 1 << 3;
const REMOVED: u64 = 1 << 4;
const TIER_SHIFT: u32 = 5;
const TIER: u64 = (TIERS as u64 - 1) << TIER_SHIFT;
const OUTAGE_SHIFT: u32 = 64 - STEPS_BITS;
const _: () = assert!(TIERS.is_power_of_two() && TIER < 1 << OUTAGE_SHIFT && REMOVED < 1 << TIER_SHIFT);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthState {
    Up,
    Recovering,
    Down,
}

/// The outage number: names an outage, and rises each time the server goes down. See the module's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outage(u64);

impl Outage {
    /// That of no outage.
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(super) fn number(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(super) fn from_number(number: u64) -> Self {
        Self(number)
    }
}

/// The word at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct HealthSnapshot(u64);

impl core::fmt::Debug for HealthSnapshot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let is = |bit| self.0 & bit != 0;
        write!(f, "{:?}(outage {}", self.state(), self.outage().0)?;
        if self.tier() > 0 {
            write!(f, ", tier {}", self.tier())?;
        }
        for (bit, name) in [(EJECTED, "ejected"), (DISABLED, "disabled"), (REMOVED, "removed")] {
            if is(bit) {
                write!(f, ", {name}")?;
            }
        }
        f.write_str(")")
    }
}

impl HealthSnapshot {
    /// Equal to the word of no server.
    pub(crate) const NONE: Self = Self(u64::MAX);

    pub(crate) fn state(self) -> HealthState {
        match self.0 & STATE {
            0 => HealthState::Up,
            1 => HealthState::Recovering,
            _ => HealthState::Down,
        }
    }

    #[inline(always)]
    pub(crate) fn outage(self) -> Outage {
        Outage(self.0 >> OUTAGE_SHIFT)
    }

    /// Whether callers may use the server.
    pub(crate) fn serves(self) -> bool {
        !self.is_down() && self.0 & (DISABLED | REMOVED) == 0
    }

    /// Whether it is up, and neither disabled nor removed: a good return changes nothing.
    #[inline(always)]
    pub(crate) fn is_plainly_up(self) -> bool {
        self.0 & (STATE | DISABLED | REMOVED) == 0
    }

    pub(crate) fn is_down(self) -> bool {
        self.state() == HealthState::Down
    }

    pub(crate) fn is_removed(self) -> bool {
        self.0 & REMOVED != 0
    }

    pub(crate) fn is_disabled(self) -> bool {
        self.0 & DISABLED != 0
    }

    pub(crate) fn tier(self) -> usize {
        ((self.0 & TIER) >> TIER_SHIFT) as usize
    }

    /// Whether it is down because callers reported failures. Its ejection may be over.
    pub(crate) fn is_ejected(self) -> bool {
        self.0 & EJECTED != 0
    }

    fn with_state(self, state: HealthState) -> Self {
        let state = match state {
            HealthState::Up => 0,
            HealthState::Recovering => 1,
            HealthState::Down => 2,
        };
        Self(self.0 & !(STATE | EJECTED) | state)
    }

    /// With the next outage number, which is `now` where the clock allows it.
    fn renumbered(self, now: Time) -> Self {
        let kept = self.0 & ((1 << OUTAGE_SHIFT) - 1);
        let outage = now.steps().max((self.outage().0 + 1).min(STEPS_MAX));
        Self(outage << OUTAGE_SHIFT | kept)
    }

    fn down(self, now: Time) -> Self {
        self.renumbered(now).with_state(HealthState::Down)
    }
}

/// What [`Health::eject`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ejected {
    /// Nothing: the server is down or removed, or went down since.
    Ignored,
    /// Nothing: too few servers would be left.
    Refused,
    /// The server is down.
    Down(HealthSnapshot),
}

/// See the module's page. Each release reads the word, which comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Health {
    word: AtomicU64,
    /// The end of the last ejection, in nanoseconds.
    ejected_until: AtomicU64,
    ejections: Mutex<Ejections>,
}

impl Health {
    /// That of a server which is up, but not registered yet: [`Health::set_removed`] counts it in.
    pub(crate) fn new(tier: usize) -> Self {
        Self {
            word: AtomicU64::new(REMOVED | (tier as u64) << TIER_SHIFT & TIER),
            ejected_until: AtomicU64::new(0),
            ejections: Mutex::new(Ejections::new()),
        }
    }

    #[inline(always)]
    pub(crate) fn snapshot(&self) -> HealthSnapshot {
        // Relaxed: see the module's page.
        HealthSnapshot(self.word.load(Ordering::Relaxed))
    }

    /// The word, after a push into the server's idle queue: a server that went down before the push is seen, or the
    /// thread that took it down sees the push.
    #[inline(always)]
    pub(crate) fn snapshot_after_push(&self) -> HealthSnapshot {
        // SeqCst: after the SeqCst push by the single order; pairs with the fence of `ServerSet::refresh`, which comes
        // after the change of this word.
        HealthSnapshot(self.word.load(Ordering::SeqCst))
    }

    /// Changes the word, with the lock held. Returns the words before and after.
    fn set(&self, next: impl Fn(HealthSnapshot) -> HealthSnapshot) -> (HealthSnapshot, HealthSnapshot) {
        let mut found = self.snapshot();
        loop {
            let left = next(found);
            // Release: see the module's page. Relaxed on failure: the next try decides.
            match self.word.compare_exchange_weak(found.0, left.0, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return (found, left),
                Err(word) => found = HealthSnapshot(word),
            }
        }
    }

    /// A transition that may begin or end serving, or move the server to another tier, with the lock held (I2). Returns
    /// the word after it.
    fn change(
        &self,
        ejections: &mut Ejections,
        serving: &Serving,
        now: Time,
        next: impl Fn(HealthSnapshot) -> HealthSnapshot,
    ) -> HealthSnapshot {
        let found = self.snapshot();
        if found.serves() {
            serving.lower(found.tier());
        }
        let (found, left) = self.set(next);
        if left.serves() {
            serving.raise(left.tier());
        }
        ejections.note(found, left, now);
        left
    }

    /// The end of its ejection, if it is ejected (I3).
    pub(crate) fn ejected_until(&self) -> Option<Time> {
        // Acquire: pairs with the CAS of `eject`, which comes after the store of the end.
        let is_ejected = HealthSnapshot(self.word.load(Ordering::Acquire)).is_ejected();
        // Relaxed: ordered by the load above.
        is_ejected.then(|| Time::from_nanos(self.ejected_until.load(Ordering::Relaxed)))
    }

    /// A connect failed by the server's fault, of an attempt or connection of `outage`. Returns the word if that took
    /// the server down (I1).
    pub(crate) fn connect_failed(&self, serving: &Serving, outage: Outage, now: Time) -> Option<HealthSnapshot> {
        let mut ejections = lock(&self.ejections);
        let found = self.snapshot();
        let counts = !found.is_down() && found.outage() == outage;
        counts.then(|| self.change(&mut ejections, serving, now, |found| found.down(now)))
    }

    /// Callers reported failures of connections of `outage`: takes the server down, if another one serves then, and if
    /// a worse tier serves or no more than `max_ejected_ratio` of its tier do not serve. So it does while the server is
    /// disabled, since it would be down when it is enabled. `until` is given the number of ejections in a row, and
    /// returns the end of this one. Does nothing while the server is removed: it is counted in no tier.
    pub(crate) fn eject(
        &self,
        serving: &Serving,
        outage: Outage,
        max_ejected_ratio: f64,
        now: Time,
        until: impl Fn(u32) -> Time,
    ) -> Ejected {
        let mut ejections = lock(&self.ejections);
        let found = self.snapshot();
        if found.is_down() || found.is_removed() || found.outage() != outage {
            return Ejected::Ignored;
        }
        if !serving.lower_within(found.tier(), found.serves(), max_ejected_ratio) {
            return Ejected::Refused;
        }
        let in_a_row = ejections.next(now);
        // Relaxed: the Release of the CAS below publishes it. The server is not ejected yet (I3).
        self.ejected_until.store(until(in_a_row).as_nanos(), Ordering::Relaxed);
        let (found, left) = self.set(|found| HealthSnapshot(found.down(now).0 | EJECTED));
        ejections.note(found, left, now);
        ejections.begin(in_a_row);
        Ejected::Down(left)
    }

    /// The trial of an outage succeeded: Recovering. Returns the word if the server was down in this outage.
    pub(crate) fn begin_recovery(&self, serving: &Serving, outage: Outage, now: Time) -> Option<HealthSnapshot> {
        self.come_back(&mut lock(&self.ejections), serving, outage, HealthState::Recovering, now)
    }

    /// The server, down in `outage`, refuses a connect, but others of its connections answer: Up, unless its ejection
    /// lasts.
    pub(crate) fn come_up(&self, serving: &Serving, outage: Outage, now: Time) -> bool {
        // Under the lock no ejection begins.
        let mut ejections = lock(&self.ejections);
        let is_ejected = self.ejected_until().is_some_and(|until| now < until);
        !is_ejected && self.come_back(&mut ejections, serving, outage, HealthState::Up, now).is_some()
    }

    /// Out of Down in `outage`.
    fn come_back(
        &self,
        ejections: &mut Ejections,
        serving: &Serving,
        outage: Outage,
        to: HealthState,
        now: Time,
    ) -> Option<HealthSnapshot> {
        let found = self.snapshot();
        let ends = found.is_down() && found.outage() == outage;
        ends.then(|| self.change(ejections, serving, now, |found| found.with_state(to)))
    }

    /// A good return, or an interval without a failure, while Recovering from `outage`: Up. True if that was so.
    pub(crate) fn end_recovery(&self, outage: Outage) -> bool {
        self.set_if(|found| {
            let is_over = found.state() == HealthState::Recovering && found.outage() == outage;
            is_over.then(|| found.with_state(HealthState::Up))
        })
    }

    /// Ends an ejection before its time: the server stays down until its trial succeeds. True if it was ejected.
    pub(crate) fn end_ejection(&self) -> bool {
        self.set_if(|found| found.is_ejected().then_some(HealthSnapshot(found.0 & !EJECTED)))
    }

    /// Connections begin anew: takes the next outage number.
    pub(crate) fn begin_anew(&self, now: Time) {
        let _orders = lock(&self.ejections);
        self.set(|found| found.renumbered(now));
    }

    /// A transition that neither begins nor ends serving.
    fn set_if(&self, next: impl Fn(HealthSnapshot) -> Option<HealthSnapshot>) -> bool {
        let next = |word| next(HealthSnapshot(word)).map(|left| left.0);
        // Relaxed: it publishes nothing, and a read-modify-write keeps what earlier ones released.
        self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// The server is removed, or registered again. True if that changed.
    pub(crate) fn set_removed(&self, serving: &Serving, is_removed: bool, now: Time) -> bool {
        self.set_bit(serving, REMOVED, is_removed, now)
    }

    /// The server is disabled, or enabled again. True if that changed.
    pub(crate) fn set_disabled(&self, serving: &Serving, is_disabled: bool, now: Time) -> bool {
        self.set_bit(serving, DISABLED, is_disabled, now)
    }

    fn set_bit(&self, serving: &Serving, bit: u64, is_set: bool, now: Time) -> bool {
        self.set_bits(serving, bit, if is_set { bit } else { 0 }, now)
    }

    /// Changes the tier. True if it was another.
    pub(crate) fn set_tier(&self, serving: &Serving, tier: usize, now: Time) -> bool {
        self.set_bits(serving, TIER, (tier as u64) << TIER_SHIFT & TIER, now)
    }

    fn set_bits(&self, serving: &Serving, mask: u64, bits: u64, now: Time) -> bool {
        let mut ejections = lock(&self.ejections);
        let changes = self.snapshot().0 & mask != bits;
        if changes {
            self.change(&mut ejections, serving, now, |found| HealthSnapshot(found.0 & !mask | bits));
        }
        changes
    }
}

#[cfg(test)]
mod tests;
