//! What the benchmarks share: a pool without sockets, all of whose connections are open and idle.

use std::io;

use connring::{Builder, Connector, Pool, PooledConn, connect_fn};
use tokio::runtime::Runtime;

/// A runtime of this thread alone. Its tasks, upkeep among them, run only while somebody blocks on it.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Servers whose connections are numbers and cost nothing to dial.
pub(crate) fn builder(servers: usize, conns: u32) -> Builder<impl Connector<Conn = u64>> {
    let connector = connect_fn(|_| async { Ok::<u64, io::Error>(1) });
    let addresses = (0..servers).map(|server| format!("server-{server}"));
    Pool::builder(connector).max_conns_per_server(conns).servers(addresses)
}

/// Builds the pool, and acquires as many connections as there may be.
pub(crate) fn open_all<C: Connector>(runtime: &Runtime, builder: Builder<C>) -> (Pool<C>, Vec<PooledConn<C>>) {
    runtime.block_on(async {
        let pool = builder.build().expect("in range");
        let count: u32 = pool.status().servers.iter().map(|server| server.max_conns).sum();
        let mut conns = Vec::new();
        for _ in 0..count {
            conns.push(pool.acquire().await.expect("all accept"));
        }
        (pool, conns)
    })
}

/// Builds the pool, and lets all its connections be idle.
#[allow(dead_code, reason = "not each benchmark needs it")]
pub(crate) fn open<C: Connector>(runtime: &Runtime, builder: Builder<C>) -> Pool<C> {
    let (pool, conns) = open_all(runtime, builder);
    conns.into_iter().for_each(PooledConn::release);
    pool
}
