//! Models of the wait queue, and of its handshakes with idle connections, ending attempts and released permits.
mod wishes;

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as StdAtomicUsize, Ordering as StdOrdering};
use std::task::{Wake, Waker};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

pub use self::wishes::no_wake_up_is_lost_behind_a_waiter_with_a_wish;
use crate::raw::{Idle, Permits, Signals, Ticket, WaitQueue};
use crate::{check, check_large};

/// Counts wake-ups. Loom runs one thread at a time, so the counters need no loom types; they do not synchronize.
#[derive(Default)]
struct Wakes(StdAtomicUsize);

impl Wake for Wakes {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }
}

/// The idle connections of one server and the wait queue, combined as in the pool.
pub(crate) struct Server {
    pub(crate) idle: Idle<u32>,
    pub(crate) signals: Arc<Signals>,
    queue: WaitQueue<Box<u32>>,
}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        Self::sharded(1)
    }

    /// Returns a server with room for two items in each shard.
    fn sharded(shards: usize) -> Arc<Self> {
        let signals = Arc::new(Signals::new());
        let queue = WaitQueue::new(Arc::clone(&signals));
        Arc::new(Self { idle: Idle::new(2 * shards, shards, false), signals, queue })
    }

    pub(crate) fn release(&self, item: u32) {
        self.release_near(Box::new(item), 0);
    }

    fn release_near(&self, item: Box<u32>, shard: usize) {
        self.idle.push(item, shard, |_| panic!("the set is open and has room"));
        if self.signals.waiters() > 0 {
            self.serve(shard);
        }
    }

    pub(crate) fn serve(&self, shard: usize) -> usize {
        self.queue.serve(|wish| if wish.is_none() { self.idle.pop(shard) } else { None })
    }

    /// Joins the queue and then checks the idle connections again. Polls only if that served a waiter, perhaps this
    /// one: otherwise it will be woken.
    pub(crate) fn join(&self) -> Waiter {
        let mut waiter = self.waiter(true, None);
        if self.serve(0) > 0 {
            self.poll(&mut waiter);
            // It may have woken itself.
            waiter.wakes.0.fetch_sub(waiter.wakes().min(waiter.item.iter().len()), StdOrdering::Relaxed);
        }
        waiter
    }

    /// A waiter that has joined with its waker.
    fn waiter(&self, is_patient: bool, wish: Option<Arc<()>>) -> Waiter {
        let wakes = StdArc::new(Wakes::default());
        let waker = Waker::from(StdArc::clone(&wakes));
        let ticket = self.queue.join(4, is_patient, wish, Some(waker.clone())).expect("the queue has room");
        Waiter { ticket, waker, wakes, item: None }
    }

    pub(crate) fn poll(&self, waiter: &mut Waiter) {
        if waiter.item.is_none() {
            waiter.item = self.queue.poll(&mut waiter.ticket, &waiter.waker);
        }
    }

    /// Leaves the queue. If the waiter was served with an item, releases it to the next waiter.
    fn leave(&self, mut waiter: Waiter) {
        let item = waiter.item.or_else(|| self.queue.leave(&mut waiter.ticket));
        if let Some(item) = item {
            self.release_near(item, 0);
        }
    }

    /// Returns whether the waiter was served, after all other threads have ended. Asserts that a waiter served after
    /// its poll was woken.
    pub(crate) fn was_served(&self, waiter: &mut Waiter) -> bool {
        if waiter.item.is_some() {
            return true;
        }
        self.poll(waiter);
        assert_eq!(waiter.wakes(), usize::from(waiter.item.is_some()), "one wake-up for one item");
        waiter.item.is_some()
    }
}

pub(crate) struct Waiter {
    ticket: Ticket,
    waker: Waker,
    wakes: StdArc<Wakes>,
    item: Option<Box<u32>>,
}

impl Waiter {
    fn wakes(&self) -> usize {
        self.wakes.0.load(StdOrdering::Relaxed)
    }
}

