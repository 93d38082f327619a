//! mobc without a check, lifetimes or a timeout. It spawns a task for each returned connection. Its metrics cannot be
//! turned off, but no recorder is installed, so they are discarded.

use std::convert::Infallible;

use mobc::{Connection, Manager, Pool, async_trait};

use super::{Async, open_all};

pub struct Mobc(Pool<Numbers>);

pub struct Numbers;

#[async_trait]
impl Manager for Numbers {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    async fn check(&self, conn: u64) -> Result<u64, Infallible> {
        Ok(conn)
    }
}

impl Mobc {
    pub fn new(conns: u32) -> Self {
        let builder = Pool::builder()
            .max_open(conns.into())
            .max_idle(conns.into())
            .max_lifetime(None)
            .max_idle_lifetime(None)
            .get_timeout(None)
            .test_on_check_out(false);
        let pool = Self(builder.build(Numbers));
        open_all(&pool, conns);
        pool
    }
}

impl Async for Mobc {
    type Conn<'a> = Connection<Numbers>;

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
