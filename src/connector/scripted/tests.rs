use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn connector() -> (ScriptedConnector, Clock) {
    let clock = Clock::manual();
    (ScriptedConnector::new(clock.clone()), clock)
}

fn idle(idle: Duration) -> ConnInfo {
    ConnInfo::with(Server::new("any"), idle, idle, 1)
}

fn poll_once<T>(connect: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
    std::pin::Pin::new(connect).poll(&mut Context::from_waker(Waker::noop()))
}

/// The end of an attempt that ends at once.
fn connect(connector: &ScriptedConnector, address: &str) -> Result<ScriptedConn, ScriptedError> {
    match poll_once(&mut pin!(connector.connect(&Server::new(address)))) {
        Poll::Ready(end) => end,
        Poll::Pending => panic!("the attempt at {address} takes time"),
    }
}

#[test]
fn steps_come_in_order_and_then_what_holds() {
    let (connector, _) = connector();
    assert!(connect(&connector, "a").is_ok());
    connector.set_default(Connect::Refuse);
    connector.on_connect("a", Connect::Ok);
    connector.next_connects("a", [Connect::LocalFault]);
    connector.next_connects("a", [Connect::Refuse]);
    let (local, refused) = (connect(&connector, "a").unwrap_err(), connect(&connector, "a").unwrap_err());
    assert_eq!(local, ScriptedError::LocalFault { address: "a".into() });
    assert_eq!(refused, ScriptedError::Refused { address: "a".into() });
    assert_eq!(connector.classify(&local), ConnectFault::Client);
    assert_eq!(connector.classify(&refused), ConnectFault::Server);
    assert!(connect(&connector, "a").is_ok());
    assert!(connect(&connector, "b").is_err());
}

#[test]
fn slow_attempts_take_their_time_on_the_clock() {
    let (connector, clock) = connector();
    connector.next_connects("a", [Connect::Slow(SECOND), Connect::SlowRefuse(SECOND * 2), Connect::Never]);
    let server = Server::new("a");
    let mut slow = pin!(connector.connect(&server));
    let mut refuse = pin!(connector.connect(&server));
    let mut never = Box::pin(connector.connect(&server));
    assert!(poll_once(&mut slow).is_pending());
    assert!(poll_once(&mut refuse).is_pending());
    assert!(poll_once(&mut never).is_pending());
    clock.advance(SECOND);
    assert!(matches!(poll_once(&mut slow), Poll::Ready(Ok(_))));
    assert!(poll_once(&mut refuse).is_pending());
    clock.advance(SECOND);
    assert!(matches!(poll_once(&mut refuse), Poll::Ready(Err(_))));
    clock.advance(Duration::MAX);
    assert!(poll_once(&mut never).is_pending());
    assert_eq!((connector.counts("a").in_flight, connector.counts("a").open), (1, 1));
    drop(never);
    assert_eq!((connector.counts("a").in_flight, connector.counts("a").open), (0, 0));
}

#[test]
fn counts_are_exact() {
    let (connector, _) = connector();
    assert_eq!(connector.counts("a"), ConnectCounts::default());
    let mut conn = connect(&connector, "a").unwrap();
    connector.next_connects("a", [Connect::Refuse]);
    assert!(connect(&connector, "a").is_err());
    let other = connect(&connector, "b").unwrap();
    assert!(connector.is_reusable(&mut conn, &idle(SECOND)));
    assert_eq!((conn.last_idle(), other.last_idle()), (Some(SECOND), None));
    assert_ne!(conn.id(), other.id());
    assert_eq!((conn.address(), other.address()), ("a", "b"));
    let a =
        ConnectCounts { attempts: 2, connected: 1, open: 1, max_open: 2, reuse_checks: 1, ..ConnectCounts::default() };
    assert_eq!(connector.counts("a"), a);
    assert_eq!(connector.total_counts(), ConnectCounts { attempts: 3, connected: 2, open: 2, ..a });
    drop((conn, other));
    assert_eq!(connector.total_counts().open, 0);
    assert_eq!(connector.clone().total_counts().max_open, 2);
}

