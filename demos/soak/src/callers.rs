//! Callers: each asks, reads, and ends its use in one of all ways, or is dropped in the middle.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use connring::{AcquireOptions, Pool, PooledConn, TcpConnector};
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::timeout;

/// What became of the requests.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    right: AtomicU64,
    wrong: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, wrong, refused, failed, dropped } = self;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "{} answers, {} of them wrong; {} acquires without a connection, {} requests failed, {} dropped",
            get(right) + get(wrong),
            get(wrong),
            get(refused),
            get(failed),
            get(dropped)
        )
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Sends requests until it is aborted.
pub(crate) async fn run(pool: Pool<TcpConnector>, seed: u64, counts: Arc<Counts>) {
    let (mut rng, mut id) = (Rng::with_seed(seed), seed << 32);
    loop {
        id += 1;
        // One in eight is dropped at a random moment, in the middle of whatever it does.
        let patience = match rng.u8(..8) {
            0 => Duration::from_micros(rng.u64(..3_000)),
            _ => Duration::from_secs(10),
        };
        let mut own = rng.fork();
        if timeout(patience, request(&pool, id, &mut own, &counts)).await.is_err() {
            count(&counts.dropped);
        }
        yield_now().await;
    }
}

async fn request(pool: &Pool<TcpConnector>, id: u64, rng: &mut Rng, counts: &Counts) {
    let acquired = match rng.u8(..8) {
        0 => pool.try_acquire().ok(),
        1 => pool.acquire_now().await.ok(),
        2 => pool.acquire_timeout(Duration::from_millis(rng.u64(..20))).await.ok(),
        3 => pool.acquire_with(AcquireOptions::new().fresh()).await.ok(),
        4 => pool.acquire_owned().await.ok(),
        _ => pool.acquire().await.ok(),
    };
    let Some(mut conn) = acquired else { return count(&counts.refused) };
    let address = PooledConn::info(&conn).server().address().to_owned();
    let expected = format!("{id} {address}\n");
    match timeout(Duration::from_millis(200), ask(&mut conn, id, expected.len())).await {
        Ok(Ok(answer)) if answer == expected.as_bytes() => {
            count(&counts.right);
            match rng.u8(..64) {
                0 => conn.discard(),
                1 => drop(conn),
                2 => drop(conn.detach()),
                3 => conn.report_success(),
                _ => conn.release(),
            }
        }
        Ok(Ok(answer)) => {
            eprintln!("{:?} instead of {expected:?}", String::from_utf8_lossy(&answer));
            count(&counts.wrong);
        }
        Ok(Err(error)) => {
            count(&counts.failed);
            match rng.u8(..4) {
                0 => conn.fail(&error),
                1 => conn.fail_for(&error, Duration::from_millis(100)),
                _ => conn.broken(&error),
            }
        }
        Err(elapsed) => {
            count(&counts.failed);
            conn.fail(&elapsed);
        }
    }
}

async fn ask(conn: &mut PooledConn<TcpConnector>, id: u64, length: usize) -> io::Result<Vec<u8>> {
    conn.write_all(format!("{id}\n").as_bytes()).await?;
    let mut answer = vec![0; length];
    conn.read_exact(&mut answer).await?;
    Ok(answer)
}
