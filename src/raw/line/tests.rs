use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use super::{BATCH, Line};

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn numbers() -> impl FnMut() -> Option<u32> {
    let mut next = 0;
    move || {
        next += 1;
        Some(next - 1)
    }
}

#[test]
fn a_waker_is_kept_until_another_comes_and_none_for_who_is_served() {
    let line = Line::new();
    let [first, second] = [(); 2].map(|()| Arc::new(Wakes::default()));
    let [first_waker, second_waker] = [&first, &second].map(|wakes| Waker::from(Arc::clone(wakes)));
    // Ours and the waker here are two.
    let kept = || [&first, &second].map(|wakes| Arc::strong_count(wakes) - 2);
    let mut place = line.join(1).expect("there is room");
    for (waker, expected) in [(&first_waker, [1, 0]), (&first_waker, [1, 0]), (&second_waker, [0, 1])] {
        assert_eq!(line.poll(&mut place, waker), None);
        assert_eq!(kept(), expected);
    }
    assert_eq!(line.serve(numbers()), 1);
    assert_eq!([&first, &second].map(|wakes| wakes.0.load(Ordering::Relaxed)), [0, 1]);
    assert_eq!(kept(), [0, 0]);
    assert_eq!(line.poll(&mut place, &first_waker), Some(0));
}

#[test]
fn first_come_first_served_each_woken_once() {
    let line = Line::new();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut places: Vec<_> = (0..100).map(|_| line.join(100).expect("there is room")).collect();
    assert_eq!(line.join(100).err(), Some(100));
    assert!(places[0].found_nobody() && !places[1].found_nobody());
    for place in &mut places {
        assert_eq!(line.poll(place, &waker), None);
    }
    assert_eq!(line.serve(numbers()), 100);
    assert_eq!(wakes.0.load(Ordering::Relaxed), 100);
    for (place, number) in places.iter_mut().zip(0..) {
        assert_eq!(line.poll(place, &waker), Some(number));
        assert_eq!(line.leave(place), None);
    }
    assert_eq!(line.waiting(), 0);
}

#[test]
fn who_leaves_passes_on_what_it_has() {
    let line = Line::new();
    let [mut first, mut second, mut third] = [(); 3].map(|()| line.join(3).expect("there is room"));
    assert_eq!(line.leave(&mut second), None);
    let mut supply = numbers();
    assert_eq!(line.serve(&mut supply), 2);
    assert_eq!(line.leave(&mut first), Some(0));
    assert_eq!(line.leave(&mut third), Some(1));
    assert_eq!(line.serve(supply), 0);
}

#[test]
fn who_rejoins_keeps_its_place() {
    let line = Line::new();
    let [mut first, mut second, mut third] = [(); 3].map(|()| line.join(3).expect("there is room"));
    let mut supply = numbers();
    let mut two = 0;
    line.serve(|| {
        two += 1;
        if two <= 2 { supply() } else { None }
    });
    assert_eq!(line.poll(&mut second, Waker::noop()), Some(1));
    assert_eq!(line.poll(&mut first, Waker::noop()), Some(0));
    line.rejoin(&mut second);
    line.rejoin(&mut first);
    line.serve(supply);
    assert_eq!(line.poll(&mut first, Waker::noop()), Some(2));
    assert_eq!(line.poll(&mut second, Waker::noop()), Some(3));
    assert_eq!(line.poll(&mut third, Waker::noop()), Some(4));
}

#[test]
fn a_supplier_that_has_no_more_is_asked_once() {
    let line = Line::new();
    let mut places: Vec<_> = (0..3 * BATCH).map(|_| line.join(usize::MAX).expect("there is room")).collect();
    for has in [0, 1, BATCH - 1, BATCH] {
        let mut asked = 0;
        let served = line.serve(|| {
            asked += 1;
            assert!(asked <= has + 1, "asked again");
            (asked <= has).then_some(())
        });
        assert_eq!((served, asked), (has, has + 1));
    }
    assert_eq!(places.iter_mut().filter_map(|place| line.leave(place)).count(), 2 * BATCH);
}

#[test]
fn all_are_woken_and_still_wait() {
    let line = Line::<()>::new();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut places: Vec<_> = (0..3).map(|_| line.join(3).expect("there is room")).collect();
    for place in &mut places {
        assert_eq!(line.poll(place, &waker), None);
    }
    line.wake_all();
    assert_eq!((wakes.0.load(Ordering::Relaxed), line.waiting()), (3, 3));
    for place in &mut places {
        assert_eq!(line.leave(place), None);
    }
}