#[test]
fn attempts_are_logged_with_their_time() {
    let (connector, clock) = connector();
    let _ = connect(&connector, "a");
    clock.advance(SECOND);
    let _ = connect(&connector, "b");
    clock.advance(SECOND);
    let _ = connect(&connector, "a");
    assert_eq!(connector.connect_times("a"), [Duration::ZERO, SECOND * 2]);
    assert_eq!(connector.connect_times("c"), []);
    let log: Vec<_> = ["a", "b", "a"].into_iter().map(Arc::from).zip([Duration::ZERO, SECOND, SECOND * 2]).collect();
    assert_eq!(connector.connect_log(), log);
}

#[test]
fn a_restart_kills_what_was_open_and_nothing_later() {
    let (connector, _) = connector();
    let (mut old, mut other) = (connect(&connector, "a").unwrap(), connect(&connector, "b").unwrap());
    connector.kill_connections("a");
    let mut new = connect(&connector, "a").unwrap();
    assert!(!old.is_alive() && !connector.is_reusable(&mut old, &idle(SECOND)));
    assert!(new.is_alive() && connector.is_reusable(&mut new, &idle(SECOND)));
    assert!(connector.is_reusable(&mut other, &idle(SECOND)));
}

#[test]
fn the_check_says_what_it_was_told_to() {
    let (connector, _) = connector();
    let mut conn = connect(&connector, "a").unwrap();
    connector.set_reuse("a", Reuse::No);
    assert!(!connector.is_reusable(&mut conn, &idle(SECOND)) && conn.is_alive());
    connector.set_reuse("a", Reuse::Panic);
    assert!(catch_unwind(AssertUnwindSafe(|| connector.is_reusable(&mut conn, &idle(SECOND)))).is_err());
    connector.set_reuse("a", Reuse::Yes);
    assert!(connector.is_reusable(&mut conn, &idle(SECOND)));
    assert_eq!(connector.counts("a").reuse_checks, 3);
}

#[test]
fn checks_end_as_they_were_told_to_and_are_counted() {
    let (connector, _) = connector();
    let (mut conn, mut other) = (connect(&connector, "a").unwrap(), connect(&connector, "b").unwrap());
    let failed = Err(ScriptedError::CheckFailed { address: "a".into() });
    assert_eq!(poll_once(&mut pin!(connector.check(&mut conn))), Poll::Ready(Ok(())));
    connector.set_check("a", RoundTrip::Fail);
    assert_eq!(poll_once(&mut pin!(connector.check(&mut conn))), Poll::Ready(failed.clone()));
    connector.set_check("a", RoundTrip::Never);
    assert_eq!(poll_once(&mut pin!(connector.check(&mut conn))), Poll::Pending);
    connector.set_check("a", RoundTrip::Panic);
    let panics = || poll_once(&mut pin!(connector.check(&mut conn)));
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    connector.set_check("a", RoundTrip::Ok);
    connector.kill_connections("a");
    assert_eq!(poll_once(&mut pin!(connector.check(&mut conn))), Poll::Ready(failed));
    assert_eq!(poll_once(&mut pin!(connector.check(&mut other))), Poll::Ready(Ok(())));
    assert_eq!((connector.counts("a").checks, connector.total_counts().checks), (5, 6));
}

#[test]
fn after_use_answers_as_it_was_told_to_for_each_end() {
    let (connector, _) = connector();
    let (mut conn, mut other) = (connect(&connector, "a").unwrap(), connect(&connector, "b").unwrap());
    for answer in [AfterUse::Recycle, AfterUse::Close, AfterUse::Reuse] {
        connector.set_after_use("a", Ended::Dropped, answer);
        assert_eq!(connector.after_use(&mut conn, Ended::Dropped), answer);
        assert_eq!(connector.after_use(&mut conn, Ended::Released), AfterUse::Reuse);
    }
    connector.set_after_use("a", Ended::Released, AfterUse::Close);
    assert_eq!(connector.after_use(&mut conn, Ended::Released), AfterUse::Close);
    assert_eq!(connector.after_use(&mut other, Ended::Dropped), AfterUse::Close);
    assert_eq!((connector.counts("a").after_uses, connector.total_counts().after_uses), (7, 8));
}

