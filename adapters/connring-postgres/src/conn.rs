//! A connection: the client, and the task that drives it.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::{Either, join, select};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use crate::Error;
use crate::cancel::{GRACE, Place};
use crate::lingering::{Count, Lingers};
use crate::socket::Socket;

/// How long the end of a connection may take once it has no permit: the cancelling of its request, and the close by the
/// server.
pub(crate) const LONGEST_END: Duration = Duration::from_secs(1);

/// A connection to PostgreSQL: a [`Client`] by deref, for queries, transactions, `COPY` and prepared statements.
///
/// Requests go out in the order in which their futures are first polled, also before earlier ones are answered.
///
/// End all streams of rows, sinks of `COPY` and portals before you release or drop the connection: what is left of them
/// keeps the next request waiting. The client's `cancel_query` does not know the address of the server and fails. Drop
/// the connection instead, which cancels, or call `cancel_query_raw` with a socket of your own.
///
/// When the connection fails, its pending requests fail at once. The client says no more than that it is closed; the
/// cause is [`driver_error`](Self::driver_error).
#[derive(Debug)]
pub struct PostgresConn {
    // Before the driver, which ends when the client is dropped.
    client: Client,
    driver: Driver,
    pub(crate) place: Place,
    /// Its caller dropped it: a request may be running.
    pub(crate) is_cut_short: bool,
}

impl PostgresConn {
    /// Spawns the task of `connection`. `cancel` cancels a running request.
    pub(crate) fn spawn<C, F>(
        (client, connection): (Client, C),
        socket: Socket,
        place: Place,
        count: Count,
        cancel: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        C: Future<Output = Result<(), tokio_postgres::Error>> + Unpin + Send + 'static,
        F: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let (end, ends) = unbounded_channel();
        let error = Arc::default();
        let task = tokio::spawn(drive(connection, socket, Arc::clone(&error), ends, cancel));
        Self { client, driver: Driver { end, task, count, error }, place, is_cut_short: false }
    }

    /// Why the connection failed, if it did: a reset, an end of file, an answer that is none, or the last words of the
    /// server, such as that an administrator ended the session.
    pub fn driver_error(&self) -> Option<&tokio_postgres::Error> {
        self.driver.error.get()
    }

    /// Ends a transaction that may be open. Both requests are sent at the first poll.
    ///
    /// A `ROLLBACK` without a transaction would leave a warning in the server's log, so there is always one. In a
    /// failed transaction the `BEGIN` is refused.
    pub(crate) async fn roll_back(&self) -> Result<(), tokio_postgres::Error> {
        let (_, ended) = join(self.client.batch_execute("BEGIN"), self.client.batch_execute("ROLLBACK")).await;
        ended
    }

    /// Says goodbye, and waits until the server has closed.
    pub(crate) fn close(self) -> impl Future<Output = ()> + Send + 'static {
        let Self { client, mut driver, .. } = self;
        drop(client);
        // An error: the task has ended.
        let _result = driver.end.send(None);
        async move {
            let _ended = (&mut driver.task).await;
        }
    }
}

impl Deref for PostgresConn {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl DerefMut for PostgresConn {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A socket on which a session is being opened. Cut short or refused, it counts as lingering until the server has
/// closed: a session that was opened as far as the server knows takes a slot.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) socket: Socket,
    count: Count,
    is_open: bool,
}

impl Opening {
    pub(crate) fn new(socket: Socket, count: Count) -> Self {
        Self { socket, count, is_open: false }
    }

    /// The session is open.
    pub(crate) fn done(mut self) -> Socket {
        self.is_open = true;
        self.socket.share()
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if self.is_open {
            return;
        }
        // Without a runtime nothing is opened any more.
        let Ok(runtime) = Handle::try_current() else { return };
        let (socket, lingers) = (self.socket.share(), self.count.add());
        runtime.spawn(async move {
            // An error: it is shut down already.
            let _result = socket.shut_down();
            let _in_time = timeout(LONGEST_END, socket.closed()).await;
            // The count falls after the socket is closed.
            drop(socket);
            drop(lingers);
        });
    }
}

/// The task of a connection. Dropped, it counts as lingering until the task has ended.
#[derive(Debug)]
struct Driver {
    /// Told of a goodbye, during which the connection has its permit, by `None`.
    end: UnboundedSender<Option<Lingers>>,
    task: JoinHandle<()>,
    count: Count,
    error: Arc<OnceLock<tokio_postgres::Error>>,
}

impl Drop for Driver {
    fn drop(&mut self) {
        // An error: the task has ended.
        let _result = self.end.send(Some(self.count.add()));
    }
}

/// Drives a connection until it fails or its client is dropped. Then waits until the server has closed: it ends a
/// request that is still running. A goodbye is bounded by the pool; without a permit the bound is `LONGEST_END`.
async fn drive<C, F>(
    mut connection: C,
    socket: Socket,
    error: Arc<OnceLock<tokio_postgres::Error>>,
    mut ends: UnboundedReceiver<Option<Lingers>>,
    cancel: impl Fn() -> F,
) where
    C: Future<Output = Result<(), tokio_postgres::Error>> + Unpin,
    F: Future<Output = Result<(), Error>>,
{
    let (is_over, mut end) = match select(&mut connection, pin!(ends.recv())).await {
        Either::Left((result, _)) => {
            if let Err(cause) = result {
                // The first and only one.
                let _result = error.set(cause);
            }
            (true, Some(None))
        }
        Either::Right((end, _)) => (false, end),
    };
    let finish = async move {
        // A cancel that comes before its request does nothing, and each ends one request.
        while !is_over && timeout(GRACE, &mut connection).await.is_err() {
            let _result = cancel().await;
        }
        // Pending requests fail, and the server is told of an end that it does not know of.
        drop(connection);
        let _result = socket.shut_down();
        socket.closed().await;
    };
    let bound = async {
        while let Some(None) = end {
            end = ends.recv().await;
        }
        sleep(LONGEST_END).await;
    };
    // Drops the socket.
    select(pin!(finish), pin!(bound)).await;
    // The count falls after the socket is closed.
    drop((end, ends));
}
