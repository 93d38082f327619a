use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::super::signals::Signals;
use super::{BATCH, WaitQueue};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn queue<T>() -> WaitQueue<T> {
    WaitQueue::new(crate::sync::Arc::new(Signals::new()))
}

fn numbers() -> impl FnMut(Option<&Arc<()>>) -> Option<u32> {
    let mut next = 0;
    move |_| {
        next += 1;
        Some(next - 1)
    }
}

#[test]
fn keeps_the_newest_waker_and_none_of_a_served_waiter() {
    let queue = queue();
    let [first, second] = [(); 2].map(|()| Arc::new(Wakes::default()));
    let [first_waker, second_waker] = [&first, &second].map(|wakes| Waker::from(Arc::clone(wakes)));
    // Ours and the waker here are two.
    let kept = || [&first, &second].map(|wakes| Arc::strong_count(wakes) - 2);
    let mut ticket = queue.join(1, true, None, None).expect("there is room");
    for (waker, expected) in [(&first_waker, [1, 0]), (&first_waker, [1, 0]), (&second_waker, [0, 1])] {
        assert_eq!(queue.poll(&mut ticket, waker), None);
        assert_eq!(kept(), expected);
    }
    assert_eq!(queue.serve(numbers()), 1);
    assert_eq!([&first, &second].map(|wakes| wakes.0.load(Ordering::Relaxed)), [0, 1]);
    assert_eq!(kept(), [0, 0]);
    assert_eq!(queue.poll(&mut ticket, &first_waker), Some(0));
}

#[test]
fn serves_in_order_and_wakes_each_waiter_once() {
    let queue = queue();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut tickets: Vec<_> = (0..100).map(|_| queue.join(100, true, None, None).expect("there is room")).collect();
    assert_eq!(queue.join(100, true, None, None).err(), Some(100));
    for ticket in &mut tickets {
        assert_eq!(queue.poll(ticket, &waker), None);
    }
    assert_eq!(queue.serve(numbers()), 100);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 100);
    for (ticket, number) in tickets.iter_mut().zip(0..) {
        assert_eq!(queue.poll(ticket, &waker), Some(number));
        assert_eq!(queue.leave(ticket), None);
    }
    assert_eq!(queue.signals.waiters(), 0);
}

#[test]
fn leaving_returns_the_item_that_was_served() {
    let queue = queue();
    let [mut first, mut second, mut third] = [(); 3].map(|()| queue.join(3, true, None, None).expect("there is room"));
    assert_eq!(queue.leave(&mut second), None);
    let mut supply = numbers();
    assert_eq!(queue.serve(&mut supply), 2);
    assert_eq!(queue.leave(&mut first), Some(0));
    assert_eq!(queue.leave(&mut third), Some(1));
    assert_eq!(queue.serve(supply), 0);
}

#[test]
fn rejoining_keeps_the_place() {
    let queue = queue();
    let [mut first, mut second, mut third] = [(); 3].map(|()| queue.join(3, true, None, None).expect("there is room"));
    let mut supply = numbers();
    let mut two = 0;
    queue.serve(|_| {
        two += 1;
        if two <= 2 { supply(None) } else { None }
    });
    assert_eq!(queue.poll(&mut second, Waker::noop()), Some(1));
    assert_eq!(queue.poll(&mut first, Waker::noop()), Some(0));
    queue.rejoin(&mut second);
    queue.rejoin(&mut first);
    queue.serve(supply);
    assert_eq!(queue.poll(&mut first, Waker::noop()), Some(2));
    assert_eq!(queue.poll(&mut second, Waker::noop()), Some(3));
    assert_eq!(queue.poll(&mut third, Waker::noop()), Some(4));
}

#[test]
fn asks_an_empty_supplier_once() {
    let queue = queue();
    let mut tickets: Vec<_> =
        (0..3 * BATCH).map(|_| queue.join(usize::MAX, true, None, None).expect("there is room")).collect();
    for has in [0, 1, BATCH - 1, BATCH] {
        let mut asked = 0;
        let served = queue.serve(|_| {
            asked += 1;
            assert!(asked <= has + 1, "asked again");
            (asked <= has).then_some(())
        });
        assert_eq!((served, asked), (has, has + 1));
    }
    assert_eq!(tickets.iter_mut().filter_map(|ticket| queue.leave(ticket)).count(), 2 * BATCH);
}

#[test]
fn wake_all_serves_nothing() {
    let queue = queue::<()>();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut tickets: Vec<_> = (0..3).map(|_| queue.join(3, true, None, None).expect("there is room")).collect();
    for ticket in &mut tickets {
        assert_eq!(queue.poll(ticket, &waker), None);
    }
    queue.wake_all();
    assert_eq!((wakes.0.load(Ordering::Relaxed), queue.signals.waiters()), (3, 3));
    for ticket in &mut tickets {
        assert_eq!(queue.leave(ticket), None);
    }
}

#[test]
fn wake_impatient_leaves_patient_waiters_asleep() {
    let queue = queue::<()>();
    let [patient, impatient] = [true, false].map(|is_patient| {
        let wakes = Arc::new(Wakes::default());
        let mut ticket = queue.join(2, is_patient, None, None).expect("there is room");
        assert_eq!(queue.poll(&mut ticket, &Waker::from(Arc::clone(&wakes))), None);
        (wakes, ticket)
    });
    queue.wake_impatient();
    assert_eq!([&patient, &impatient].map(|(wakes, _)| wakes.0.load(Ordering::Relaxed)), [0, 1]);
    for (_, mut ticket) in [patient, impatient] {
        assert_eq!(queue.leave(&mut ticket), None);
    }
}

/// Panics on its first wake.
struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("as scripted");
    }
}

#[test]
fn a_waker_that_panics_does_not_keep_the_others_asleep() {
    for serve in [true, false] {
        let queue = queue();
        let wakes = Arc::new(Wakes::default());
        let wakers = [Waker::from(Arc::new(Panics)), Waker::from(Arc::clone(&wakes)), Waker::from(Arc::clone(&wakes))];
        let mut tickets = wakers.each_ref().map(|_| queue.join(3, true, None, None).expect("there is room"));
        for (ticket, waker) in tickets.iter_mut().zip(&wakers) {
            assert_eq!(queue.poll(ticket, waker), None);
        }
        let wake = || if serve { assert_eq!(queue.serve(numbers()), 3) } else { queue.wake_all() };
        assert!(catch_unwind(AssertUnwindSafe(wake)).is_err(), "the panic goes on to the thread that serves");
        assert_eq!(wakes.0.load(Ordering::Relaxed), 2);
    }
}
