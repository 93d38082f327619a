//! The load: tasks that send requests through a contestant.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::now;
use crate::pace::{DueStarts, Pace};
use crate::pools::Contestant;
use crate::protocol::{self, Answer, Protocol};
use crate::record::{Recorder, Roster, Times};
use crate::run::Setup;

/// The timeout of a request on its connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// The pause after a failed acquire if there is no pace, so that a task does not spin.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(10);

/// The first request number, with ten digits like all others.
const FIRST_ID: u64 = 1_000_000_000;

/// The running tasks and their pace.
pub(crate) struct Load<C> {
    client: Arc<Client<C>>,
    tasks: JoinSet<()>,
    pace: Option<Pace>,
}

/// The state that the tasks share.
struct Client<C> {
    contestant: C,
    protocol: Protocol,
    roster: Roster,
    recorder: Arc<Recorder>,
    next_id: AtomicU64,
    stopped: AtomicBool,
}

/// The buffers of a task, reused for all its requests.
#[derive(Default)]
struct Buffers {
    request: Vec<u8>,
    expected: Vec<u8>,
    answer: Vec<u8>,
}

impl<C: Contestant> Load<C> {
    pub(crate) fn start(setup: &Setup<'_>, contestant: C, recorder: Arc<Recorder>, began: Instant) -> Self {
        let client = Arc::new(Client {
            contestant,
            protocol: setup.protocol.clone(),
            roster: setup.roster.clone(),
            recorder,
            next_id: AtomicU64::new(FIRST_ID),
            stopped: AtomicBool::new(false),
        });
        let pace = (setup.args.rps > 0).then(|| Pace::start(began, setup.args.rps));
        let mut tasks = JoinSet::new();
        for task in 0..setup.args.tasks as usize {
            let (client, due) = (client.clone(), pace.as_ref().map(Pace::due));
            tasks.spawn(async move { client.send_requests(task, due).await });
        }
        Self { client, tasks, pace }
    }

    /// Stops each task after its current request. Returns the number of requests that were due but not begun.
    pub(crate) async fn stop(self) -> u64 {
        self.client.stopped.store(true, Ordering::Relaxed);
        let overdue = self.pace.map_or(0, Pace::stop);
        self.tasks.join_all().await;
        overdue
    }
}

impl<C: Contestant> Client<C> {
    async fn send_requests(&self, task: usize, due: Option<Arc<DueStarts>>) {
        let mut buffers = Buffers::default();
        while !self.stopped.load(Ordering::Relaxed) {
            let Some(due) = &due else {
                if !self.send_request(task, now(), &mut buffers).await {
                    sleep(PAUSE_AFTER_FAILURE).await;
                }
                continue;
            };
            let Some(due_at) = due.next().await else { break };
            self.send_request(task, due_at, &mut buffers).await;
        }
    }

    /// Sends one request, again on another connection if its connection breaks. Returns false if an acquire failed.
    async fn send_request(&self, task: usize, mut due_at: Instant, buffers: &mut Buffers) -> bool {
        loop {
            let called = now();
            let acquired = self.contestant.acquire().await;
            let ended = now();
            let times = Times { since_due: ended.saturating_duration_since(due_at), in_call: ended - called };
            let mut conn = match acquired {
                Ok(conn) => conn,
                Err(error) => {
                    self.recorder.acquire_failed(task, times, &error);
                    return false;
                }
            };
            self.recorder.acquired(task, times);

            let server = C::server(&conn);
            let exchange = self.exchange(&server, C::stream(&mut conn), buffers);
            let exchange = timeout(REQUEST_TIMEOUT, exchange).await;
            match exchange {
                Ok(Ok(true)) => {
                    self.recorder.answered(task, self.roster.place(&server));
                    C::release(conn);
                    return true;
                }
                Ok(Ok(false)) => {
                    self.recorder.answered_wrong(task, &server, &buffers.expected, &buffers.answer);
                    C::fail(conn, io::Error::other("wrong answer"));
                    return true;
                }
                Ok(Err(error)) => {
                    self.recorder.io_error(task);
                    // One that broke at its first use counts against its server.
                    if C::is_reused(&conn) { C::broken(conn, error) } else { C::fail(conn, error) }
                }
                Err(_) => {
                    self.recorder.timed_out(task);
                    // A late answer can only arrive on this connection, which is closed and not reused.
                    C::fail(conn, io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
                }
            }
            if self.stopped.load(Ordering::Relaxed) {
                return true;
            }
            // The request is due again immediately.
            due_at = now();
        }
    }

    /// Sends one request and reads its answer. Returns true if the answer is correct.
    async fn exchange(&self, server: &str, stream: &mut TcpStream, buffers: &mut Buffers) -> io::Result<bool> {
        let Buffers { request, expected, answer } = buffers;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        self.protocol.send.fill(id, server, request);
        self.protocol.expect.fill(id, server, expected);
        answer.clear();

        stream.write_all(request).await?;
        loop {
            if stream.read_buf(answer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match protocol::judge(expected, answer) {
                Answer::Unfinished => {}
                // An error of the Redis protocol: the server refuses, but answers no other request.
                Answer::Wrong if answer.starts_with(b"-") => return Err(io::Error::other("error reply")),
                Answer::Wrong => return Ok(false),
                // Further bytes would belong to another answer.
                Answer::Right => return Ok(!matches!(stream.try_read(&mut [0; 64]), Ok(1..))),
            }
        }
    }
}
