//! The wait queue as the callers see it, and a caller's wait in it.
//!
//! **When a caller has joined.** An `acquire` that is pending after its first poll has joined in that poll. (Tokio's
//! cooperative budget, for which it may yield earlier, is switched off here.) On one thread the polls are sequential,
//! so the order of the first polls is the order of joining.
//!
//! **When a caller is served.** A caller is served when its waker is called, immediately after the connection was put
//! into its slot. A wake for another reason (a timeout, the removal of the last server) does not count: a caller
//! overtook another if it got a connection, and the other had joined before but was not woken before it, nor since.

use std::collections::BTreeSet;
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
/// What a waiter accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepts {
    Every,
    /// Each new one.
    New,
    /// Those of some servers only.
    Some,
}

#[derive(Debug)]
struct Waiting {
    caller: u64,
    /// The number of callers that had joined, this one included.
    place: u64,
    is_woken: bool,
    accepts: Accepts,
    wakes: u64,
    /// The first place ahead that was not woken when this caller was, and that place's count of wakes.
    overtakes: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct WaitQueue {
    /// In the order of joining.
    waiting: Vec<Waiting>,
    places: u64,
    /// The callers that were woken and have not been polled since, those of `acquire_now` included.
    woken: BTreeSet<u64>,
}

impl Waiting {
    /// It does not accept every connection, so others may be served before it.
    fn is_choosy(&self) -> bool {
        self.accepts != Accepts::Every
    }
}

impl WaitQueue {
    /// The first waiter that is not served and accepts every connection.
    pub(crate) fn first_unserved(&self) -> Option<u64> {
        self.waiting.iter().find(|waiting| !waiting.is_woken && !waiting.is_choosy()).map(|waiting| waiting.caller)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn unserved(&self) -> usize {
        self.waiting.iter().filter(|waiting| !waiting.is_woken).count()
    }

    /// The waiters that are not served and do not accept every connection.
    pub(crate) fn choosy(&self) -> usize {
        self.waiting.iter().filter(|waiting| !waiting.is_woken && waiting.is_choosy()).count()
    }

    /// Those that do not accept every connection, with those that were woken for another reason than a connection.
    pub(crate) fn all_choosy(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.is_choosy()).count()
    }

    /// Whether a waiter that is not served accepts each new connection and no other.
    pub(crate) fn wants_new(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_woken && waiting.accepts == Accepts::New)
    }

    /// Whether a caller was woken and has not been polled since.
    pub(crate) fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Whether a caller waits and is not served.
    pub(crate) fn is_unserved(&self, caller: u64) -> bool {
        self.waiting.iter().any(|waiting| waiting.caller == caller && !waiting.is_woken)
    }

    fn find(&mut self, caller: u64) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|waiting| waiting.caller == caller)
    }

    fn join(&mut self, caller: u64, is_woken: bool, accepts: Accepts) {
        self.places += 1;
        self.waiting.push(Waiting { caller, place: self.places, is_woken, accepts, wakes: 0, overtakes: None });
    }

    fn woken(&mut self, caller: u64) {
        self.woken.insert(caller);
        let Some(index) = self.waiting.iter().position(|waiting| waiting.caller == caller) else { return };
        let (ahead, from_here) = self.waiting.split_at_mut(index);
        let this = &mut from_here[0];
        this.wakes += 1;
        if !this.is_woken {
            this.is_woken = true;
            this.overtakes = ahead
                .iter()
                .find(|ahead| !ahead.is_woken && !ahead.is_choosy())
                .map(|ahead| (ahead.place, ahead.wakes));
        }
    }

    /// Removes a caller, served or not. Returns the caller that it overtook, if it got a connection.
    fn leaves(&mut self, caller: u64) -> Option<u64> {
        self.woken.remove(&caller);
        let index = self.waiting.iter().position(|waiting| waiting.caller == caller)?;
        let (place, wakes) = self.waiting.remove(index).overtakes?;
        let mut ahead = self.waiting.iter().filter(|other| other.place == place);
        ahead.find(|other| !other.is_woken && other.wakes == wakes).map(|other| other.caller)
    }
}

/// The waker that the pool receives.
#[derive(Debug)]
struct CallWaker {
    world: Arc<World>,
    caller: u64,
    state: Mutex<WakerState>,
}

#[derive(Debug, Default)]
struct WakerState {
    /// The time of the first wake since the last poll.
    woken_at: Option<u64>,
    outer: Option<Waker>,
}

