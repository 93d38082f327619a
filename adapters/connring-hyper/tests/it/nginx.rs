//! A real server.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use connring::{CloseReason, Pool, TcpConnector};
use connring_hyper::{HttpClient, HttpConnector};
use connring_real_servers::{RealServer, nginx};
use http::{Method, Request};
use http_body_util::BodyExt;
use tokio::time::{sleep, timeout};

use super::support::*;

/// Answers each path with itself, and some in other ways.
const LOCATIONS: &str = "
    location / { return 200 $uri; }
    location /empty { return 204; }
    location /chunked { sub_filter_types *; sub_filter nothing something; return 200 $uri; }
    location /closes { keepalive_timeout 0; return 200 $uri; }
    location /large { root .; }
";

/// The numbers of the connections of all requests, once there are as many lines in the log.
async fn connections(server: &RealServer, requests: usize) -> BTreeSet<String> {
    let lines = || fs::read_to_string(server.folder().join("access.log")).unwrap();
    let wait = async {
        while lines().lines().count() < requests {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{}", lines());
    lines().lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_requests_in_turn_use_one_connection() {
    let Some(server) = nginx(LOCATIONS) else { return };
    let client = client(server.address());
    for round in 0..25 {
        for (method, path) in
            [(Method::GET, "/plain"), (Method::GET, "/chunked"), (Method::GET, "/empty"), (Method::HEAD, "/head")]
        {
            let has_body = matches!(path, "/plain" | "/chunked");
            let path = format!("{path}/{round}");
            let request = Request::builder().method(method).uri(&path).body(body("")).unwrap();
            let response = client.send(request).await.unwrap();
            assert!(response.status().is_success());
            assert_eq!(response.headers().contains_key("transfer-encoding"), path.starts_with("/chunked"));
            assert_eq!(text(response).await, if has_body { &path } else { "" });
        }
    }
    assert_eq!(connections(&server, 100).await.len(), 1);
    assert_eq!(client.pool().status().totals.connects, 1);
}

#[tokio::test]
async fn each_request_has_a_connection_of_its_own_where_the_server_closes() {
    let Some(server) = nginx(LOCATIONS) else { return };
    let client = client(server.address());
    for round in 0..10 {
        let path = format!("/closes/{round}");
        assert_eq!(ask(&client, &path).await.unwrap(), path);
    }
    assert_eq!(connections(&server, 10).await.len(), 10);
    assert_eq!(client.pool().status().totals.failures, 0);
}

#[tokio::test]
async fn large_body_that_is_dropped_early_reaches_no_other_request() {
    let Some(server) = nginx(LOCATIONS) else { return };
    fs::write(server.folder().join("large"), vec![b'x'; 4 << 20]).unwrap();
    let client = client(server.address());
    for round in 0..10 {
        let response = client.send(get("/large")).await.unwrap();
        assert_eq!(response.headers()["content-length"], (4 << 20).to_string());
        response.into_body().frame().await.unwrap().unwrap();
        let path = format!("/after/{round}");
        assert_eq!(ask(&client, &path).await.unwrap(), path);
    }
    let totals = client.pool().status().totals;
    assert_eq!((totals.closes(CloseReason::Dropped), totals.failures), (10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_is_that_of_its_request_while_the_server_dies_and_comes_back() {
    let Some(mut server) = nginx(LOCATIONS) else { return };
    let pool = Pool::builder(HttpConnector::new(TcpConnector::new()))
        .max_conns_per_server(4)
        .backoff(Duration::from_millis(10), Duration::from_millis(50))
        .wait_timeout(Duration::from_millis(100))
        .server(server.address())
        .build()
        .unwrap();
    let client = HttpClient::new(pool);
    let (answers, errors, is_over) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (client, answers, errors, is_over) =
                (client.clone(), Arc::clone(&answers), Arc::clone(&errors), Arc::clone(&is_over));
            tokio::spawn(async move {
                for number in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = format!("/{}/{task}/{number}", if number % 2 == 0 { "plain" } else { "chunked" });
                    let Ok(response) = client.send(get(&path)).await else {
                        errors.fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    assert_eq!(response.status(), 200);
                    // Some drop it, where it stands.
                    if number % 7 == 0 {
                        continue;
                    }
                    match response.into_body().collect().await {
                        Ok(body) => {
                            assert_eq!(body.to_bytes(), path);
                            answers.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => drop(errors.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            })
        })
        .collect();
    let more = async |count: &AtomicUsize, by: usize| {
        let goal = count.load(Ordering::Relaxed) + by;
        let wait = async {
            while count.load(Ordering::Relaxed) < goal {
                sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(timeout(PATIENCE, wait).await.is_ok(), "{}", client.pool().status());
    };
    for _ in 0..3 {
        more(&answers, 200).await;
        server.kill();
        more(&errors, 8).await;
        server.start_again();
    }
    more(&answers, 200).await;
    is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("each answer was that of its request");
    }
}
