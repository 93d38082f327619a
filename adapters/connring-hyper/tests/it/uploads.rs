//! Requests whose body takes its time, by the fault of the server or of the caller. Time is paused.

#![allow(clippy::disallowed_methods, reason = "the time is tokio's, which is paused")]

use std::time::Duration;

use connring_hyper::{BodyError, SendError};
use http::Request;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};

use super::support::*;

const SECOND: Duration = Duration::from_secs(1);
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether that time has passed, and hardly more.
fn is_about(began: Instant, time: Duration) -> bool {
    (time..time + Duration::from_millis(10)).contains(&began.elapsed())
}

/// A request whose 6 parts are 20 s apart.
fn slow_post() -> Request<RequestBody> {
    let (parts, request) = post_of_parts();
    tokio::spawn(async move {
        for _ in 0..6 {
            give(&parts, "part").await;
            sleep(SECOND * 20).await;
        }
    });
    request
}

#[tokio::test(start_paused = true)]
async fn slow_body_of_the_caller_has_all_the_time_it_needs() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        while !matches!(stream.read_u8().await, Ok(b'0')) {}
        say(&mut stream, &ok("thanks")).await;
        read_head(&mut stream).await;
    });
    assert_eq!(text(client.send(slow_post()).await.unwrap()).await, "thanks");
}

#[tokio::test(start_paused = true)]
async fn server_that_reads_slowly_has_all_the_time_it_needs() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        for _ in 0..10 {
            sleep(SECOND * 20).await;
            stream.read_exact(&mut [0; PIPE]).await.unwrap();
        }
        say(&mut stream, &ok("thanks")).await;
        read_head(&mut stream).await;
    });
    let request = Request::post("/").body(body(vec![b'x'; PIPE * 10])).unwrap();
    assert_eq!(text(client.send(request).await.unwrap()).await, "thanks");
}

#[tokio::test(start_paused = true)]
async fn server_that_stops_reading_has_failed() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    });
    let request = Request::post("/").body(body(vec![b'x'; PIPE * 10])).unwrap();
    let began = Instant::now();
    let error = client.send(request).await.unwrap_err();
    assert!(matches!(error, SendError::Timeout { .. }) && is_about(began, HEAD_TIMEOUT), "{error:?}");
    assert_eq!(client.pool().status().totals.failures, 1);
}

#[tokio::test(start_paused = true)]
async fn time_in_which_the_caller_gave_nothing_is_not_the_servers() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending::<()>().await;
    });
    let (parts, request) = post_of_parts();
    tokio::spawn(async move {
        give(&parts, vec![b'x'; PIPE * 2]).await;
        sleep(SECOND * 29).await;
        // More than hyper keeps.
        give(&parts, vec![b'x'; 1 << 20]).await;
    });
    let began = Instant::now();
    let error = client.send(request).await.unwrap_err();
    assert!(matches!(error, SendError::Timeout { .. }), "{error:?}");
    assert!(is_about(began, SECOND * 29 + HEAD_TIMEOUT), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn time_for_the_head_begins_when_the_body_was_sent() {
    let client = piped(|_, mut stream| async move { while stream.read_u8().await.is_ok() {} });
    let began = Instant::now();
    let error = client.send(slow_post()).await.unwrap_err();
    assert!(matches!(error, SendError::Timeout { .. }), "{error:?}");
    assert!(is_about(began, SECOND * 120 + HEAD_TIMEOUT), "{:?}", began.elapsed());
    assert_eq!(client.pool().status().totals.failures, 1);
}

#[tokio::test(start_paused = true)]
async fn body_of_the_caller_that_stalls_is_no_failure_of_the_server() {
    let client = piped(|_, mut stream| async move { while stream.read_u8().await.is_ok() {} });
    let (parts, request) = post_of_parts();
    let giving = tokio::spawn(async move {
        sleep(SECOND * 29).await;
        give(&parts, "half").await;
        std::future::pending::<()>().await;
    });
    let began = Instant::now();
    let error = client.send(request).await.unwrap_err();
    assert!(matches!(error, SendError::Stalled { after: HEAD_TIMEOUT }), "{error:?}");
    assert!(is_about(began, SECOND * 29 + HEAD_TIMEOUT), "{:?}", began.elapsed());
    assert_eq!((error.server(), client.pool().status().totals.failures), (None, 0));
    giving.abort();
}

#[tokio::test(start_paused = true)]
async fn response_that_waits_for_the_body_of_the_caller_is_no_failure_of_the_server() {
    let client = piped(|_, mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf").await;
        while stream.read_u8().await.is_ok() {}
    });
    let (parts, request) = post_of_parts();
    give(&parts, "half").await;
    let error = client.send(request).await.unwrap().into_body().collect().await.unwrap_err();
    assert!(matches!(error, BodyError::Stalled { .. }), "{error:?}");
    assert_eq!(client.pool().status().totals.failures, 0);
}

/// The pool's `abandoned_after` is 300 ms.
#[tokio::test(start_paused = true)]
async fn request_that_is_dropped_is_a_failure_only_where_the_server_kept_silent() {
    for (is_upload, wait, failures) in [(true, 50, 0), (false, 1, 1), (true, 120, 0), (true, 121, 1)] {
        let client = piped(|_, mut stream| async move { while stream.read_u8().await.is_ok() {} });
        let request = if is_upload { slow_post() } else { get("/") };
        // An upload ends after 120 s.
        let time = SECOND * wait + Duration::from_millis(100);
        timeout(time, client.send(request)).await.unwrap_err();
        assert_eq!(client.pool().status().totals.failures, failures, "after {time:?}");
    }
}