impl Wake for CallWaker {
    fn wake(self: Arc<Self>) {
        let now = self.world.now();
        {
            let mut state = self.world.state();
            state.wait_queue.woken(self.caller);
            state.tokens_touched = now;
            state.trace.push((now, Event::Wakes { caller: self.caller }));
        }
        let outer = {
            let mut state = self.state.lock().expect("the lock is not poisoned");
            state.woken_at.get_or_insert(now);
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
    /// When it is woken, before its next poll.
    OnWake,
}

/// The course of a call.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Course {
    /// Its first poll was pending.
    pub(crate) waited: bool,
    /// Any poll came later than its wake.
    pub(crate) was_late: bool,
    /// The last poll came later than the wake.
    pub(crate) is_late: bool,
    /// The caller that it overtook, if it got a connection.
    pub(crate) overtook: Option<u64>,
}

/// A call that the simulation polls late or spuriously, or drops at any moment.
pub(crate) struct SimulatedCall<F> {
    call: Option<Pin<Box<Unconstrained<F>>>>,
    call_waker: Arc<CallWaker>,
    world: Arc<World>,
    caller: u64,
    rng: Rng,
    joins: Option<Accepts>,
    may_stall: bool,
    give_up: GiveUp,
    give_up_at: Option<Pin<Box<Sleep>>>,
    stall: Option<Pin<Box<Sleep>>>,
    course: Course,
}

impl<F: Future> SimulatedCall<F> {
    /// `joins`: the call joins the wait queue if it waits, and what it accepts.
    pub(crate) fn new(
        world: &Arc<World>,
        caller: u64,
        rng: Rng,
        joins: Option<Accepts>,
        give_up: GiveUp,
        call: F,
    ) -> Self {
        let call_waker = CallWaker { world: Arc::clone(world), caller, state: Mutex::default() };
        let after = |ms| Box::pin(sleep(Duration::from_millis(ms)));
        Self {
            call: Some(Box::pin(unconstrained(call))),
            call_waker: Arc::new(call_waker),
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
            state.wait_queue.leaves(self.caller);
            (state.call_ended, state.passed_on) = (Some(now), Some(now));
            state.tokens_touched = now;
            state.trace.push((now, Event::GivesUp { caller: self.caller, on_wake }));
        }
        // Without the world's lock: the drop passes a connection on.
        self.call = None;
    }
}

impl<F: Future> Future for SimulatedCall<F> {
    /// `None` if the caller gave up.
    type Output = (Option<F::Output>, Course);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.give_up_at.as_mut().is_some_and(|at| at.as_mut().poll(cx).is_ready()) {
            this.leave(false);
            return Poll::Ready((None, this.course));
        }
        let is_first = !this.course.waited;
        let woken_at = {
            let mut call_waker = this.call_waker.state.lock().expect("the lock is not poisoned");
            call_waker.outer = Some(cx.waker().clone());
            call_waker.woken_at
        };
        if let Some(stall) = &mut this.stall {
            if stall.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            this.stall = None;
        } else if woken_at.is_some() {
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
            // No wake: half of these polls are skipped, the others are spurious.
            return Poll::Pending;
        }
        let now = this.world.now();
        let woken_at = this.call_waker.state.lock().expect("the lock is not poisoned").woken_at.take();
        this.course.is_late = woken_at.is_some_and(|at| at < now);
        this.course.was_late |= this.course.is_late;
        let ahead = if is_first { this.world.state().wait_queue.first_unserved() } else { None };
        let waker = Waker::from(Arc::clone(&this.call_waker));
        let Some(call) = &mut this.call else { return Poll::Pending };
        let polled = call.as_mut().poll(&mut Context::from_waker(&waker));
        let mut state = this.world.state();
        if let Poll::Ready(output) = polled {
            let overtaken = state.wait_queue.leaves(this.caller);
            state.call_ended = Some(now);
            this.course.overtook = overtaken.or(ahead.filter(|&ahead| state.wait_queue.is_unserved(ahead)));
            drop(state);
            this.call = None;
            return Poll::Ready((Some(output), this.course));
        }
        let was_woken = this.call_waker.state.lock().expect("the lock is not poisoned").woken_at.is_some();
        if !was_woken {
            state.wait_queue.woken.remove(&this.caller);
        }
        if let Some(accepts) = this.joins.filter(|_| is_first) {
            state.wait_queue.join(this.caller, was_woken, accepts);
            state.trace.push((now, Event::Joins { caller: this.caller }));
        } else if let Some(waiting) = state.wait_queue.find(this.caller) {
            waiting.is_woken = was_woken;
            waiting.overtakes = None;
        }
        this.course.waited = true;
        Poll::Pending
    }
}
