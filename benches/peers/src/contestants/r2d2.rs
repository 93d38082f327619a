//! r2d2 without a check at checkout and without lifetimes, so its reaper has no work. It is called in two ways: `get`,
//! which most programs use, sets a deadline; `try_get` reads no clock.

use std::convert::Infallible;

use r2d2::{ManageConnection, Pool, PooledConnection};

use super::Sync;

/// r2d2 called with `get`.
pub struct R2d2(Pool<Manager>);

/// r2d2 called with `try_get`.
pub struct R2d2Try(R2d2);

pub struct Manager;

impl ManageConnection for Manager {
    type Connection = u64;
    type Error = Infallible;

    fn connect(&self) -> Result<u64, Infallible> {
        Ok(1)
    }

    fn is_valid(&self, _conn: &mut u64) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _conn: &mut u64) -> bool {
        false
    }
}

impl R2d2 {
    pub fn new(conns: u32) -> Self {
        let builder = Pool::builder().max_size(conns).test_on_check_out(false).max_lifetime(None).idle_timeout(None);
        // Opens all connections.
        Self(builder.build(Manager).expect("a pool"))
    }
}

impl R2d2Try {
    pub fn new(conns: u32) -> Self {
        Self(R2d2::new(conns))
    }
}

impl Sync for R2d2 {
    type Conn<'a> = PooledConnection<Manager>;

    fn acquire(&self) -> Self::Conn<'_> {
        self.0.get().expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        **conn
    }

    fn release(&self, conn: Self::Conn<'_>) {
        drop(conn);
    }
}

impl Sync for R2d2Try {
    type Conn<'a> = PooledConnection<Manager>;

    fn acquire(&self) -> Self::Conn<'_> {
        self.0.0.try_get().expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        **conn
    }

    fn release(&self, conn: Self::Conn<'_>) {
        drop(conn);
    }
}