fn joins(server: &Arc<Server>) -> thread::JoinHandle<Waiter> {
    let server = Arc::clone(server);
    thread::spawn(move || server.join())
}

/// Property: a release and a caller that is about to wait lose no wake-up: a waiter receives the item (I3, I4).
/// Threads: two join; the main thread releases one item, into the slot.
/// Mutation that fails it: no fence in `join`; the CAS of `Slot::put` is only Release.
pub fn no_wake_up_is_lost() {
    check(3, || {
        let server = Server::new();
        let waiters = [joins(&server), joins(&server)];
        server.release(7);
        let mut waiters = waiters.map(|waiter| waiter.join().unwrap());
        let served = waiters.iter_mut().map(|waiter| usize::from(server.was_served(waiter))).sum::<usize>();
        assert_eq!((served, server.idle.len()), (1, 0));
    });
}

/// Property: the same if the slot is full, so that the item goes into the queue behind it (I3).
/// Threads: two join; one item is idle, and the main thread releases another.
/// Mutation that fails it: no fence in `join`, or none after a push into the queue.
pub fn no_wake_up_is_lost_behind_a_full_slot() {
    check(3, || {
        let server = Server::new();
        server.release(1);
        let waiters = [joins(&server), joins(&server)];
        server.release(2);
        let mut waiters = waiters.map(|waiter| waiter.join().unwrap());
        assert!(waiters.iter_mut().all(|waiter| server.was_served(waiter)));
        assert_eq!(server.idle.len(), 0);
    });
}

/// Property: no wake-up is lost between shards: a waiter finds an item that moves from its own shard to another one,
/// or is served with it (I3, and I5 of `idle.rs`).
/// Threads: two join near one shard; the main thread pops the item there and releases it near the other.
/// Mutation that fails it: no fence in `join`; the CAS of `Slot::put` is only Release; `Idle::pop` searches only the
/// own shard.
pub fn no_wake_up_is_lost_between_shards() {
    check(3, || {
        let server = Server::sharded(2);
        server.release(7);
        let waiters = [joins(&server), joins(&server)];
        if let Some(item) = server.idle.pop(0) {
            server.release_near(item, 1);
        }
        let mut waiters = waiters.map(|waiter| waiter.join().unwrap());
        let served = waiters.iter_mut().map(|waiter| usize::from(server.was_served(waiter))).sum::<usize>();
        assert_eq!((served, server.idle.len()), (1, 0));
    });
}

/// Property: a waiter that leaves at any point passes on the item that it was served with (I3).
/// Threads: one joins and leaves, one joins and waits, the main thread releases one item.
/// Mutation that fails it: `leave` drops the item that the waiter was served with.
pub fn a_waiter_that_leaves_passes_its_item_on() {
    check(3, || {
        let server = Server::new();
        let leaver = {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                let waiter = server.join();
                server.leave(waiter);
            })
        };
        let waiter = joins(&server);
        server.release(7);
        leaver.join().unwrap();
        let mut waiter = waiter.join().unwrap();
        assert!(server.was_served(&mut waiter), "the leaving waiter did not pass the item on");
        assert_eq!((server.signals.waiters(), server.idle.len()), (0, 0));
    });
}

/// Property: a waiter that is never polled again withholds only the one item that it was served with (I1).
/// Threads: the main thread joins and is never polled; one joins after it, one releases, and the main thread releases
/// too.
/// Mutation that fails it: a served waiter stays in the queue.
pub fn a_waiter_that_is_never_polled_blocks_no_other() {
    check_large(3, || {
        let server = Server::new();
        let stalled = server.join();
        let waiter = joins(&server);
        let releases = {
            let server = Arc::clone(&server);
            thread::spawn(move || server.release(1))
        };
        server.release(2);
        releases.join().unwrap();
        let mut waiter = waiter.join().unwrap();
        assert!(server.was_served(&mut waiter), "a waiter is blocked by an unpolled one");
        assert_eq!(server.signals.waiters(), 0);
        server.leave(stalled);
        assert_eq!(server.idle.len(), 1);
    });
}

