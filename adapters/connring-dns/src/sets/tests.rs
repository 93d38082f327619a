use std::future::pending;
use std::sync::{Arc, Mutex};

use super::*;
use crate::endpoints::Endpoint;
use crate::policy::Times;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> Policy {
    let times = Times {
        min_interval: 4 * SECOND,
        max_interval: 60 * SECOND,
        keep_absent: 30 * SECOND,
        keep_empty: Some(300 * SECOND),
    };
    Policy::new("db.test", times)
}

fn found(address: &str) -> Answer {
    let address = address.parse().expect("an address");
    let endpoint = Endpoint { address, host: "db.test".into(), priority: 0, weight: 1 };
    Answer { endpoints: vec![endpoint], ttl: 20 * SECOND, ..Answer::EMPTY }
}

fn failed() -> Answer {
    Answer { failure: Some("timeout".into()), ..Answer::EMPTY }
}

/// A stream that is given these answers and no more, and the times at which it asked.
fn asked(answers: impl IntoIterator<Item = Answer>) -> (ServerSets, Arc<Mutex<Vec<Duration>>>) {
    let mut answers: Vec<_> = answers.into_iter().collect();
    answers.reverse();
    let (clock, times) = (Clock::tokio(), Arc::new(Mutex::new(Vec::new())));
    let asked = Arc::clone(&times);
    let ask = move || {
        times.lock().expect("a lock").push(clock.now());
        let answer = answers.pop();
        async {
            match answer {
                Some(answer) => answer,
                None => pending().await,
            }
        }
    };
    (ServerSets::new("db.test", policy(), ask), asked)
}

async fn next(sets: &mut ServerSets) -> Vec<String> {
    sets.next_set().await.iter().map(|server| server.address().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn asks_again_after_the_interval_or_up_to_a_tenth_later() {
    let answers = std::iter::repeat_with(|| found("10.0.0.1:1")).take(50).chain([found("10.0.0.2:1")]);
    let (mut sets, asked) = asked(answers);
    assert_eq!(next(&mut sets).await, ["10.0.0.1:1"]);
    assert_eq!(next(&mut sets).await, ["10.0.0.1:1", "10.0.0.2:1"]);
    let asked = asked.lock().expect("a lock");
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(pauses.len(), 50);
    // The timer ticks in milliseconds.
    let bounds = 20 * SECOND..=22 * SECOND + Duration::from_millis(2);
    assert!(pauses.iter().all(|pause| bounds.contains(pause)), "{pauses:?}");
    let (shortest, longest) = (pauses.iter().min().expect("some"), pauses.iter().max().expect("some"));
    assert!(*longest - *shortest > SECOND, "they are spread: {pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failed_look_up_is_retried_quickly_until_it_works() {
    let (mut sets, asked) = asked([failed(), failed(), failed(), failed(), found("10.0.0.1:1")]);
    assert_eq!(next(&mut sets).await, ["10.0.0.1:1"]);
    let asked = asked.lock().expect("a lock");
    let pauses: Vec<_> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    let bounds = [1000..=1102, 2000..=2202, 4000..=4402, 4000..=4402];
    assert!(pauses.iter().zip(bounds).all(|(pause, bound)| bound.contains(pause)), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_nobody_takes_stops_the_look_ups() {
    let (mut sets, asked) = asked([found("10.0.0.1:1"), found("10.0.0.2:1"), found("10.0.0.3:1")]);
    next(&mut sets).await;
    tokio::time::sleep(1000 * SECOND).await;
    assert_eq!(asked.lock().expect("a lock").len(), 1);
    assert_eq!(next(&mut sets).await.len(), 2);
}
