//! Where the attempts for waiters go, and which of them a waiter waits for.

use super::*;
use crate::calls::acquire_of;

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn attempt_goes_to_a_server_with_a_token_first() {
    for start in 0..4 {
        let limited = Server::new("a").max_rps(1.0).burst(1).max_conns(2);
        let rig = Rig::manual(|builder| builder.servers([limited, Server::new("b").max_conns(4)]));
        let _held = acquire_of(&rig, "a").await;
        // From each place in the rotation.
        let _of_b = open(&rig, start).await;
        let attempts = rig.connector.counts("a").attempts;
        rig.connector.set_default(Connect::Never);
        let _waiter = Caller::joined(&rig);
        settle().await;
        assert_eq!(rig.connector.counts("a").attempts, attempts);
        assert_eq!(rig.connector.counts("b").in_flight, 1);
    }
}

#[tokio::test]
async fn attempt_at_a_server_that_was_disabled_or_became_standby_holds_no_waiter() {
    for is_disabled in [true, false] {
        let rig = Rig::manual(|builder| builder.servers(["a", "b"]).hedge_delay(100 * SECOND));
        rig.connector.set_default(Connect::Never);
        let _waiter = Caller::joined(&rig);
        settle().await;
        let in_flight = |name| rig.connector.counts(name).in_flight;
        let (first, other) = if in_flight("a") == 1 { ("a", "b") } else { ("b", "a") };
        assert_eq!(in_flight(other), 0);
        match is_disabled {
            true => rig.pool.disable(first, None).expect("it is registered"),
            false => rig.pool.update(Server::new(first).tier(1)).expect("it is registered"),
        }
        settle().await;
        assert_eq!((in_flight(first), in_flight(other)), (1, 1));
    }
}

#[tokio::test]
async fn acquire_now_does_not_wait_for_an_attempt_at_one_server_and_the_token_of_another() {
    let limited = Server::new("a").max_rps(1.0).burst(1).max_conns(2);
    let rig = Rig::manual(|builder| builder.servers([limited, Server::new("b").max_conns(1)]));
    let (_of_a, _of_b) = (acquire_of(&rig, "a").await, acquire_of(&rig, "b").await);
    rig.connector.set_default(Connect::Never);
    let _waiter = Caller::joined(&rig);
    settle().await;
    assert_eq!(rig.connector.counts("a").in_flight, 1, "its connection is there when the token comes");
    let mut now = Caller::new(&rig, |pool| async move { pool.acquire_now().await });
    assert!(matches!(now.poll(), Poll::Ready(Err(AcquireError::Unavailable(_)))));
    // With a token it has something to wait for.
    rig.clock.advance(SECOND);
    let mut now = Caller::new(&rig, |pool| async move { pool.acquire_now().await });
    now.assert_waits();
}

#[tokio::test]
async fn standby_server_serves_where_connecting_to_the_better_one_hangs() {
    for has_idle in [true, false] {
        let rig = Rig::manual(|builder| builder.server("a").server(Server::new("b").tier(1)));
        if has_idle {
            rig.pool.disable("a", None).expect("it is registered");
            rig.pool.acquire().await.expect("b accepts").release();
            rig.pool.enable("a").expect("it is registered");
        }
        rig.connector.on_connect("a", Connect::Never);
        let mut caller = Caller::joined(&rig);
        settle().await;
        rig.clock.advance(99 * MS);
        settle().await;
        caller.assert_waits();
        rig.clock.advance(MS);
        settle().await;
        assert_eq!(server_of(&caller.served()), "b");
        assert_eq!(rig.connector.counts("b").attempts, 1);
    }
}

/// An attempt that was late and has connected says nothing of the next one.
#[tokio::test]
async fn standby_server_serves_no_longer_once_the_late_attempt_has_connected() {
    let rig = Rig::manual(|builder| builder.server("a").server(Server::new("b").tier(1)));
    rig.connector.on_connect("a", Connect::Slow(150 * MS));
    let mut first = Caller::joined(&rig);
    settle().await;
    rig.clock.advance(100 * MS);
    settle().await;
    let of_b = first.served();
    assert_eq!(server_of(&of_b), "b");
    of_b.release();
    rig.clock.advance(50 * MS);
    settle().await;
    let of_a = rig.pool.try_acquire().expect("the late attempt has connected");
    assert_eq!(server_of(&of_a), "a");
    let mut second = Caller::joined(&rig);
    settle().await;
    rig.clock.advance(140 * MS);
    settle().await;
    second.assert_waits();
    rig.clock.advance(20 * MS);
    settle().await;
    assert_eq!(server_of(&second.served()), "a");
}
