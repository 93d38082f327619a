//! Servers that die, hang and refuse, and connections that are killed, under load.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connring::{Connector, Ejection, Pool, PooledConn, Server, ServerState};
use connring_real_servers::{RealServer, redis, redis_with};
use connring_redis::RedisConnector;
use redis::cmd;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::{chain, over, send, single, until};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_millis(250);

/// Sends its own text and checks the answer. Returns the port of the server, if it answered.
async fn ask(pool: &Pool<RedisConnector>, own: &str) -> Option<u16> {
    let mut conn = pool.acquire().await.ok()?;
    let port = PooledConn::info(&conn).server().address().rsplit(':').next()?.parse().ok()?;
    match timeout(PATIENCE, cmd("ECHO").arg(own).query_async::<String>(&mut *conn)).await {
        Ok(Ok(answer)) => {
            assert_eq!(answer, own, "an answer to another request");
            conn.release();
            Some(port)
        }
        Ok(Err(error)) => {
            conn.broken(error);
            None
        }
        Err(elapsed) => {
            conn.fail(elapsed);
            None
        }
    }
}

/// Tasks that ask without a pause until the end of the test.
struct Load {
    is_over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    fn of(tasks: usize, pool: &Pool<RedisConnector>) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let task = |number: usize| {
            let (pool, is_over) = (pool.clone(), Arc::clone(&is_over));
            tokio::spawn(async move {
                for round in 0.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    ask(&pool, &format!("{number}/{round}")).await;
                }
            })
        };
        Self { tasks: (0..tasks).map(task).collect(), is_over }
    }

    async fn end(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// Whether a hundred requests in a row are answered, by these servers and no others. For [`until`]: on a busy machine a
/// request may take too long.
async fn serve(servers: &[&RealServer], pool: &Pool<RedisConnector>) -> bool {
    let mut ports = BTreeSet::new();
    for round in 0..100 {
        ports.insert(ask(pool, &format!("serve/{round}")).await);
    }
    ports == servers.iter().map(|server| Some(server.port())).collect()
}

fn three() -> Option<Vec<RealServer>> {
    (0..3).map(|_| redis()).collect()
}

#[tokio::test]
async fn check_needs_an_answer() {
    let Some(server) = redis() else { return };
    let connector = RedisConnector::new();
    let mut conn = connector.connect(&Server::from(server.address())).await.unwrap();
    connector.check(&mut conn).await.unwrap();
    server.stop();
    assert!(timeout(Duration::from_millis(50), connector.check(&mut conn)).await.is_err());
    // The process accepts connects, and answers none.
    let late = timeout(Duration::from_millis(50), connector.connect(&Server::from(server.address()))).await;
    assert!(late.is_err());
    server.resume();
}

#[tokio::test]
async fn connections_killed_while_idle_reach_no_caller() {
    let Some(server) = redis() else { return };
    let pool = over(std::slice::from_ref(&server)).build().unwrap();
    let mut conns = Vec::new();
    for _ in 0..10 {
        conns.push(pool.acquire().await.unwrap());
    }
    drop(conns);
    assert_eq!(pool.status().servers[0].idle, 10);
    let other = single(RedisConnector::new(), &server);
    let killed: i64 = send(&mut other.acquire().await.unwrap(), "CLIENT KILL TYPE normal").await.unwrap();
    assert_eq!(killed, 10);
    until("the sweep finds them dead", async || pool.status().servers[0].idle == 0).await;
    for round in 0..100 {
        assert!(ask(&pool, &format!("after/{round}")).await.is_some());
    }
    assert_eq!(pool.status().totals.failures, 0);
}

#[tokio::test]
async fn request_whose_connection_is_killed_fails_and_the_next_one_succeeds() {
    let Some(server) = redis() else { return };
    let pool = single(RedisConnector::new(), &server);
    let mut conn = pool.acquire().await.unwrap();
    let id: i64 = send(&mut conn, "CLIENT ID").await.unwrap();
    let blocked = tokio::spawn(async move {
        let answer = send::<Vec<String>>(&mut conn, "BLPOP queue 0").await;
        drop(conn);
        answer
    });
    let other = single(RedisConnector::new(), &server);
    let mut other = other.acquire().await.unwrap();
    until("the request is blocked", async || {
        let client: String = cmd("CLIENT").arg(&["LIST", "ID"]).arg(id).query_async(&mut *other).await.unwrap();
        client.contains(" cmd=blpop ")
    })
    .await;
    let killed: i64 = send(&mut other, &format!("CLIENT KILL ID {id}")).await.unwrap();
    assert_eq!(killed, 1);
    let error = blocked.await.unwrap().unwrap_err();
    assert!(error.is_connection_dropped(), "{error}");
    assert!(ask(&pool, "next").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_server_is_avoided_under_load_and_serves_again_after_its_restart() {
    let Some(mut servers) = three() else { return };
    let pool = over(&servers).max_conns_per_server(8).build().unwrap();
    let load = Load::of(32, &pool);
    until("all serve", async || serve(&[&servers[0], &servers[1], &servers[2]], &pool).await).await;
    servers[1].kill();
    until("it is down", async || matches!(pool.status().servers[1].state, ServerState::Down { .. })).await;
    until("the others serve", async || serve(&[&servers[0], &servers[2]], &pool).await).await;
    servers[1].start_again();
    until("all serve again", async || serve(&[&servers[0], &servers[1], &servers[2]], &pool).await).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_server_is_ejected_under_load_and_serves_again_when_it_goes_on() {
    let Some(servers) = three() else { return };
    // A connect that the stopped process does not answer ends soon.
    let ejection = Ejection::new().base(Duration::from_millis(300));
    let builder = over(&servers).max_conns_per_server(8).ejection(ejection);
    let pool = builder.connect_timeout(Duration::from_millis(300)).build().unwrap();
    let load = Load::of(32, &pool);
    until("all serve", async || serve(&[&servers[0], &servers[1], &servers[2]], &pool).await).await;
    servers[1].stop();
    until("it is ejected", async || matches!(pool.status().servers[1].state, ServerState::Ejected { .. })).await;
    until("the others serve", async || serve(&[&servers[0], &servers[2]], &pool).await).await;
    servers[1].resume();
    until("all serve again", async || serve(&[&servers[0], &servers[1], &servers[2]], &pool).await).await;
    load.end().await;
}

#[tokio::test]
async fn server_with_too_many_clients_is_avoided_until_it_has_room() {
    let (Some(full), Some(free)) = (redis_with(&["--maxclients", "10"]), redis()) else { return };
    let others: Vec<_> = (0..10).map(|_| TcpStream::connect(full.socket_address()).unwrap()).collect();
    let alone = single(RedisConnector::new(), &full);
    until("it is full", async || {
        let refused = alone.acquire_now().await.map(PooledConn::discard);
        refused.is_err_and(|error| chain(&error).contains("max number of clients reached"))
    })
    .await;

    let servers = [full, free];
    let pool = over(&servers).build().unwrap();
    until("the other one serves", async || serve(&[&servers[1]], &pool).await).await;
    assert_ne!(pool.status().servers[0].state, ServerState::Up);
    drop(others);
    until("it serves again", async || serve(&[&servers[0], &servers[1]], &pool).await).await;
}
