//! The floor, as a contestant: no pool, but what a pool's work must cost.

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
