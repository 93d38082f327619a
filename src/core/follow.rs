//! The task that applies a stream of server sets to a pool.
//!
//! It holds the pool weakly. It ends with the stream, and when the pool is closed, also while the stream is pending.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use futures_core::Stream;
use tokio::task::JoinHandle;
use tokio::task::coop::consume_budget;

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::core::{background, membership};
use crate::error::ServerError;
use crate::follow::FollowError;
use crate::server::{Notifier, Server};
use crate::sync::{Arc, Weak};

/// See [`Pool::follow`](crate::Pool::follow).
pub(crate) fn follow<C, S>(shared: &Arc<Shared<C>>, stream: S) -> Result<JoinHandle<()>, FollowError>
where
    C: Connector,
    S: Stream<Item: IntoIterator<Item: Into<Server>>> + Send + 'static,
{
    if shared.signals.is_closed() {
        return Err(FollowError::Closed);
    }
    // Forgets a runtime that was shut down.
    background::ensure(shared);
    let (runtime, _) = shared.runtime.adopt().ok_or(FollowError::NoRuntime)?;
    Ok(runtime.spawn(run(FirstSet::begin(shared), Arc::clone(&shared.notifier), stream)))
}

async fn run<C, S>(first: FirstSet<C>, notifier: Arc<Notifier>, stream: S)
where
    C: Connector,
    S: Stream<Item: IntoIterator<Item: Into<Server>>>,
{
    let (pool, mut first) = (first.pool.clone(), Some(first));
    let mut stream = pin!(stream);
    let mut closed = pin!(notifier.wait_until(|| notifier.signals.is_closed()));
    let mut next_set = async || {
        let next = poll_fn(|cx| match closed.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => stream.as_mut().poll_next(cx),
        });
        next.await.map(|set| set.into_iter().map(Into::into).collect::<Vec<Server>>())
    };
    while let Some(servers) = next_set().await {
        let Some(shared) = pool.upgrade() else { return };
        match membership::set_servers(&shared, &servers) {
            Ok(()) => drop(first.take()),
            Err(ServerError::Closed) => return,
            Err(refused) => tracing::warn!(
                pool = %notifier.name, cause = %refused, "a followed set of servers is refused, the servers stay"
            ),
        }
        drop(shared);
        // A stream that is always ready lets other tasks run now and then.
        consume_budget().await;
    }
}

/// A stream that has not delivered its first set. Callers await it until this is dropped.
struct FirstSet<C: Connector> {
    pool: Weak<Shared<C>>,
}

impl<C: Connector> FirstSet<C> {
    fn begin(shared: &Arc<Shared<C>>) -> Self {
        shared.first_sets.await_one();
        Self { pool: Arc::downgrade(shared) }
    }
}

impl<C: Connector> Drop for FirstSet<C> {
    fn drop(&mut self) {
        let Some(shared) = self.pool.upgrade() else { return };
        shared.first_sets.arrived();
        if shared.servers.list().len == 0 {
            // They find that there are no servers.
            shared.queue.wake_all();
        }
    }
}
