//! A pool of primaries over two servers: the primary is killed, its standby promoted, and the callers move over.
//!
//! Run it with `cargo run -p connring-postgres --example failover`. It starts the two servers, if PostgreSQL is
//! installed.

use std::time::Duration;

use connring::{Connector, Pool, PooledConn, Server};
use connring_postgres::{PostgresConnector, TargetRole};
use connring_real_servers::{postgres, postgres_standby};
use tokio::time::timeout;

type AnyError = Box<dyn std::error::Error>;
type Postgres = Pool<PostgresConnector>;

/// Inserts a row and counts the rows, once on each server that the pool gives until one takes it.
async fn insert(pool: &Postgres) -> Result<String, AnyError> {
    loop {
        let mut conn = pool.acquire().await?;
        let server = PooledConn::info(&conn).server().name().to_owned();
        let written = async {
            let transaction = conn.transaction().await?;
            transaction.execute("INSERT INTO visits DEFAULT VALUES", &[]).await?;
            let count: i64 = transaction.query_one("SELECT count(*) FROM visits", &[]).await?.get(0);
            transaction.commit().await.map(|()| count)
        };
        match written.await {
            Ok(count) => {
                conn.release();
                return Ok(format!("visit {count} is on {server}"));
            }
            // A row more does no harm here. Only you know whether your request may be sent twice.
            Err(error) => conn.broken(error),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let Some(mut first) = postgres() else { return Ok(()) };
    let Some(second) = postgres_standby(&first, &[]) else { return Ok(()) };
    let connector = || PostgresConnector::new("user=postgres dbname=postgres".parse().expect("a config"));
    let pool = Pool::builder(connector().role(TargetRole::Primary))
        .server(Server::named("first", first.address()))
        .server(Server::named("second", second.address()))
        .build()?;

    let conn = pool.acquire().await?;
    conn.batch_execute("CREATE TABLE visits(id serial)").await?;
    conn.release();
    for _ in 0..2 {
        println!("{}", insert(&pool).await?);
    }

    let conn = pool.acquire().await?;
    let slow = timeout(Duration::from_millis(100), conn.batch_execute("BEGIN; SELECT pg_sleep(60)")).await;
    println!("a slow request in a transaction: {}", slow.map_or_else(|elapsed| elapsed.to_string(), |_| "done".into()));
    drop(conn); // cancels it, rolls back, and the connection goes on
    let conn = pool.acquire().await?;
    let uses = PooledConn::info(&conn).uses();
    let answer: i32 = conn.query_one("SELECT 42", &[]).await?.get(0);
    println!("the same connection, used {uses} times before: {answer}");
    conn.release();

    let admin = connector().connect(&Server::new(second.address())).await?;
    let caught_up = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    let conn = pool.acquire().await?;
    let written: String = conn.query_one("SELECT pg_current_wal_lsn()::text", &[]).await?.get(0);
    conn.release();
    while !admin.query_one(caught_up, &[&written]).await?.get::<_, bool>(0) {}
    first.kill();
    admin.batch_execute("SELECT pg_promote()").await?;
    println!("the first one is killed, the second one promoted");
    println!("{}", insert(&pool).await?);
    println!("{}", pool.status());
    Ok(())
}
