//! Dropping pools, connections and futures.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use connring::test_util::Connect;
use connring::{Clock, Pool, PooledConn, Server, TcpConnector};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use super::{Owned, is_pending, runtime};
use crate::support::{server_of, settle};

#[test]
fn pool_connections_and_futures_can_be_dropped_outside_runtime() {
    const THINGS: usize = 6;
    for is_gone in [false, true] {
        for order in 0..2 * THINGS {
            let clock = Clock::manual();
            let (owned, connector, alive) = Owned::new(&clock);
            let runtime = runtime();
            let mut things: Vec<Option<Box<dyn Any>>> = runtime.block_on(async {
                let servers = [Server::new("a:1"), Server::new("b:1"), Server::new("c:1").max_rps(0.001).burst(1)];
                let builder = Pool::builder(owned).servers(servers).max_conns_per_server(1).clock(clock);
                let pool = builder.build().expect("the settings are in range");
                let mut conns = Vec::new();
                for _ in 0..3 {
                    conns.push(pool.acquire().await.expect("the server accepts"));
                }
                // One connection is in use, one is idle without a token, and one attempt hangs.
                connector.set_default(Connect::Never);
                let in_use =
                    conns.iter().position(|conn| server_of(conn) == "a:1").expect("server a:1 was connected to");
                let in_use = conns.swap_remove(in_use);
                for conn in conns {
                    if server_of(&conn) == "b:1" { conn.discard() } else { conn.release() }
                }
                type Call = Pin<Box<dyn Future<Output = ()>>>;
                let call = |now: bool| -> Call {
                    let pool = pool.clone();
                    match now {
                        true => Box::pin(async move { drop(pool.acquire_now().await) }),
                        false => Box::pin(async move { drop(pool.acquire().await) }),
                    }
                };
                let (unpolled, mut impatient, mut waiting) = (call(false), call(true), call(false));
                assert!(is_pending(impatient.as_mut()).await);
                settle().await;
                assert!(is_pending(waiting.as_mut()).await);
                settle().await;
                // A waiter that has been served.
                let mut granted: Call = call(false);
                assert!(is_pending(granted.as_mut()).await);
                let counts = connector.total_counts();
                assert_eq!((counts.open, counts.in_flight, pool.status().waiters), (3, 1, 3));
                let all: [Box<dyn Any>; THINGS] = [
                    Box::new(pool),
                    Box::new(in_use),
                    Box::new(unpolled),
                    Box::new(impatient),
                    Box::new(waiting),
                    Box::new(granted),
                ];
                all.into_iter().map(Some).collect()
            });
            let runtime = (!is_gone).then_some(runtime);
            for step in 0..THINGS {
                let index = if order < THINGS { (order + step) % THINGS } else { (2 * THINGS + order - step) % THINGS };
                drop(things[index].take().expect("each value is dropped once"));
            }
            // The attempt ends when its runtime next runs, or has ended with its runtime.
            if let Some(runtime) = runtime {
                runtime.block_on(settle());
                assert_eq!(runtime.metrics().num_alive_tasks(), 0, "order {order}");
            }
            assert_eq!(connector.total_counts().open, 0, "order {order}, runtime is_gone: {is_gone}");
            assert!(alive.upgrade().is_none(), "the pool is freed: order {order}, runtime is_gone: {is_gone}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn pool_can_be_dropped_while_connections_are_in_use() {
    let ways: [fn(PooledConn<Owned>); 5] =
        [PooledConn::release, PooledConn::discard, drop, |conn| conn.fail("broken"), |conn| drop(conn.detach())];
    for (number, way) in ways.into_iter().enumerate() {
        let clock = Clock::tokio();
        let (owned, connector, alive) = Owned::new(&clock);
        let pool = Pool::builder(owned).servers(["a:1", "b:1"]).clock(clock).build();
        let pool = pool.expect("the settings are in range");
        let conns = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
        pool.acquire().await.expect("the server accepts").release();
        drop(pool.clone());
        assert!(!pool.status().closed, "a clone of the pool is left");
        drop(pool);
        assert_eq!(connector.total_counts().open, 2, "the idle connection is closed, those in use are not");
        assert!(conns[0].is_alive() && !PooledConn::info(&conns[0]).server().address().is_empty());
        conns.into_iter().for_each(way);
        settle().await;
        assert_eq!(connector.total_counts().open, 0, "way {number}");
        assert!(alive.upgrade().is_none(), "the pool is freed: way {number}");
    }
}

#[tokio::test]
async fn dropped_connections_close_their_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    let pool = Pool::builder(TcpConnector::new()).server(address).build().expect("the settings are in range");
    let (idle, in_use) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    let mut peers = [listener.accept().await.unwrap().0, listener.accept().await.unwrap().0];
    if idle.local_addr().unwrap() != peers[0].peer_addr().unwrap() {
        peers.reverse();
    }
    idle.release();
    drop(pool);
    assert_eq!(peers[0].read(&mut [0]).await.expect("the socket was closed in order"), 0);
    assert!(peers[1].try_read(&mut [0]).is_err(), "the connection in use is still open");
    in_use.release();
    assert_eq!(peers[1].read(&mut [0]).await.expect("the socket was closed in order"), 0);
}

#[tokio::test(start_paused = true)]
async fn panic_in_drop_of_connection_does_not_leak_others() {
    type End = fn(Pool<Owned>);
    let ends: [(&str, End); 3] = [
        ("deregister", |pool| pool.deregister("a:1").expect("the server is registered")),
        ("set_servers", |pool| pool.set_servers([""; 0]).expect("an empty list is valid")),
        ("drop", drop),
    ];
    for (name, end) in ends {
        let clock = Clock::tokio();
        let (owned, connector, alive) = Owned::new(&clock);
        let pool = Pool::builder(owned).server("a:1").max_conns_per_server(3).clock(clock).build();
        let pool = pool.expect("the settings are in range");
        let conns = [pool.acquire().await.unwrap(), pool.acquire().await.unwrap(), pool.acquire().await.unwrap()];
        conns.into_iter().for_each(PooledConn::release);
        connector.set_drop_panics("a:1", true);
        catch_unwind(AssertUnwindSafe(|| end(pool))).expect_err("the panic reaches the caller");
        settle().await;
        assert_eq!(connector.total_counts().open, 0, "{name}");
        assert!(alive.upgrade().is_none(), "the pool is freed: {name}");
    }
}
