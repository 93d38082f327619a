//! deadpool without timeouts, its default, and with a `recycle` that does nothing.

use std::convert::Infallible;

use deadpool::managed::{Manager, Metrics, Object, Pool, RecycleResult};

use super::{Async, open_all};

pub struct Deadpool(Pool<Numbers>);

pub struct Numbers;

impl Manager for Numbers {
    type Type = u64;
    type Error = Infallible;

    async fn create(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    async fn recycle(&self, _conn: &mut u64, _metrics: &Metrics) -> RecycleResult<Infallible> {
        Ok(())
    }
}

impl Deadpool {
    pub fn new(conns: u32) -> Self {
        let pool = Self(Pool::builder(Numbers).max_size(conns as usize).build().expect("a pool"));
        open_all(&pool, conns);
        pool
    }
}

impl Async for Deadpool {
    type Conn<'a> = Object<Numbers>;

    async fn acquire(&self) -> Self::Conn<'_> {
        self.0.get().await.expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        **conn
    }

    fn release(&self, conn: Self::Conn<'_>) {
        drop(conn);
    }
}
