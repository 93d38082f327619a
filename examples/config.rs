//! The settings of a pool from a file, and from flags that override it.
//!
//! Run it with `cargo run --example config -- --max-conns-per-server 4`, or with `-- --help`. It needs the features
//! `serde` and `clap` of connring. The file is a text in this program, and nothing is connected to.

use clap::Parser;
use connring::{Pool, PoolConfig, TcpConnector};

const FILE: &str = r#"
    name = "sessions"
    max_conns_per_server = 32
    connect_timeout = "250ms"
    max_lifetime = "none"
    load_balancing = "weighted"

    servers = [
        "10.0.0.1:6379",
        { address = "10.0.0.2:6379", weight = 3 },
        { name = "far", address = "10.1.0.1:6379", max_rps = 500, tier = 1 },
    ]
"#;

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    pool: PoolConfig,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::parse();
    let file: PoolConfig = toml::from_str(FILE)?;
    let pool = Pool::builder(TcpConnector::new()).config(flags.pool.or(file)).build()?;
    println!("{}", pool.status());
    pool.close().await;
    Ok(())
}
