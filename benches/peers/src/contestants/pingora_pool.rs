//! pingora-pool with one group of connections. pingora itself spawns a task to watch each idle connection. Here there
//! is no such task, and the connection carries its own key, so this contestant does less work than pingora.

use pingora_pool::{ConnectionMeta, ConnectionPool};

use super::Sync;

const GROUP: u64 = 1;

pub struct PingoraPool(ConnectionPool<ConnectionMeta>);

impl PingoraPool {
    pub fn new(conns: u32) -> Self {
        let pool = ConnectionPool::new(conns as usize);
        for id in 0..conns as i32 {
            let meta = ConnectionMeta::new(GROUP, id);
            pool.put(&meta, meta.clone());
        }
        Self(pool)
    }
}

impl Sync for PingoraPool {
    type Conn<'a> = ConnectionMeta;

    fn acquire(&self) -> Self::Conn<'_> {
        self.0.get(&GROUP).expect("a connection")
    }

    fn value(conn: &Self::Conn<'_>) -> u64 {
        conn.key
    }

    fn release(&self, conn: Self::Conn<'_>) {
        self.0.put(&conn.clone(), conn);
    }
}
