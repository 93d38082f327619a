//! `follow`.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use connring::{AcquireError, Clock, FollowError, PoolStatus, Server, TryAcquireError};
use futures_core::Stream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;

/// A stream of the sets that are sent to it. The weak reference tells whether it was dropped.
struct Sets(UnboundedReceiver<Vec<&'static str>>, #[allow(dead_code)] Arc<()>);

impl Stream for Sets {
    type Item = Vec<&'static str>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

fn sets() -> (UnboundedSender<Vec<&'static str>>, Sets, Weak<()>) {
    let ((sender, receiver), alive) = (unbounded_channel(), Arc::new(()));
    let weak = Arc::downgrade(&alive);
    (sender, Sets(receiver, alive), weak)
}

fn names(status: &PoolStatus) -> Vec<&str> {
    status.servers.iter().map(|server| &*server.name).collect()
}

async fn send(sender: &UnboundedSender<Vec<&'static str>>, set: &[&'static str]) {
    sender.send(set.to_vec()).expect("the stream lives");
    settle().await;
}

#[tokio::test]
async fn followed_sets_become_the_servers() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let (sender, stream, alive) = sets();
    let follow = rig.pool.follow(stream).expect("there is a runtime");
    settle().await;
    assert_eq!(names(&rig.pool.status()), ["a"], "nothing changes before the first set");
    send(&sender, &["a", "b"]).await;
    assert_eq!(names(&rig.pool.status()), ["a", "b"]);
    // Refused: the servers stay, and the next set counts.
    send(&sender, &["c", "c"]).await;
    assert_eq!(names(&rig.pool.status()), ["a", "b"]);
    send(&sender, &["b"]).await;
    assert_eq!(names(&rig.pool.status()), ["b"]);
    assert!(!follow.is_finished());
    drop(sender);
    settle().await;
    assert!(follow.is_finished() && alive.strong_count() == 0);
    assert_eq!(names(&rig.pool.status()), ["b"]);
}

#[tokio::test]
async fn stopped_or_dropped_handle_ends_following_and_detached_one_does_not() {
    let rig = Rig::manual(|builder| builder.server("a"));
    let (sender, stream, alive) = sets();
    rig.pool.follow(stream).expect("there is a runtime").stop();
    settle().await;
    assert!(sender.send(vec!["x"]).is_err() && alive.strong_count() == 0);
    let (_sender, stream, alive) = sets();
    drop(rig.pool.follow(stream).expect("there is a runtime"));
    settle().await;
    assert_eq!(alive.strong_count(), 0);
    let (sender, stream, _) = sets();
    rig.pool.follow(stream).expect("there is a runtime").detach();
    send(&sender, &["b"]).await;
    assert_eq!(names(&rig.pool.status()), ["b"]);
}

#[tokio::test]
async fn following_ends_with_the_pool_while_the_stream_is_pending() {
    for closes in [true, false] {
        let Rig { pool, .. } = Rig::manual(|builder| builder.server("a"));
        let (_sender, stream, alive) = sets();
        let follow = pool.follow(stream).expect("there is a runtime");
        settle().await;
        assert_eq!(alive.strong_count(), 1);
        if closes {
            pool.close().await;
            assert_eq!(pool.follow(sets().1).map(|_| ()), Err(FollowError::Closed));
        } else {
            drop(pool);
        }
        settle().await;
        assert!(follow.is_finished() && alive.strong_count() == 0);
    }
}

#[test]
fn following_needs_a_runtime_and_uses_that_of_the_pool() {
    let clock = Clock::manual();
    let pool = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).build().expect("it is in range");
    assert_eq!(pool.follow(sets().1).map(|_| ()), Err(FollowError::NoRuntime));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("it needs no driver");
    let (sender, stream, alive) = sets();
    let follow = runtime.block_on(async { pool.follow(stream) }).expect("the current one becomes the pool's");
    // Outside it, the pool still has it.
    drop(pool.follow(sets().1).expect("the pool has a runtime"));
    runtime.block_on(send(&sender, &["a"]));
    assert_eq!(names(&pool.status()), ["a"]);
    drop(runtime);
    assert!(follow.is_finished() && alive.strong_count() == 0, "it ends with its runtime");
}

