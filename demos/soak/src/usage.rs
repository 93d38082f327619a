//! What the process uses: memory, descriptors, tasks.

use std::alloc::System;
use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use cap::Cap;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::servers::OwnServer;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

pub(crate) struct Usage {
    pub(crate) bytes: i64,
    pub(crate) descriptors: usize,
    pub(crate) tasks: usize,
}

impl Usage {
    fn now() -> io::Result<Self> {
        Ok(Self {
            bytes: ALLOCATOR.allocated() as i64,
            descriptors: fs::read_dir("/proc/self/fd")?.count(),
            tasks: Handle::current().metrics().num_alive_tasks(),
        })
    }

    /// The least of a second in which no server runs: tasks that end take their time.
    pub(crate) async fn settled(servers: &mut [OwnServer]) -> io::Result<Self> {
        for server in &mut *servers {
            server.kill().await;
        }
        let mut least = Self::now()?;
        for _ in 0..100 {
            sleep(Duration::from_millis(10)).await;
            let now = Self::now()?;
            least.bytes = least.bytes.min(now.bytes);
            least.descriptors = least.descriptors.min(now.descriptors);
            least.tasks = least.tasks.min(now.tasks);
        }
        for server in servers {
            server.restart().await?;
        }
        Ok(least)
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {} descriptors, {} tasks", self.bytes, self.descriptors, self.tasks)
    }
}
