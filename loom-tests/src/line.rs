//! The line, and its handshake with the idle queue.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as StdAtomicUsize, Ordering as StdOrdering};
use std::task::{Wake, Waker};

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Idle, Line, Place};

/// Counts wakes. Loom runs one thread at a time and need not see these counters: they synchronize nobody.
#[derive(Default)]
struct Wakes(StdAtomicUsize);

impl Wake for Wakes {
    fn wake(self: StdArc<Self>) {
        self.0.fetch_add(1, StdOrdering::Relaxed);
    }
}

/// A server's idle connections and the line, used as the pool uses them.
struct Post {
    idle: Idle<u32>,
    line: Line<u32>,
}

impl Post {
    fn new() -> Arc<Self> {
        Arc::new(Self { idle: Idle::new(2, 1), line: Line::new() })
    }

    fn release(&self, item: u32) {
        self.release_near(item, 0);
    }

    fn release_near(&self, item: u32, near: usize) {
        self.idle.push(item, near, || false, |_| panic!("it is open and has room"));
        if self.line.waiting() > 0 {
            self.serve(near);
        }
    }

    fn serve(&self, near: usize) {
        self.line.serve(|| self.idle.pop(near));
    }

    /// Joins and looks again.
    fn join(&self) -> Caller {
        let place = self.line.join(4).expect("there is room");
        self.serve(0);
        let wakes = StdArc::new(Wakes::default());
        Caller { place, waker: Waker::from(StdArc::clone(&wakes)), wakes, item: None }
    }

    fn poll(&self, caller: &mut Caller) {
        if caller.item.is_none() {
            caller.item = self.line.poll(&mut caller.place, &caller.waker);
        }
    }

    /// Leaves; what it was served with goes to the next.
    fn leave(&self, mut caller: Caller) {
        let item = caller.item.or_else(|| self.line.leave(&mut caller.place));
        if let Some(item) = item {
            self.release(item);
        }
    }

    /// After all threads have ended: whether the caller was served. One that was served after its poll must have been
    /// woken.
    fn was_served(&self, caller: &mut Caller) -> bool {
        if caller.item.is_some() {
            return true;
        }
        self.poll(caller);
        let woken = caller.wakes.0.load(StdOrdering::Relaxed);
        assert_eq!(woken, usize::from(caller.item.is_some()), "one wake for one grant");
        caller.item.is_some()
    }
}

struct Caller {
    place: Place,
    waker: Waker,
    wakes: StdArc<Wakes>,
    item: Option<u32>,
}

fn joins(post: &Arc<Post>) -> thread::JoinHandle<Caller> {
    let post = Arc::clone(post);
    thread::spawn(move || {
        let mut caller = post.join();
        post.poll(&mut caller);
        caller
    })
}

/// Property: between a release and a caller that is about to wait no wake-up is lost: the item ends with a caller (I3,
/// I4).
/// Threads: two join, the main one releases one item.
/// Mutation that fails it: no fence in `join`, or none in `Idle::push`.
pub fn no_wake_up_is_lost() {
    check(Some(3), || {
        let post = Post::new();
        let callers = [joins(&post), joins(&post)];
        post.release(7);
        let mut callers = callers.map(|caller| caller.join().unwrap());
        let served = callers.iter_mut().map(|caller| usize::from(post.was_served(caller))).sum::<usize>();
        assert_eq!((served, post.idle.pop(0)), (1, None));
    });
}

/// Property: nor is one lost between stripes: a caller finds what moves from its own stripe to another, or is served
/// from there (I3, and I5 of the idle connections).
/// Threads: two join near one stripe, the main one takes the item from there and releases it near the other.
/// Mutation that fails it: no fence in `join`, or none in `Idle::push`, or `Idle::pop` looks only at what is nearest.
pub fn no_wake_up_is_lost_between_stripes() {
    check(Some(3), || {
        let post = Arc::new(Post { idle: Idle::new(4, 2), line: Line::new() });
        post.release_near(7, 0);
        let callers = [joins(&post), joins(&post)];
        if let Some(item) = post.idle.pop(0) {
            post.release_near(item, 1);
        }
        let mut callers = callers.map(|caller| caller.join().unwrap());
        let served = callers.iter_mut().map(|caller| usize::from(post.was_served(caller))).sum::<usize>();
        assert_eq!((served, post.idle.len()), (1, 0));
    });
}