#[tokio::test]
async fn caller_waits_for_the_first_set() {
    for fails_fast in [false, true] {
        let rig = Rig::manual(|builder| builder.fail_fast_when_down(fails_fast).outage_retry(None));
        let (sender, stream, _) = sets();
        let _follow = rig.pool.follow(stream).expect("there is a runtime");
        let caller = tokio::spawn(rig.pool.acquire_owned());
        settle().await;
        assert!(matches!(rig.pool.try_acquire(), Err(TryAcquireError::NoServers)));
        assert!(matches!(rig.pool.acquire_now().await, Err(AcquireError::NoServers)));
        // Refused: the first set that counts is still to come.
        send(&sender, &["c", "c"]).await;
        assert_eq!((caller.is_finished(), rig.pool.status().waiters), (false, 1));
        send(&sender, &["a"]).await;
        assert!(caller.is_finished());
        caller.await.expect("it does not panic").expect("the server accepts").release();
        // Afterwards an empty set ends the wait.
        send(&sender, &[]).await;
        assert!(matches!(rig.pool.acquire().await, Err(AcquireError::NoServers)));
    }
}

#[tokio::test]
async fn caller_gets_no_servers_when_the_first_set_is_empty_or_never_comes() {
    for is_empty in [true, false] {
        let rig = Rig::manual(|builder| builder);
        let ((sender, stream, _), (_other_sender, other, _)) = (sets(), sets());
        let other = rig.pool.follow(other).expect("there is a runtime");
        let follow = rig.pool.follow(stream).expect("there is a runtime");
        let caller = tokio::spawn(rig.pool.acquire_owned());
        settle().await;
        if is_empty {
            send(&sender, &[]).await;
        } else {
            drop(sender);
            settle().await;
        }
        assert!(!caller.is_finished(), "another stream is followed");
        other.stop();
        settle().await;
        assert!(caller.is_finished());
        assert!(matches!(caller.await.expect("it does not panic"), Err(AcquireError::NoServers)));
        assert!(matches!(rig.pool.acquire().await, Err(AcquireError::NoServers)));
        drop(follow);
    }
}

#[tokio::test(start_paused = true)]
async fn wait_for_the_first_set_has_a_bound() {
    let rig = Rig::paused(|builder| builder);
    let (_sender, stream, _) = sets();
    let _follow = rig.pool.follow(stream).expect("there is a runtime");
    let error = rig.pool.acquire_timeout(Duration::from_secs(2)).await.expect_err("no set comes");
    assert_eq!(error.to_string(), "timed out after 2s: no servers are registered");
    let caller = tokio::spawn(rig.pool.acquire_owned());
    settle().await;
    rig.pool.close().await;
    assert!(matches!(caller.await.expect("it does not panic"), Err(AcquireError::Closed)));
}

/// A stream that is always ready.
struct Always(usize);

impl Stream for Always {
    type Item = [Server; 1];

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<[Server; 1]>> {
        self.0 += 1;
        Poll::Ready(Some([Server::new(format!("server {}", self.0 % 2))]))
    }
}

#[tokio::test]
async fn stream_that_is_always_ready_lets_other_tasks_run() {
    let rig = Rig::manual(|builder| builder);
    let follow = rig.pool.follow(Always(0)).expect("there is a runtime");
    // Each time it applies as many sets as tokio's budget allows.
    tokio::task::yield_now().await;
    tokio::task::yield_now().await;
    assert_eq!(rig.pool.status().servers.len(), 1);
    follow.stop();
}

#[tokio::test]
async fn panic_of_stream_ends_following() {
    struct Panics;
    impl Stream for Panics {
        type Item = [Server; 0];
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<[Server; 0]>> {
            panic!("the stream panics, as scripted");
        }
    }
    let rig = Rig::manual(|builder| builder.server("a"));
    let follow = rig.pool.follow(Panics).expect("there is a runtime");
    settle().await;
    assert!(follow.is_finished());
    assert_eq!(names(&rig.pool.status()), ["a"]);
}
