//! Helpers of the benchmarks: pools without sockets, whose connections are all open.

use std::io;

use connring::{Builder, Connector, Pool, PooledConn, connect_fn};
use tokio::runtime::Runtime;

/// Returns a current-thread runtime. Its tasks, including the pool's background task, run only inside `block_on`.
pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built")
}

/// Returns a builder of a pool whose connections are numbers, with `conns` connections to each server.
pub(crate) fn builder(servers: usize, conns: u32) -> Builder<impl Connector<Conn = u64>> {
    let connector = connect_fn(|_| async { Ok::<u64, io::Error>(1) });
    let addresses = (0..servers).map(|server| format!("server-{server}"));
    Pool::builder(connector).max_conns_per_server(conns).servers(addresses)
}

/// Builds the pool and opens all its connections. Returns them, checked out.
pub(crate) fn open_all<C: Connector>(runtime: &Runtime, builder: Builder<C>) -> (Pool<C>, Vec<PooledConn<C>>) {
    runtime.block_on(async {
        let pool = builder.build().expect("the settings are in range");
        let count: u32 = pool.status().servers.iter().map(|server| server.max_conns).sum();
        let mut conns = Vec::new();
        for _ in 0..count {
            conns.push(pool.acquire().await.expect("the servers accept"));
        }
        (pool, conns)
    })
}

/// Builds the pool and opens all its connections. Leaves them idle.
#[allow(dead_code, reason = "only some benchmarks use it")]
pub(crate) fn open<C: Connector>(runtime: &Runtime, builder: Builder<C>) -> Pool<C> {
    let (pool, conns) = open_all(runtime, builder);
    conns.into_iter().for_each(PooledConn::release);
    pool
}
