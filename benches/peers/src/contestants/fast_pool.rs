//! fast_pool with a check that does nothing. Its two timeouts, of the wait and of the check, cannot be turned off: an
//! unset timeout is zero.

use fast_pool::{ConnectionGuard, Manager, Pool};

use super::{Async, open_all};

pub struct FastPool(Pool<Numbers>);

pub struct Numbers;

impl Manager for Numbers {
    type Connection = u64;
    type Error = String;

    async fn connect(&self) -> Result<u64, String> {
        Ok(1)
    }

    async fn check(&self, _conn: &mut u64) -> Result<(), String> {
        Ok(())
    }
}

impl FastPool {
    pub fn new(conns: u32) -> Self {
        let pool = Pool::new(Numbers);
        pool.set_max_open(conns.into());
        pool.set_max_idle_conns(conns.into());
        let pool = Self(pool);
        open_all(&pool, conns);
        pool
    }
}

impl Async for FastPool {
    type Conn<'a> = ConnectionGuard<Numbers>;

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