/// Property: waiters are served in the order of joining (I1).
/// Threads: the main thread joins before another one does; two serve one item each, numbered in the order of the
/// serves.
/// Mutation that fails it: `serve` takes from the back.
pub fn waiters_are_served_in_order() {
    check(3, || {
        let server = Server::new();
        let next = Arc::new(AtomicUsize::new(0));
        let mut first = server.join();
        let second = joins(&server);
        let serve = |server: &Server, next: &AtomicUsize| {
            let mut one = Some(());
            let mut number = || one.take().map(|()| Box::new(next.fetch_add(1, Ordering::Relaxed) as u32));
            server.queue.serve(|_| number());
        };
        let serves = {
            let (server, next) = (Arc::clone(&server), Arc::clone(&next));
            thread::spawn(move || serve(&server, &next))
        };
        serve(&server, &next);
        serves.join().unwrap();
        let mut second = second.join().unwrap();
        assert!(server.was_served(&mut first));
        assert_eq!(first.item.as_deref(), Some(&0));
        if server.was_served(&mut second) {
            assert_eq!(second.item.as_deref(), Some(&1));
        }
    });
}

/// Property: a waiter that rejoins, because its item was not usable, is served before the waiters that joined after it
/// (I1).
/// Threads: the main thread is served and rejoins, while two others join after it.
/// Mutation that fails it: `rejoin` goes to the back.
pub fn a_waiter_that_rejoins_keeps_its_place() {
    check(3, || {
        let server = Server::new();
        let mut first = server.join();
        let others = [joins(&server), joins(&server)];
        let mut item = Some(Box::new(9));
        server.queue.serve(|_| item.take());
        server.poll(&mut first);
        assert_eq!(first.item.take().as_deref(), Some(&9), "the first waiter was not served first");
        server.queue.rejoin(&mut first.ticket);
        let mut others = others.map(|other| other.join().unwrap());
        let mut next = (0..3).map(Box::new);
        server.queue.serve(|_| next.next());
        server.poll(&mut first);
        assert_eq!(first.item.as_deref(), Some(&0));
        assert!(others.iter_mut().all(|other| server.was_served(other)));
    });
}

/// Property: a waiter that rejoins finds a concurrently released item, or is served with it (I3).
/// Threads: the main thread is served, rejoins and checks the idle connections again; another one releases.
/// Mutation that fails it: no fence in `rejoin`.
pub fn a_waiter_that_rejoins_misses_no_item() {
    check(3, || {
        let server = Server::new();
        server.release(9);
        let mut waiter = server.join();
        assert!(waiter.item.take().is_some(), "the item was idle");
        let releases = {
            let server = Arc::clone(&server);
            thread::spawn(move || server.release(7))
        };
        server.queue.rejoin(&mut waiter.ticket);
        server.serve(0);
        server.poll(&mut waiter);
        releases.join().unwrap();
        assert!(server.was_served(&mut waiter), "an item is idle although a caller waits");
    });
}

/// Property: no waiter is woken without an item (I4).
/// Threads: two join and leave; the main thread releases one item.
/// Mutation that fails it: `serve` wakes the front waiter before it calls the supplier.
pub fn no_waiter_is_woken_without_an_item() {
    check(3, || {
        let server = Server::new();
        let leavers = [(); 2].map(|()| {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                let mut waiter = server.join();
                let polled = waiter.item.is_none();
                let wakes = StdArc::clone(&waiter.wakes);
                let item = waiter.item.take().or_else(|| server.queue.leave(&mut waiter.ticket));
                let served = item.is_some();
                if let Some(item) = item {
                    server.release_near(item, 0);
                }
                (wakes, polled && served)
            })
        });
        server.release(7);
        for leaver in leavers {
            let (wakes, served) = leaver.join().unwrap();
            assert_eq!(wakes.0.load(StdOrdering::Relaxed), usize::from(served));
        }
        assert_eq!(server.idle.pop(0).as_deref(), Some(&7));
    });
}

