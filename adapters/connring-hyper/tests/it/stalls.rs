//! Servers that send the head of a response, and then nothing more or little by little. Time is paused.

#![allow(clippy::disallowed_methods, reason = "the time is tokio's, which is paused")]

use std::time::Duration;

use connring::CloseReason;
use connring_hyper::BodyError;
use http_body_util::BodyExt;
use tokio::io::AsyncWrite;
use tokio::time::{Instant, sleep, timeout};

use super::support::*;

const SECOND: Duration = Duration::from_secs(1);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Sends a head, and the first part of a body.
async fn begin(stream: &mut (impl AsyncWrite + Unpin)) {
    say(stream, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf").await;
}

#[tokio::test(start_paused = true)]
async fn body_that_stalls_is_a_failure_of_the_server() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        begin(&mut stream).await;
        assert!(read_head(&mut stream).await.is_none());
    });
    let mut body = client.send(get("/")).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let began = Instant::now();
    let error = body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, BodyError::Timeout { .. }), "{error:?}");
    assert_eq!(error.to_string(), "a sent nothing more of its response in 60s");
    let waited = began.elapsed();
    assert!((BODY_TIMEOUT..BODY_TIMEOUT + Duration::from_millis(10)).contains(&waited), "{waited:?}");
    let totals = client.pool().status().totals;
    assert_eq!((totals.failures, totals.successes, totals.closes(CloseReason::Failed)), (1, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn time_without_a_reader_does_not_count() {
    for has_asked in [false, true] {
        let client = piped(|_, mut stream| async move {
            read_head(&mut stream).await;
            begin(&mut stream).await;
            sleep(SECOND * 650).await;
            say(&mut stream, &"x".repeat(95)).await;
            read_head(&mut stream).await;
        });
        let mut body = client.send(get("/")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        if has_asked {
            timeout(SECOND, body.frame()).await.unwrap_err();
        }
        sleep(SECOND * 600).await;
        // For about another 50 s there is nothing to read.
        assert_eq!(body.collect().await.unwrap().to_bytes().len(), 95);
        until(client.pool(), |status| status.servers[0].idle == 1).await;
        assert_eq!(client.pool().status().totals.failures, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn long_response_counts_as_a_success_before_its_end_and_then_as_no_failure() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        begin(&mut stream).await;
        for _ in 0..5 {
            sleep(SECOND * 50).await;
            say(&mut stream, "more").await;
        }
        assert!(read_head(&mut stream).await.is_none());
    });
    let mut body = client.send(get("/")).await.unwrap().into_body();
    for successes in [0, 1, 1, 1, 1, 1] {
        body.frame().await.unwrap().unwrap();
        assert_eq!(client.pool().status().totals.successes, successes);
    }
    assert!(matches!(body.frame().await.unwrap(), Err(BodyError::Timeout { .. })));
    assert_eq!(client.pool().status().totals.failures, 0);
}

/// The pool's `abandoned_after` is 300 ms.
#[tokio::test(start_paused = true)]
async fn body_that_is_dropped_is_a_failure_only_where_its_reader_waited_for_the_server() {
    for (reads_on, failures) in [(true, 1), (false, 0)] {
        let client = piped(|_, mut stream| async move {
            read_head(&mut stream).await;
            begin(&mut stream).await;
            assert!(read_head(&mut stream).await.is_none());
        });
        let mut body = client.send(get("/")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        if reads_on {
            timeout(SECOND, body.frame()).await.unwrap_err();
        } else {
            sleep(SECOND).await;
        }
        drop(body);
        let totals = client.pool().status().totals;
        assert_eq!((totals.failures, totals.successes), (failures, 1 - failures));
    }
}

#[tokio::test(start_paused = true)]
async fn body_has_no_bound_where_it_is_switched_off() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        begin(&mut stream).await;
        sleep(SECOND * 3600).await;
        say(&mut stream, &"x".repeat(95)).await;
    })
    .body_timeout(None);
    assert_eq!(text(client.send(get("/")).await.unwrap()).await.len(), 99);
}
