//! Models of the word that pauses connecting to a server.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::{Breaker, BreakerState, Time};

/// A time that the word can distinguish from zero.
fn later() -> Time {
    Time::from_nanos(1_000_000)
}

fn paused() -> Arc<Breaker> {
    let breaker = Breaker::new();
    breaker.failed(breaker.pass(), |_| later()).expect("the first failure pauses");
    Arc::new(breaker)
}

/// Property: of the callers that find a trial due, exactly one begins it (I1).
/// Threads: three begin an attempt after the pause; the trial runs on.
/// Mutation that fails it: a trial begins whatever the state.
pub fn one_caller_begins_the_trial() {
    check(3, || {
        let breaker = paused();
        let others = [(); 2].map(|()| {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || breaker.begin(later()))
        });
        let mut passes: Vec<_> = breaker.begin(later()).into_iter().collect();
        passes.extend(others.into_iter().filter_map(|other| other.join().unwrap()));
        assert_eq!(passes.len(), 1);
        assert!(passes[0].is_trial() && breaker.snapshot().state() == BreakerState::Trying);
        breaker.succeeded(passes[0]);
        assert_eq!((breaker.snapshot().state(), breaker.snapshot().failures()), (BreakerState::Closed, 1));
    });
}

/// Property: a caller that finds the trial due while another makes it, and it connects, runs an ordinary attempt and no
/// second trial (I1).
/// Threads: three begin an attempt after the pause, which connects.
/// Mutation that fails it: `begin` makes the trial of a word that is Closed by then.
pub fn a_pause_is_ended_by_one_trial() {
    check(3, || {
        let breaker = paused();
        let connect = |breaker: &Breaker| {
            let pass = breaker.begin(later())?;
            breaker.succeeded(pass);
            Some(pass.is_trial())
        };
        let others = [(); 2].map(|()| {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || connect(&breaker))
        });
        let mut ends = vec![connect(&breaker)];
        ends.extend(others.map(|other| other.join().unwrap()));
        assert_eq!(ends.into_iter().filter(|&is_trial| is_trial == Some(true)).count(), 1);
        assert_eq!(breaker.snapshot().state(), BreakerState::Closed);
    });
}

/// Property: attempts of one round that fail together count once (I3).
/// Threads: three fail.
/// Mutation that fails it: the transition stores instead of a CAS.
pub fn failures_of_one_round_count_once() {
    check(3, || {
        let breaker = Arc::new(Breaker::new());
        let fail = |breaker: &Breaker, pass| usize::from(breaker.failed(pass, |_| later()).is_some());
        let passes = [(); 3].map(|()| breaker.begin(Time::ZERO).expect("it is closed"));
        let others = [passes[1], passes[2]].map(|pass| {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || fail(&breaker, pass))
        });
        let here = fail(&breaker, passes[0]);
        assert_eq!(here + others.map(|other| other.join().unwrap()).iter().sum::<usize>(), 1);
        let breaker = breaker.snapshot();
        assert_eq!((breaker.failures(), breaker.paused_until()), (1, Some(later())));
    });
}

/// Property: a late failure of an older round counts nothing, before, while and after a trial connects, even if the
/// trial began in the same step of the clock as that round (I3).
/// Threads: one makes the trial ahead of the end of the pause, another fails late and a third one too, after it began
/// an attempt of its own.
/// Mutation that fails it: `failed` does not compare rounds; a trial does not begin a round of its own.
pub fn a_late_failure_of_an_older_round_counts_nothing() {
    check(3, || {
        let breaker = Arc::new(Breaker::new());
        let [first, late, last] = [(); 3].map(|()| breaker.begin(Time::ZERO).expect("it is closed"));
        breaker.failed(first, |_| later()).expect("the first failure pauses");
        let trial = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || {
                let trial = breaker.begin_trial(Time::ZERO, true).expect("nobody else tries");
                breaker.succeeded(trial);
            })
        };
        let fails = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || breaker.failed(late, |_| later()).is_some())
        };
        let begun = breaker.begin(Time::ZERO);
        assert!(breaker.failed(last, |_| later()).is_none());
        trial.join().unwrap();
        assert!(!fails.join().unwrap());
        let now = breaker.snapshot();
        assert_eq!((now.state(), now.failures()), (BreakerState::Closed, 1));
        // The round of an attempt that began after the trial is the current one.
        assert!(begun.is_none_or(|pass| breaker.failed(pass, |_| later()).is_some()));
    });
}

/// Property: while a trial runs its owner alone decides (I2).
/// Threads: the owner fails; an attempt of an older round connects, a connection answers, and the attempt fails; the
/// main thread begins a trial.
/// Mutation that fails it: an attempt that is no trial, or an answer, closes the word, or its failure counts during a
/// trial.
pub fn the_owner_of_a_trial_decides() {
    check(3, || {
        let breaker = Arc::new(Breaker::new());
        let [first, late] = [(); 2].map(|()| breaker.begin(Time::ZERO).expect("it is closed"));
        breaker.failed(first, |_| later()).expect("the first failure pauses");
        let trial = breaker.begin_trial(later(), false).expect("it is due");
        let owner = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || breaker.failed(trial, |_| Time::NEVER).expect("the owner decides"))
        };
        let other = {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || {
                breaker.succeeded(late);
                breaker.clear_failures();
                assert!(breaker.failed(late, |_| later()).is_none());
            })
        };
        assert!(breaker.begin(later()).is_none(), "a trial or a pause");
        let paused = owner.join().unwrap();
        other.join().unwrap();
        assert_eq!((paused.state(), paused.failures()), (BreakerState::Paused, 2));
        assert_eq!(breaker.snapshot(), paused);
    });
}

/// Property: an abandoned trial pauses again, counts no failure and allows the next one (I4).
/// Threads: two begin a trial and abandon it, a third begins one and fails.
/// Mutation that fails it: `abandoned` does nothing, or counts a failure.
pub fn an_abandoned_trial_allows_the_next() {
    check(3, || {
        let breaker = paused();
        let abandons = [(); 2].map(|()| {
            let breaker = Arc::clone(&breaker);
            thread::spawn(move || {
                let trial = breaker.begin_trial(later(), true)?;
                breaker.abandoned(trial, later())
            })
        });
        let trial = breaker.begin_trial(later(), true);
        let failed = trial.map(|trial| breaker.failed(trial, |_| later()).expect("it is the trial"));
        let abandoned = abandons.map(|abandon| abandon.join().unwrap());
        assert!(failed.is_some() || abandoned.iter().any(Option::is_some), "one of them tries");
        let now = breaker.snapshot();
        assert_eq!((now.state(), now.failures()), (BreakerState::Paused, 1 + u32::from(failed.is_some())));
        assert!(breaker.begin_trial(later(), true).is_some());
    });
}
