//! Limits on the rate of checkouts, each server's own. A caller waits for a token, or is told when there is one.
//!
//! Run it with `cargo run --example rate_limits`. It takes half a second, and its connections lead nowhere.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use connring::{Clock, Pool, PooledConn, Server, connect_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let pool = Pool::builder(connect_fn(|_: Server| async { Ok::<_, Infallible>(()) }))
        .max_rps(100.0)
        .server(Server::new("a").burst(1)) // 100 a second, one at a time
        .server(Server::new("b").burst(1).max_rps(40.0))
        .build()?;

    let clock = Clock::system();
    let started = clock.now();
    let mut checkouts = BTreeMap::new();
    for _ in 0..70 {
        let conn = pool.acquire().await?; // It waits for a token of either server.
        *checkouts.entry(PooledConn::info(&conn).server().name().to_owned()).or_insert(0) += 1;
        conn.release();
    }
    let took = clock.now() - started;
    println!("70 checkouts took {took:?}: {checkouts:?}");
    assert!(took > Duration::from_millis(480), "70 tokens, 2 of which are there at the start, come at 140 a second");

    // A caller that may not wait learns when to come again.
    let refused = loop {
        match pool.try_acquire() {
            Ok(conn) => conn.release(),
            Err(refused) => break refused,
        }
    };
    println!("{refused}; again in {:?}", refused.retry_after());

    // A limit can be changed at any time.
    pool.update(Server::new("b").max_rps(1_000.0))?;
    for server in pool.status().servers {
        println!("{}: {:?} checkouts a second", server.name, server.max_rps);
    }
    Ok(())
}
