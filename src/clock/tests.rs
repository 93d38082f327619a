use std::pin::pin;
use std::task::Wake;

use super::*;

/// Counts its wakes.
#[derive(Default)]
struct Wakes(AtomicU64);

impl Wakes {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn registered(clock: &Clock) -> usize {
    match &clock.source {
        Source::Test(TestTime::Manual(manual)) => lock(&manual.sleepers).by_deadline.len(),
        _ => unreachable!("only a manual clock has sleepers"),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_manual_clock_stands_still_until_it_is_advanced() {
    let clock = Clock::manual();
    let clone = clock.clone();
    assert_eq!((clock.now(), clock.time()), (Duration::ZERO, Time::ZERO));
    clone.advance(Duration::from_nanos(7));
    assert_eq!(clock.time(), Time::from_nanos(7));
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert_eq!(clock.time(), LAST);
}

#[test]
fn advance_wakes_those_that_are_due_and_nobody_else() {
    let clock = Clock::manual();
    let (soon, same, later) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let (soon_waker, same_waker, later_waker) = (soon.clone().into(), same.clone().into(), later.clone().into());
    let mut sleeps = [
        (Box::pin(clock.sleep_until(SECOND)), Context::from_waker(&soon_waker)),
        (Box::pin(clock.sleep_until(SECOND)), Context::from_waker(&same_waker)),
        (Box::pin(clock.sleep_until(SECOND * 2)), Context::from_waker(&later_waker)),
    ];
    for (sleep, cx) in &mut sleeps {
        assert!(sleep.as_mut().poll(cx).is_pending());
    }
    clock.advance(SECOND - Duration::from_nanos(1));
    assert_eq!((soon.count(), same.count(), later.count()), (0, 0, 0));
    clock.advance(Duration::from_nanos(1));
    assert_eq!((soon.count(), same.count(), later.count()), (1, 1, 0));
    let [(first, first_cx), (second, second_cx), (third, third_cx)] = &mut sleeps;
    assert!(first.as_mut().poll(first_cx).is_ready());
    assert!(second.as_mut().poll(second_cx).is_ready());
    assert!(third.as_mut().poll(third_cx).is_pending());
    assert_eq!(registered(&clock), 1);
}

#[test]
fn a_manual_sleeper_wakes_its_latest_waker() {
    let clock = Clock::manual();
    let (old, new) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    let mut sleep = pin!(clock.sleep_until(SECOND));
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&old.clone().into())).is_pending());
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&new.clone().into())).is_pending());
    assert_eq!(registered(&clock), 1);
    assert_eq!(Arc::strong_count(&old), 1, "the old waker is dropped");
    clock.advance(SECOND);
    assert_eq!((old.count(), new.count()), (0, 1));
}

#[test]
fn a_dropped_manual_sleeper_leaves_nothing_behind() {
    let clock = Clock::manual();
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.clone().into();
    let mut gone = Box::pin(clock.sleep_until(SECOND));
    let mut stays = Box::pin(clock.sleep_until(SECOND));
    assert!(gone.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    assert!(stays.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(gone);
    assert_eq!(registered(&clock), 1);
    clock.advance(SECOND);
    assert_eq!(wakes.count(), 1);
}

#[test]
fn a_waker_may_use_the_clock() {
    struct Rearm(Clock);
    impl Wake for Rearm {
        fn wake(self: Arc<Self>) {
            self.0.advance(SECOND);
        }
    }
    let clock = Clock::manual();
    let mut sleep = pin!(clock.sleep_until(SECOND));
    let waker = Arc::new(Rearm(clock.clone())).into();
    assert!(sleep.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    clock.advance(SECOND);
    assert_eq!(clock.now(), SECOND * 2);
}

#[test]
fn a_sleeper_on_another_thread_is_not_missed() {
    let clock = Clock::manual();
    for round in 1..=200 {
        let sleeper = clock.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(sleeper.sleep_until(SECOND * round));
        });
        clock.advance(SECOND);
        thread.join().unwrap();
    }
    assert_eq!(registered(&clock), 0);
}

#[test]
fn never_never_comes() {
    for clock in [Clock::manual(), Clock::tokio(), Clock::system()] {
        let mut sleep = pin!(clock.sleep_until(Duration::MAX));
        // Outside a runtime: what never comes needs no timer either.
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let clock = Clock::manual();
    let mut sleep = pin!(clock.sleep_until_time(Time::NEVER));
    clock.advance(Duration::MAX);
    assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
#[should_panic(expected = "only a manual clock")]
fn the_system_clock_cannot_be_advanced() {
    Clock::system().advance(SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_tokio_clock_follows_paused_time() {
    let clock = Clock::tokio();
    for deadline in [1, 999_999, 1_500_001, 3_600_000_000_000, 3_600_000_300_000].map(Time::from_nanos) {
        clock.sleep_until_time(deadline).await;
        assert!(clock.time() >= deadline);
        assert!(clock.time() < deadline.after(Duration::from_millis(2)));
        tokio::time::advance(Duration::from_micros(301)).await;
    }
    let before = clock.time();
    clock.sleep_until_time(before).await;
    assert_eq!(clock.time(), before, "a deadline that has passed does not wait");
}

#[tokio::test]
async fn the_real_clocks_never_wake_early() {
    for clock in [Clock::system(), Clock::tokio()] {
        for step in [1, 100_000, 1_000_000, 2_345_678].map(Duration::from_nanos) {
            let deadline = clock.time().after(step);
            clock.sleep_until_time(deadline).await;
            assert!(clock.time() >= deadline);
        }
        assert!(format!("{clock:?}").contains("now"));
    }
}
