//! Under tower's own layers.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use connring::test_util::ScriptedConnector;
use connring::{AcquireError, AcquireOptions, Clock, ConnectFault, Connector, Pool, PooledConn, Server, is_idle};
use connring_real_servers::redis;
use connring_tower::tower_service::Service;
use connring_tower::{PoolService, connect_service};
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tower::load_shed::error::Overloaded;
use tower::{ServiceBuilder, ServiceExt, service_fn};

/// A pool of one connection, on tokio's paused time.
fn pool(max_waiters: usize) -> Pool<ScriptedConnector> {
    let clock = Clock::tokio();
    let builder = Pool::builder(ScriptedConnector::new(clock.clone())).clock(clock).server("a");
    builder.max_conns_per_server(1).max_waiters(max_waiters).build().unwrap()
}

fn any() -> AcquireOptions {
    AcquireOptions::new()
}

/// Polls once.
async fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test(start_paused = true)]
async fn call_waits_for_its_turn_while_the_service_stays_ready() {
    let mut service = PoolService::new(pool(10));
    let held = service.ready().await.unwrap().call(any()).await.unwrap();
    let mut first = Box::pin(service.ready().await.unwrap().call(any()));
    assert!(poll(&mut first).await.is_pending());
    let mut second = Box::pin(service.clone().oneshot(any()));
    assert!(poll(&mut second).await.is_pending());
    held.release();
    assert!(poll(&mut second).await.is_pending(), "it is the turn of the first");
    let conn = first.await.unwrap();
    assert_eq!(PooledConn::info(&conn).uses(), 1);
    conn.release();
    second.await.unwrap().release();
}

#[tokio::test(start_paused = true)]
async fn request_with_a_timeout_of_zero_is_refused_at_once() {
    let service = PoolService::new(pool(10));
    let held = service.clone().oneshot(any()).await.unwrap();
    let refused = service.clone().oneshot(any().timeout(Duration::ZERO)).await;
    let Err(AcquireError::Timeout { waited, reason }) = refused else { panic!("it is refused") };
    assert_eq!(reason.counts().full, 1);
    assert!(waited < Duration::from_millis(10), "{waited:?}");
    held.release();
    service.oneshot(any().timeout(Duration::ZERO)).await.unwrap().release();
}

#[tokio::test(start_paused = true)]
async fn call_beyond_the_wait_queue_is_refused_at_once() {
    let service = PoolService::new(pool(1));
    let _held = service.clone().oneshot(any()).await.unwrap();
    let mut waits = Box::pin(service.clone().oneshot(any()));
    assert!(poll(&mut waits).await.is_pending());
    let refused = service.oneshot(any()).await;
    assert!(matches!(refused, Err(AcquireError::QueueFull { waiters: 1 })), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn load_shed_over_a_concurrency_limit_sheds_the_calls_beyond_it() {
    let mut service = ServiceBuilder::new().load_shed().concurrency_limit(1).service(PoolService::new(pool(10)));
    let held = service.ready().await.unwrap().call(any()).await.unwrap();
    let mut waits = Box::pin(service.ready().await.unwrap().call(any()));
    assert!(poll(&mut waits).await.is_pending());
    let shed = service.ready().await.unwrap().call(any()).await.err().unwrap();
    assert!(shed.is::<Overloaded>(), "{shed}");
    held.release();
    waits.await.unwrap().release();
    service.ready().await.unwrap().call(any()).await.unwrap().release();
}

#[tokio::test(start_paused = true)]
async fn layers_of_the_connect_service_hold_for_all_attempts_together() {
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&running), Arc::clone(&most));
    let service = service_fn(move |server: Server| {
        let (running, most) = counts.clone();
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            yield_now().await;
            running.fetch_sub(1, Ordering::Relaxed);
            io::Result::Ok(server.address().to_owned())
        }
    });
    let limited = ServiceBuilder::new().concurrency_limit(2).service(service);
    let builder = Pool::builder(connect_service(limited)).clock(Clock::tokio());
    let pool = builder.servers(["a", "b", "c", "d", "e"]).build().unwrap();
    assert!(pool.warm_up(Duration::from_secs(60)).await.is_complete());
    assert_eq!(most.load(Ordering::Relaxed), 2);
    let conn = pool.acquire().await.unwrap();
    assert_eq!(*conn, PooledConn::info(&conn).server().address());
}

#[tokio::test]
async fn boxed_service_connects_although_it_is_not_sync() {
    let service = service_fn(|server: Server| async move { io::Result::Ok(server.address().to_owned()) });
    let connector = connect_service(service.boxed_clone());
    assert_eq!(connector.connect(&Server::new("a")).await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn error_of_a_layer_is_the_source_of_the_connectors() {
    let hangs = service_fn(|_: Server| std::future::pending::<io::Result<()>>());
    let service = ServiceBuilder::new().timeout(Duration::from_millis(100)).service(hangs);
    let error = connect_service(service).connect(&Server::new("a")).await.unwrap_err();
    assert!(error.source().unwrap().is::<tower::timeout::error::Elapsed>(), "{error:?}");
}

#[tokio::test]
async fn fault_of_the_client_is_found_in_the_services_error() {
    for (kind, fault) in
        [(io::ErrorKind::OutOfMemory, ConnectFault::Client), (io::ErrorKind::ConnectionRefused, ConnectFault::Server)]
    {
        let connector = connect_service(service_fn(move |_: Server| async move { io::Result::<()>::Err(kind.into()) }));
        let error = connector.connect(&Server::new("a")).await.unwrap_err();
        assert_eq!(Connector::classify(&connector, &error), fault);
    }
}

#[tokio::test]
async fn connector_of_hyper_util_connects_to_a_real_server() {
    let Some(server) = redis() else { return };
    let uri = |server: Server| Uri::try_from(format!("http://{}", server.address())).expect("an address");
    let connector = connect_service(HttpConnector::new().map_request(uri));
    let connector = connector.is_reusable(|conn, _| is_idle(conn.inner_mut()));
    let pool = Pool::builder(connector).server(server.address()).build().unwrap();
    let mut service = PoolService::new(pool);
    for uses in 0..3 {
        let mut conn = service.ready().await.unwrap().call(any()).await.unwrap();
        assert_eq!(PooledConn::info(&conn).uses(), uses);
        let stream: &mut TcpStream = conn.inner_mut();
        stream.write_all(b"PING\r\n").await.unwrap();
        let mut answer = [0; 7];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
        conn.release();
    }
}
