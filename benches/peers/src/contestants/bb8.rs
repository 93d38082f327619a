//! bb8 without a check at checkout and without lifetimes, so it runs no reaper. Its timeout cannot be turned off, but
//! costs nothing unless a caller waits.

use std::convert::Infallible;

use bb8::{ManageConnection, Pool, PooledConnection};

use super::{Async, open_all};

pub struct Bb8(Pool<Manager>);

pub struct Manager;

impl ManageConnection for Manager {
    type Connection = u64;
    type Error = Infallible;

    async fn connect(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    async fn is_valid(&self, _conn: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _conn: &mut u64) -> bool {
        false
    }
}

impl Bb8 {
    pub fn new(conns: u32) -> Self {
        let builder = Pool::builder().max_size(conns).test_on_check_out(false).max_lifetime(None).idle_timeout(None);
        let pool = Self(builder.build_unchecked(Manager));
        open_all(&pool, conns);
        pool
    }
}

impl Async for Bb8 {
    type Conn<'a> = PooledConnection<'a, Manager>;

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