/// Property: a caller that leaves at any point, served or not, passes on what it has (I3).
/// Threads: one joins and leaves, one joins and waits, the main one releases one item.
/// Mutation that fails it: `leave` drops what the caller was served with.
pub fn who_leaves_passes_on() {
    check(Some(3), || {
        let post = Post::new();
        let leaves = {
            let post = Arc::clone(&post);
            thread::spawn(move || {
                let caller = post.join();
                post.leave(caller);
            })
        };
        let waits = joins(&post);
        post.release(7);
        leaves.join().unwrap();
        let mut waits = waits.join().unwrap();
        assert!(post.was_served(&mut waits), "the item was not passed on");
        assert_eq!((post.line.waiting(), post.idle.pop(0)), (0, None));
    });
}

/// Property: a caller that is never polled again holds up nobody but the one item in its slot (I1).
/// Threads: the main one joins and is never polled; one joins after it, one releases, the main one releases too.
/// Mutation that fails it: a served caller stays in the queue (`put` does not unlink).
pub fn who_is_never_polled_again_blocks_nobody() {
    check(Some(3), || {
        let post = Post::new();
        let zombie = post.join();
        let waits = joins(&post);
        let releases = {
            let post = Arc::clone(&post);
            thread::spawn(move || post.release(1))
        };
        post.release(2);
        releases.join().unwrap();
        let mut waits = waits.join().unwrap();
        assert!(post.was_served(&mut waits), "it waits behind one that sleeps");
        assert_eq!(post.line.waiting(), 0);
        post.leave(zombie);
        assert!(post.idle.pop(0).is_some());
    });
}

/// Property: first come, first served (I1).
/// Threads: the main one has joined before another joins; two serve, one item each, numbered in the order of the
/// hand-outs.
/// Mutation that fails it: `serve` takes from the back.
pub fn first_come_first_served() {
    check(Some(3), || {
        let post = Post::new();
        let next = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let mut first = post.join();
        post.poll(&mut first);
        let second = joins(&post);
        let serve = |post: &Post, next: &loom::sync::atomic::AtomicUsize| {
            let mut one = Some(());
            post.line.serve(|| one.take().map(|()| next.fetch_add(1, loom::sync::atomic::Ordering::Relaxed) as u32));
        };
        let serves = {
            let (post, next) = (Arc::clone(&post), Arc::clone(&next));
            thread::spawn(move || serve(&post, &next))
        };
        serve(&post, &next);
        serves.join().unwrap();
        let mut second = second.join().unwrap();
        assert!(post.was_served(&mut first));
        assert_eq!(first.item, Some(0));
        if post.was_served(&mut second) {
            assert_eq!(second.item, Some(1));
        }
    });
}

/// Property: a caller whose item was no good goes back ahead of those that came after it, and is served before them
/// (I1). Threads: the main one is served and rejoins, while two others join after it.
/// Mutation that fails it: `rejoin` goes to the back.
pub fn who_rejoins_keeps_its_place() {
    check(Some(3), || {
        let post = Post::new();
        let mut first = post.join();
        let others = [joins(&post), joins(&post)];
        let mut item = Some(9);
        post.line.serve(|| item.take());
        post.poll(&mut first);
        assert_eq!(first.item.take(), Some(9), "who came first was not served first");
        post.line.rejoin(&mut first.place);
        let mut others = others.map(|other| other.join().unwrap());
        let mut next = 0..3;
        post.line.serve(|| next.next());
        post.poll(&mut first);
        assert_eq!(first.item, Some(0));
        assert!(others.iter_mut().all(|other| post.was_served(other)));
    });
}

/// Property: a release with nobody waiting wakes nobody, and nobody is woken without a grant (I4).
/// Threads: two join, poll and leave; the main one releases one item.
/// Mutation that fails it: `serve` wakes the front before it asks the supplier.
pub fn nobody_is_woken_for_nothing() {
    check(Some(3), || {
        let post = Post::new();
        let leaves: Vec<_> = (0..2)
            .map(|_| {
                let post = Arc::clone(&post);
                thread::spawn(move || {
                    let mut caller = post.join();
                    post.poll(&mut caller);
                    let polled = caller.item.is_none();
                    let wakes = StdArc::clone(&caller.wakes);
                    let item = caller.item.take().or_else(|| post.line.leave(&mut caller.place));
                    let served = item.is_some();
                    if let Some(item) = item {
                        post.release(item);
                    }
                    (wakes, polled && served)
                })
            })
            .collect();
        post.release(7);
        for leaves in leaves {
            let (wakes, served) = leaves.join().unwrap();
            assert_eq!(wakes.0.load(StdOrdering::Relaxed), usize::from(served));
        }
        assert_eq!(post.idle.pop(0), Some(7));
    });
}
