//! The line as the callers see it, and a caller's wait in it.
//!
//! **When a caller has joined.** An `acquire` that is not over after its first poll has joined in that poll. (Tokio's
//! cooperative budget, for which it may yield before, is switched off here.) On one thread the polls come one by one,
//! so the order of the first polls is the order of joining.
//!
//! **When a caller is served.** When its waker is called: at once after the connection was put into its slot. What is
//! woken for another reason (its time is up, the last server was removed) is over or stays, and is not held against
//! anybody: a caller overtook another if it got a connection and the other one, which joined before, was not woken by
//! the time at which it was woken itself, nor since.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::task::{Unconstrained, unconstrained};
use tokio::time::{Sleep, sleep};

use crate::features::Feature;
use crate::rng::Rng;
use crate::world::{Event, World};

/// A caller that waits.
#[derive(Debug)]
struct Waiting {
    caller: u64,
    /// Counts those who ever joined.
    place: u64,
    is_woken: bool,
    wakes: u64,
    /// The place that was ahead and not woken when this one was, and how often that one had been woken.
    overtakes: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Line {
    /// In the order of joining.
    waiting: Vec<Waiting>,
    places: u64,
}

impl Line {
    /// The first that waits and is not served.
    pub(crate) fn first_unserved(&self) -> Option<u64> {
        self.waiting.iter().find(|waiting| !waiting.is_woken).map(|waiting| waiting.caller)
    }

    pub(crate) fn unserved(&self) -> usize {
        self.waiting.iter().filter(|waiting| !waiting.is_woken).count()
    }

    /// Whether somebody was woken and has not looked yet.
    pub(crate) fn has_woken(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.is_woken)
    }

    /// Whether a caller waits and is not served.
    pub(crate) fn is_unserved(&self, caller: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.caller == caller && !waiting.is_woken)
    }

    fn find(&mut self, caller: u64) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|waiting| waiting.caller == caller)
    }

    fn join(&mut self, caller: u64, is_woken: bool) {
        self.places += 1;
        self.waiting.push(Waiting { caller, place: self.places, is_woken, wakes: 0, overtakes: None });
    }

    fn woken(&mut self, caller: u64) {
        let Some(index) = self.waiting.iter().position(|waiting| waiting.caller == caller) else { return };
        let (ahead, from_here) = self.waiting.split_at_mut(index);
        let this = &mut from_here[0];
        this.wakes += 1;
        if !this.is_woken {
            this.is_woken = true;
            this.overtakes = ahead.iter().find(|ahead| !ahead.is_woken).map(|ahead| (ahead.place, ahead.wakes));
        }
    }

    /// It goes, with a connection or without. Says whom it overtook, if it got one.
    fn leaves(&mut self, caller: u64) -> Option<u64> {
        let index = self.waiting.iter().position(|waiting| waiting.caller == caller)?;
        let (place, wakes) = self.waiting.remove(index).overtakes?;
        let mut ahead = self.waiting.iter().filter(|other| other.place == place);
        ahead.find(|other| !other.is_woken && other.wakes == wakes).map(|other| other.caller)
    }
}

/// The waker that the pool gets.
#[derive(Debug)]
struct Bell {
    world: Arc<World>,
    caller: u64,
    state: Mutex<BellState>,
}

#[derive(Debug, Default)]
struct BellState {
    /// When it was rung first since the last poll.
    rung_at: Option<u64>,
    outer: Option<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let now = self.world.now();
        {
            let mut state = self.world.state();
            state.line.woken(self.caller);
            state.tokens_touched = now;
            state.trace.push((now, Event::Wakes { caller: self.caller }));
        }
        let outer = {
            let mut state = self.state.lock().expect("nobody panics here");
            state.rung_at.get_or_insert(now);
            state.outer.clone()
        };
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

/// When a caller gives up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GiveUp {
    Never,
    After(u64),
    /// At the moment at which it is woken, before it looks.
    OnWake,
}

/// How a call went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Course {
    /// It waited: it was not over with its first poll.
    pub(crate) waited: bool,
    /// It was polled later than it was woken, now or before.
    pub(crate) was_late: bool,
    /// The last poll came later than the wake.
    pub(crate) is_late: bool,
    /// If it got a connection, then before this one who had joined before.
    pub(crate) overtook: Option<u64>,
}

