//! The tests of a manager of Redis connections, for the crates with managers of other pools, which include this file:
//! each has a crate `redis` of its own.

use std::time::Duration;

use connring::{CloseReason, Pool, PooledConn};
use connring_real_servers::redis as start;
use tokio::time::{sleep, timeout};

use super::redis::{RedisError, cmd};
use super::{Connector, connector};

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(20);

async fn port(conn: &mut PooledConn<Connector>) -> Result<String, RedisError> {
    let (_, port): (String, String) = cmd("CONFIG").arg("GET").arg("port").query_async(&mut ***conn).await?;
    Ok(port)
}

#[tokio::test]
async fn requests_go_to_both_servers_and_to_the_one_that_is_left() {
    let (Some(mut first), Some(second)) = (start(), start()) else { return };
    let pool = Pool::builder(connector()).servers([first.address(), second.address()]).build().unwrap();
    assert!(pool.warm_up(PATIENCE).await.is_complete());
    let mut served = Vec::new();
    for _ in 0..6 {
        let mut conn = pool.acquire().await.unwrap();
        let port = port(&mut conn).await.unwrap();
        assert!(PooledConn::info(&conn).server().address().ends_with(&port));
        served.push(port);
        conn.release();
    }
    for server in [&first, &second] {
        assert!(served.contains(&server.port().to_string()), "{served:?}");
    }

    first.kill();
    let mut well = 0;
    while well < 6 {
        let mut conn = timeout(PATIENCE, pool.acquire()).await.unwrap().unwrap();
        match port(&mut conn).await {
            Ok(port) => {
                assert_eq!(port, second.port().to_string());
                conn.release();
                well += 1;
            }
            Err(error) => conn.broken(error),
        }
    }
}

#[tokio::test]
async fn check_finds_a_connection_that_the_server_closed_while_it_was_idle() {
    let Some(server) = start() else { return };
    let interval = Duration::from_millis(100);
    let pool = Pool::builder(connector()).server(server.address()).idle_check_interval(interval).build().unwrap();
    let (first, mut killer) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
    first.release();
    let recycled = async {
        while pool.status().servers[0].idle == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, recycled).await.expect("it is recycled");
    // Kills all but the connection that asks.
    let killed: u32 =
        cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query_async(&mut **killer).await.unwrap();
    assert_eq!(killed, 1);
    let closed = async {
        while pool.status().totals.closes(CloseReason::CheckFailed) == 0 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("it is checked");
}
