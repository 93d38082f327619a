//! The tasks that send requests through the pool.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use connring::{Pool, PooledConn, TcpConnector};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::args::Args;
use crate::now;
use crate::pace::{DueStarts, Pace};
use crate::protocol::{self, Answer, Protocol};
use crate::record::{Recorder, Roster};

/// How long a request may take on its connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The first number: from here on all have ten digits.
const FIRST_ID: u64 = 1_000_000_000;

/// Tasks under load.
pub(crate) struct Load {
    client: Arc<Client>,
    tasks: JoinSet<()>,
    pace: Option<Pace>,
}

/// What the tasks share.
struct Client {
    pool: Pool<TcpConnector>,
    protocol: Protocol,
    roster: Roster,
    recorder: Arc<Recorder>,
    next_id: AtomicU64,
    stopped: AtomicBool,
}

/// What one task uses again and again.
#[derive(Default)]
struct Buffers {
    request: Vec<u8>,
    expected: Vec<u8>,
    answer: Vec<u8>,
}

impl Load {
    pub(crate) fn start(
        args: &Args,
        pool: Pool<TcpConnector>,
        protocol: Protocol,
        roster: Roster,
        recorder: Arc<Recorder>,
        began: Instant,
    ) -> Self {
        let client = Arc::new(Client {
            pool,
            protocol,
            roster,
            recorder,
            next_id: AtomicU64::new(FIRST_ID),
            stopped: AtomicBool::new(false),
        });
        let pace = (args.rps > 0).then(|| Pace::start(began, args.rps));
        let mut tasks = JoinSet::new();
        for task in 0..args.tasks as usize {
            let (client, due) = (client.clone(), pace.as_ref().map(Pace::due));
            tasks.spawn(async move { client.send_requests(task, due).await });
        }
        Self { client, tasks, pace }
    }

    /// Lets each task finish the request that it is at. Returns how many requests were due that no task had begun.
    pub(crate) async fn stop(self) -> u64 {
        self.client.stopped.store(true, Ordering::Relaxed);
        let overdue = self.pace.map_or(0, Pace::stop);
        self.tasks.join_all().await;
        overdue
    }
}

impl Client {
    async fn send_requests(&self, task: usize, due: Option<Arc<DueStarts>>) {
        let mut buffers = Buffers::default();
        while !self.stopped.load(Ordering::Relaxed) {
            let intended = match &due {
                Some(due) => match due.next().await {
                    Some(intended) => intended,
                    None => break,
                },
                None => now(),
            };
            self.send_request(task, intended, &mut buffers).await;
        }
    }

    /// Sends one request, again and again until it has an answer.
    async fn send_request(&self, task: usize, mut intended: Instant, buffers: &mut Buffers) {
        loop {
            let called = now();
            let mut conn = match self.pool.acquire().await {
                Ok(conn) => conn,
                Err(error) => {
                    self.recorder.acquire_failed(task, &error);
                    // A real client does not ask again at once either.
                    return sleep(Duration::from_millis(10)).await;
                }
            };
            let acquired = now();
            self.recorder.acquired(task, acquired.saturating_duration_since(intended), acquired - called);

            let exchange = timeout(REQUEST_TIMEOUT, self.exchange(&mut conn, buffers)).await;
            let error = match exchange {
                Ok(Ok(true)) => {
                    self.recorder.answered(task, self.roster.place(PooledConn::info(&conn).server().address()));
                    return conn.release();
                }
                Ok(Ok(false)) => {
                    let info = PooledConn::info(&conn);
                    self.recorder.answered_wrong(task, info.server().address(), &buffers.expected, &buffers.answer);
                    return conn.fail("a wrong answer");
                }
                Ok(Err(error)) => {
                    self.recorder.io_error(task);
                    error
                }
                Err(_) => {
                    self.recorder.timed_out(task);
                    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
                }
            };
            // Its answer may still come, but on this connection, which is closed and never given to anybody else.
            conn.fail(error);
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            // The request has to be sent again, and is due now.
            intended = now();
        }
    }

    /// One request and its answer. True if that was the right one.
    async fn exchange(&self, conn: &mut PooledConn<TcpConnector>, buffers: &mut Buffers) -> io::Result<bool> {
        let Buffers { request, expected, answer } = buffers;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let info = PooledConn::info(conn);
        self.protocol.send.fill(id, info.server().address(), request);
        self.protocol.expect.fill(id, info.server().address(), expected);
        answer.clear();

        conn.write_all(request).await?;
        loop {
            if conn.read_buf(answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match protocol::judge(expected, answer) {
                Answer::Unfinished => {}
                Answer::Wrong => return Ok(false),
                // Nothing may come after it.
                Answer::Right => return Ok(!matches!(conn.try_read(&mut [0; 64]), Ok(1..))),
            }
        }
    }
}
