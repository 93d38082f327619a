//! A pool follows the SRV records of a name while they change: `cargo run -p connring-dns --example records_change`.
//!
//! Starts dnsmasq, which has to be installed, and three servers on 127.0.0.1 to 127.0.0.3.

use std::error::Error;
use std::net::Ipv4Addr;
use std::time::Duration;

use connring::{Connector, LoadBalancing, Pool, TcpConnector};
use connring_dns::Dns;
use connring_real_servers::{dnsmasq, free_port};
use tokio::net::TcpListener;
use tokio::time::sleep;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = free_port();
    for n in 1..=3 {
        let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, n), port)).await?;
        tokio::spawn(async move {
            let mut accepted = Vec::new();
            while let Ok(connection) = listener.accept().await {
                accepted.push(connection);
            }
        });
    }
    let record = |n, priority, weight| format!("srv-host=_db._tcp.test,s{n}.test,{port},{priority},{weight}\n");
    let hosts = "127.0.0.1 s1.test\n127.0.0.2 s2.test\n127.0.0.3 s3.test";
    let records = [record(1, 10, 3), record(2, 10, 1)].concat();
    let Some(mut name_server) = dnsmasq(hosts, &records) else { return Ok(()) };

    let second = Duration::from_secs(1);
    let dns = Dns::name_servers([name_server.socket_address()]).min_interval(second / 10).keep_absent(second / 2);
    let pool = Pool::builder(TcpConnector::new()).load_balancing(LoadBalancing::Weighted).build()?;
    let _follow = pool.follow(dns.services("_db._tcp.test")?)?;
    print("two servers", &pool, 2).await;

    name_server.set_config(&[record(1, 10, 3), record(2, 10, 1), record(3, 20, 1)].concat());
    print("a standby server is added", &pool, 3).await;

    name_server.set_config(&[record(2, 10, 1), record(3, 20, 1)].concat());
    print("the first server is removed", &pool, 2).await;

    name_server.kill();
    sleep(2 * second).await;
    print("the name server is dead", &pool, 2).await;
    Ok(())
}

/// Waits until the pool has so many servers, connects to them, and prints them.
async fn print<C: Connector>(title: &str, pool: &Pool<C>, servers: usize) {
    while pool.status().servers.len() != servers {
        sleep(Duration::from_millis(10)).await;
    }
    pool.warm_up(Duration::from_secs(5)).await;
    println!("{title}");
    for server in pool.status().servers {
        let state = if server.standby { "standby" } else { "in use" };
        println!("  {}  tier {}  weight {}  {:?}, {state}", server.address, server.tier, server.weight, server.state);
    }
}
