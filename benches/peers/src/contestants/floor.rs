//! The [`Floor`] as a contestant: a lower bound on the cost of a pool, not a pool.

use crate::floor::{Conn, Floor};

use super::{Async, Sync};

impl Sync for Floor {
    type Conn<'a> = Box<Conn>;

    fn acquire(&self) -> Self::Conn<'_> {
        self.acquire().expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        conn.value
    }

    fn release(&self, conn: Self::Conn<'_>) {
        conn.release();
    }
}

impl Async for Floor {
    type Conn<'a> = Box<Conn>;

    async fn acquire(&self) -> Self::Conn<'_> {
        self.acquire_async().await.expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        conn.value
    }

    fn release(&self, conn: Self::Conn<'_>) {
        conn.release();
    }
}