/// A call under the simulation's eyes: it may be polled late, in vain, or be dropped at any moment.
pub(crate) struct Watched<F> {
    call: Option<Pin<Box<Unconstrained<F>>>>,
    bell: Arc<Bell>,
    world: Arc<World>,
    caller: u64,
    rng: Rng,
    joins: bool,
    may_stall: bool,
    give_up: GiveUp,
    give_up_at: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
    course: Course,
}

impl<F: Future> Watched<F> {
    /// `joins`: the call is one that joins the line.
    pub(crate) fn new(world: &Arc<World>, caller: u64, rng: Rng, joins: bool, give_up: GiveUp, call: F) -> Self {
        let bell = Bell { world: Arc::clone(world), caller, state: Mutex::default() };
        let after = |ms| Box::pin(sleep(Duration::from_millis(ms)));
        Self {
            call: Some(Box::pin(unconstrained(call))),
            bell: Arc::new(bell),
            world: Arc::clone(world),
            caller,
            rng,
            joins,
            may_stall: world.plan.has(Feature::LatePolls),
            give_up,
            give_up_at: if let GiveUp::After(ms) = give_up { Some(after(ms)) } else { None },
            stall: None,
            course: Course::default(),
        }
    }

    fn leave(&mut self, on_wake: bool) {
        let now = self.world.now();
        {
            let mut state = self.world.state();
            state.line.leaves(self.caller);
            state.tokens_touched = now;
            state.trace.push((now, Event::GivesUp { caller: self.caller, on_wake }));
        }
        // Without the world's lock: it passes on what it has.
        self.call = None;
    }
}

impl<F: Future> Future for Watched<F> {
    /// `None`: it gave up.
    type Output = (Option<F::Output>, Course);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.give_up_at.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            this.leave(false);
            return Poll::Ready((None, this.course));
        }
        let is_first = !this.course.waited;
        let rung_at = {
            let mut bell = this.bell.state.lock().expect("nobody panics here");
            bell.outer = Some(cx.waker().clone());
            bell.rung_at
        };
        if let Some(stall) = &mut this.stall {
            if stall.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.stall = None;
        } else if rung_at.is_some() {
            if matches!(this.give_up, GiveUp::OnWake) {
                this.leave(true);
                return Poll::Ready((None, this.course));
            }
            if this.may_stall && this.rng.chance(20) {
                let ms = this.rng.pick(&[1, 2, 10, 150]);
                this.world.record(Event::Stalls { caller: this.caller, ms });
                let stall = this.stall.insert(Box::pin(sleep(Duration::from_millis(ms))));
                if stall.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        } else if !is_first && this.rng.chance(50) {
            // Nobody woke it. Else it is polled in vain.
            return Poll::Pending;
        }
        let now = this.world.now();
        let rung_at = this.bell.state.lock().expect("nobody panics here").rung_at.take();
        this.course.is_late = rung_at.is_some_and(|at| at < now);
        this.course.was_late |= this.course.is_late;
        let ahead = if is_first { this.world.state().line.first_unserved() } else { None };
        let waker = Waker::from(Arc::clone(&this.bell));
        let Some(call) = &mut this.call else { return Poll::Pending };
        let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = this.world.state();
        if let Poll::Ready(output) = polled {
            let overtaken = state.line.leaves(this.caller);
            this.course.overtook = overtaken.or(ahead.filter(|&ahead| state.line.is_unserved(ahead)));
            drop(state);
            this.call = None;
            return Poll::Ready((Some(output), this.course));
        }
        let was_rung = this.bell.state.lock().expect("nobody panics here").rung_at.is_some();
        if is_first && this.joins {
            state.line.join(this.caller, was_rung);
            state.trace.push((now, Event::Joins { caller: this.caller }));
        } else if let Some(waiting) = state.line.find(this.caller) {
            waiting.is_woken = was_rung;
            waiting.overtakes = None;
        }
        this.course.waited = true;
        Poll::Pending
    }
}
