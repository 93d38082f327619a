//! Errors: one line each, with the known numbers, and without the text of the source.

use std::error::Error;
use std::time::Duration;

use connring::test_util::{Connect, ScriptedError};
use connring::{AcquireError, Failure, Reason, Server, TryAcquireError};
use tokio::time::advance;

use super::{MS, assert_line};
use crate::support::{Rig, settle};

/// Returns the error and its sources. No message may contain the text of its source.
#[track_caller]
fn chain<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let chain: Vec<_> = std::iter::successors(Some(error), |&error| error.source()).collect();
    for pair in chain.windows(2) {
        let [text, source] = [pair[0].to_string(), pair[1].to_string()];
        assert!(!text.contains(&source), "the source's text {source:?} is repeated: {text:?}");
    }
    chain
}

/// A pool whose servers are all down after a refused attempt.
async fn all_down(servers: usize) -> Rig {
    let addresses = (0..servers).map(|server| format!("s{server}:1"));
    let rig = Rig::paused(|builder| builder.servers(addresses).backoff(1_000 * MS, 1_000 * MS));
    rig.connector.set_default(Connect::Refuse);
    while rig.pool.acquire_now().await.expect_err("the server refuses").retry_after().is_none() {}
    rig
}

#[tokio::test(start_paused = true)]
async fn errors_list_eight_servers_and_count_all() {
    for servers in [1, 8, 9, 40] {
        let rig = all_down(servers).await;
        let error = rig.pool.acquire_timeout(2_000 * MS).await.expect_err("all servers are down");
        let AcquireError::Timeout { reason, .. } = error else { panic!("{error:?}") };
        assert_eq!((reason.servers().len(), reason.counts().down), (servers.min(8), servers));
        assert_eq!(reason.counts().waiters, 0, "a caller does not count itself");
        let error = rig.pool.acquire_now().await.expect_err("all servers are down");
        let AcquireError::Unavailable(reason) = error else { panic!("{error:?}") };
        assert_eq!((reason.servers().len(), reason.counts().down), (servers.min(8), servers));
        match rig.pool.try_acquire() {
            Err(TryAcquireError::Unavailable(counts)) => assert_eq!(counts.down, servers),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn last_source_is_error_of_connector() {
    let rig = all_down(2).await;
    let errors = [
        (
            rig.pool.acquire_timeout(1_600 * MS).await.expect_err("all servers are down"),
            vec!["1.6", "all servers are down"],
        ),
        (rig.pool.acquire_now().await.expect_err("all servers are down"), vec!["all servers are down"]),
    ];
    for (error, words) in errors {
        assert_line(&error, &words);
        let retry_after = error.retry_after().expect("the times of the probes are known");
        assert!(retry_after >= MS && retry_after <= 1_501 * MS, "{retry_after:?}");
        let chain = chain(&error);
        let last = chain[chain.len() - 1].downcast_ref::<ScriptedError>();
        assert!(matches!(last, Some(ScriptedError::Refused { .. })), "{chain:?}");
        assert!(chain.iter().any(|error| error.is::<Failure<ScriptedError>>()), "{chain:?}");
        chain.iter().for_each(|error| assert_line(error, &[]));
    }
    // A failure that a caller reported is a source, too.
    let rig = Rig::paused(|builder| builder.servers(["a:1", "b:1"]).max_conns_per_server(1));
    let held = [rig.pool.acquire().await, rig.pool.acquire().await].map(|conn| conn.expect("the servers accept"));
    let [of_a, _of_b] = held;
    of_a.fail_for("half an answer", 1_000 * MS);
    let error = rig.pool.acquire_now().await.expect_err("the server is down");
    let chain = chain(&error);
    assert_eq!(chain[chain.len() - 1].to_string(), "half an answer");
}

#[tokio::test(start_paused = true)]
async fn errors_state_reasons_in_one_line() {
    fn check(error: &impl Error, retry_after: Option<Duration>, known: bool, words: &[&str]) {
        assert_line(error, words);
        assert_eq!(retry_after.is_some(), known, "{error:?}");
    }
    // Full.
    let rig = Rig::paused(|builder| builder.server("a:1").max_conns_per_server(1).max_waiters(1));
    let conn = rig.pool.acquire().await.expect("the server accepts");
    let error = rig.pool.try_acquire().expect_err("the server is full");
    check(&error, error.retry_after(), false, &["all servers are full"]);
    let error = rig.pool.acquire_now().await.expect_err("the server is full");
    check(&error, error.retry_after(), false, &["all servers are full"]);
    let AcquireError::Unavailable(reason) = &error else { panic!("{error:?}") };
    assert!(matches!(reason.servers()[0].reason, Reason::Full { max_conns: 1 }));
    // With a waiter.
    let waiter = tokio::spawn({
        let pool = rig.pool.clone();
        async move { pool.acquire().await.map(drop) }
    });
    settle().await;
    let error = rig.pool.try_acquire().expect_err("the wait queue is not empty");
    check(&error, error.retry_after(), false, &["1 waiter in the queue"]);
    let error = rig.pool.acquire().await.expect_err("the wait queue is full");
    assert!(matches!(error, AcquireError::QueueFull { waiters: 1 }));
    check(&error, error.retry_after(), false, &["wait queue is full (1 waiters)"]);
    drop(conn);
    waiter.await.expect("the task does not panic").expect("the server accepts");
    // Closed, and without servers.
    rig.pool.close().await;
    let error = rig.pool.acquire().await.expect_err("the pool is closed");
    check(&error, error.retry_after(), false, &["closed"]);
    let error = rig.pool.try_acquire().expect_err("the pool is closed");
    check(&error, error.retry_after(), false, &["closed"]);
    let rig = Rig::paused(|builder| builder);
    let error = rig.pool.acquire().await.expect_err("there is no server");
    check(&error, error.retry_after(), false, &["no servers"]);
    let error = rig.pool.try_acquire().expect_err("there is no server");
    check(&error, error.retry_after(), false, &["no servers"]);
    // Limited, and a mix.
    let rig = Rig::paused(|builder| builder.server(Server::new("a:1").max_rps(2.0).burst(1)));
    rig.pool.acquire().await.expect("the server accepts").release();
    let error = rig.pool.try_acquire().expect_err("the token is spent");
    check(&error, error.retry_after(), true, &["all servers are rate limited"]);
    assert_eq!(error.retry_after(), Some(500 * MS));
    rig.pool.register(Server::new("b:1").max_conns(1)).expect("the server is not registered");
    let _conn = rig.pool.acquire().await.expect("the server accepts");
    rig.pool.register("c:1").expect("the server is not registered");
    rig.connector.on_connect("c:1", Connect::Refuse);
    let error = rig.pool.acquire_timeout(MS).await.expect_err("no server can serve");
    check(&error, error.retry_after(), true, &["1ms", "1 down", "1 rate limited", "1 full"]);
}

#[tokio::test(start_paused = true)]
async fn server_without_idle_connection_is_empty() {
    let rig = Rig::paused(|builder| builder.servers([Server::new("a:1"), Server::new("b:1").max_rps(2.0)]));
    rig.connector.set_default(Connect::Never);
    let error = rig.pool.acquire_timeout(MS).await.expect_err("no attempt ends");
    let AcquireError::Timeout { reason, .. } = error else { panic!("{error:?}") };
    assert!(reason.servers().iter().all(|server| matches!(server.reason, Reason::Empty { .. })), "{reason:?}");
    assert_eq!(reason.counts().empty, 2);
    // A full server with a token counts as full, not as limited.
    let rig = Rig::paused(|builder| builder.server(Server::new("a:1").max_rps(2.0).burst(1).max_conns(1)));
    let conn = rig.pool.acquire().await.expect("the server accepts");
    for (limited, full) in [(1, 0), (0, 1)] {
        match rig.pool.try_acquire() {
            Err(TryAcquireError::Unavailable(counts)) => assert_eq!((counts.limited, counts.full), (limited, full)),
            other => panic!("{other:?}"),
        }
        advance(500 * MS).await;
    }
    conn.release();
}

#[tokio::test(start_paused = true)]
async fn errors_that_tell_of_servers_name_the_pool() {
    let full = |rig: Rig| async move {
        let _conn = rig.pool.acquire().await.expect("the server accepts");
        let timeout = rig.pool.acquire_timeout(5 * MS).await.expect_err("the server is full");
        let unavailable = rig.pool.acquire_now().await.expect_err("the server is full");
        let AcquireError::Unavailable(reason) = &unavailable else { panic!("{unavailable:?}") };
        (timeout.to_string(), unavailable.to_string(), reason.pool().map(str::to_owned))
    };
    let rig = Rig::paused(|builder| builder.name("sessions").server("a:1").max_conns_per_server(1));
    let (timeout, unavailable, pool) = full(rig).await;
    assert!(timeout.starts_with("pool \"sessions\": timed out after ") && timeout.ends_with(": all servers are full"));
    assert_eq!((&*unavailable, pool.as_deref()), ("pool \"sessions\": all servers are full", Some("sessions")));
    let rig = Rig::paused(|builder| builder.server("a:1").max_conns_per_server(1));
    let (timeout, unavailable, pool) = full(rig).await;
    assert!(timeout.starts_with("timed out after "), "{timeout}");
    assert_eq!((&*unavailable, pool), ("all servers are full", None));
}
