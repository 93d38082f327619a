//! The lifecycle of servers, pools and runtimes, and that each is freed at its end.

mod closing;
mod dropping;
mod identity;
mod records;
mod resets;
mod runtimes;
mod servers;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use connring::test_util::{ScriptedConn, ScriptedConnector, ScriptedError};
use connring::{AcquireError, Clock, Connector, Pool, PooledConn};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, yield_now};

const MS: Duration = Duration::from_millis(1);

/// A scripted connector with a weak reference that tells whether the pool still holds it.
struct Owned {
    scripted: ScriptedConnector,
    _alive: Arc<()>,
}

impl Owned {
    fn new(clock: &Clock) -> (Self, ScriptedConnector, Weak<()>) {
        let (scripted, alive) = (ScriptedConnector::new(clock.clone()), Arc::new(()));
        let weak = Arc::downgrade(&alive);
        (Self { scripted: scripted.clone(), _alive: alive }, scripted, weak)
    }
}

impl Connector for Owned {
    type Conn = ScriptedConn;
    type Error = ScriptedError;

    async fn connect(&self, server: &connring::Server) -> Result<ScriptedConn, ScriptedError> {
        self.scripted.connect(server).await
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime can be built")
}

type Acquiring = JoinHandle<Result<PooledConn<ScriptedConnector>, AcquireError<ScriptedError>>>;

fn acquiring(pool: &Pool<ScriptedConnector>) -> Acquiring {
    let pool = pool.clone();
    tokio::spawn(async move { pool.acquire().await })
}

async fn is_pending<F: Future + ?Sized>(mut future: Pin<&mut F>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Runs a future that completes without the passage of time, and returns its output.
async fn soon<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    for _ in 0..1_000 {
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return output;
        }
        yield_now().await;
    }
    panic!("the future hangs");
}