#[test]
fn recyclings_end_as_they_were_told_to_and_are_counted() {
    let (connector, clock) = connector();
    let mut conn = connect(&connector, "a").unwrap();
    let failed = Err(ScriptedError::RecycleFailed { address: "a".into() });
    assert_eq!(poll_once(&mut pin!(connector.recycle(&mut conn))), Poll::Ready(Ok(())));
    connector.set_recycle("a", RoundTrip::Fail);
    assert_eq!(poll_once(&mut pin!(connector.recycle(&mut conn))), Poll::Ready(failed.clone()));
    assert_eq!(poll_once(&mut pin!(connector.check(&mut conn))), Poll::Ready(Ok(())), "checks have their own script");
    connector.set_recycle("a", RoundTrip::Slow(SECOND));
    {
        let mut slow = pin!(connector.recycle(&mut conn));
        assert!(poll_once(&mut slow).is_pending());
        clock.advance(SECOND);
        assert_eq!(poll_once(&mut slow), Poll::Ready(Ok(())));
    }
    connector.kill_connections("a");
    connector.set_recycle("a", RoundTrip::Ok);
    assert_eq!(poll_once(&mut pin!(connector.recycle(&mut conn))), Poll::Ready(failed));
    assert_eq!((connector.counts("a").recycles, connector.total_counts().recycles), (4, 4));
}

#[test]
fn goodbyes_are_said_as_they_were_told_to_and_their_reasons_are_remembered() {
    let (connector, clock) = connector();
    let conn = || connect(&connector, "a").unwrap();
    assert!(connector.close(conn(), CloseReason::Reset).is_none());
    assert_eq!(connector.counts("a").open, 0);
    connector.set_close("a", Some(RoundTrip::Slow(SECOND)));
    let mut slow = Box::pin(connector.close(conn(), CloseReason::Surplus).unwrap());
    assert!(poll_once(&mut slow).is_pending());
    assert_eq!(connector.counts("a").open, 1);
    clock.advance(SECOND);
    assert!(poll_once(&mut slow).is_ready());
    assert_eq!(connector.counts("a").open, 0);
    connector.set_close("a", Some(RoundTrip::Never));
    let mut never = Box::pin(connector.close(conn(), CloseReason::PoolClosed).unwrap());
    assert!(poll_once(&mut never).is_pending());
    drop(never);
    assert_eq!(connector.counts("a").open, 0);
    assert_eq!(connector.closes("a"), [CloseReason::Reset, CloseReason::Surplus, CloseReason::PoolClosed]);
    assert_eq!(connector.closes("b"), []);
}

#[test]
fn panics_leave_the_counts_right() {
    let (connector, _) = connector();
    connector.next_connects("a", [Connect::Panic]);
    assert!(catch_unwind(AssertUnwindSafe(|| connect(&connector, "a"))).is_err());
    let (conn, second) = (connect(&connector, "a").unwrap(), connect(&connector, "a").unwrap());
    connector.set_drop_panics("a", true);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(conn))).is_err());
    // Dropped while the thread unwinds already: a second panic would abort.
    assert!(catch_unwind(AssertUnwindSafe(move || -> () { panic!("first, with {second:?}") })).is_err());
    connector.set_drop_panics("a", false);
    drop(connect(&connector, "a").unwrap());
    let counts = connector.counts("a");
    assert_eq!((counts.attempts, counts.connected, counts.in_flight, counts.open), (4, 3, 0, 0));
}