/// Property: an impatient waiter sees that no attempt runs, or is woken when the last one ends; a patient waiter is not
/// woken (I4).
/// Threads: an impatient and a patient caller join and check for attempts; the main thread ends the attempt.
/// Mutation that fails it: no fence in `join`, or none in `waiters_after_change`; `wake_impatient` wakes the patient
/// waiters.
pub fn an_impatient_waiter_sees_the_last_attempt_end() {
    check(3, || {
        let server = Server::new();
        let attempts = Arc::new(AtomicUsize::new(1));
        let [impatient, patient] = [false, true].map(|is_patient| {
            let (server, attempts) = (Arc::clone(&server), Arc::clone(&attempts));
            thread::spawn(move || {
                let waiter = server.waiter(is_patient, None);
                (waiter, attempts.load(Ordering::Relaxed))
            })
        });
        attempts.fetch_sub(1, Ordering::Relaxed);
        if server.signals.waiters_after_change() > 0 {
            server.queue.wake_impatient();
        }
        let (mut waiter, attempts) = impatient.join().unwrap();
        assert!(attempts == 0 || waiter.wakes() == 1, "the waiter waits for an attempt that has ended");
        let (mut other, _) = patient.join().unwrap();
        assert_eq!(other.wakes(), 0);
        for waiter in [&mut waiter, &mut other] {
            assert!(server.queue.leave(&mut waiter.ticket).is_none());
        }
    });
}

/// Property: a caller that joins sees a released permit, or the thread that releases it sees the waiter (I2).
/// Threads: two join and check for a permit; the main thread releases the permit.
/// Mutation that fails it: no fence in `join`, or none in `waiters_after_change`.
pub fn a_freed_permit_is_seen_by_a_new_waiter_or_told() {
    check(3, || {
        let server = Server::new();
        let permits = Arc::new(Permits::new(1));
        assert!(permits.begin(1));
        permits.connected();
        let joiners = [(); 2].map(|()| {
            let (server, permits) = (Arc::clone(&server), Arc::clone(&permits));
            thread::spawn(move || {
                let ticket = server.queue.join(4, true, None, None).expect("the queue has room");
                (ticket, permits.begin(1))
            })
        });
        permits.release();
        let is_told = server.signals.waiters_after_change() > 0;
        let joined = joiners.map(|joiner| joiner.join().unwrap());
        let connecting = joined.map(|(mut ticket, begun)| {
            assert!(server.queue.leave(&mut ticket).is_none());
            usize::from(begun)
        });
        assert!(is_told || connecting != [0, 0], "both callers wait although a permit is free");
        assert_eq!(permits.counts().open() as usize, connecting.iter().sum::<usize>());
    });
}

/// Property: `waiters` equals the number of joined waiters, however they leave the queue (I2).
/// Threads: two join, one of them leaves, the main thread serves one item.
/// Mutation that fails it: `leave` does not decrement the count; `serve` does not decrement it.
pub fn the_number_of_waiters_is_that_of_the_queue() {
    check(3, || {
        let server = Server::new();
        let waiter = joins(&server);
        let leaver = {
            let server = Arc::clone(&server);
            thread::spawn(move || {
                let mut waiter = server.join();
                server.queue.leave(&mut waiter.ticket)
            })
        };
        let mut item = Some(Box::new(7));
        let served = server.queue.serve(|_| item.take());
        let left_with = leaver.join().unwrap();
        let mut waiter = waiter.join().unwrap();
        let waits = !server.was_served(&mut waiter);
        assert_eq!(served, usize::from(left_with.is_some()) + usize::from(!waits));
        assert_eq!(server.signals.waiters(), usize::from(waits));
    });
}
