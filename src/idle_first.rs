//! The future of an acquire: first what is idle, then the wait.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::task::coop::poll_proceed;

use crate::acquire::Acquired;
use crate::conn::PooledConn;
use crate::connector::Connector;
use crate::error::AcquireError;
use crate::server::Ring;
use crate::sync::Arc;

pin_project! {
    /// Looks for what is idle at its first poll, or the next if the task's budget is used up; from then on it is the
    /// wait. Does nothing before it is polled.
    ///
    /// No `async fn`: compilers leave the `poll` of that out of line, a tenth of the instructions of a cycle.
    #[project = State]
    pub(crate) enum IdleFirst<'a, C: Connector, F, W> {
        Look { ring: &'a Arc<Ring<C>>, wait: F },
        Wait { #[pin] waiting: W },
    }
}

impl<'a, C, F, W> IdleFirst<'a, C, F, W>
where
    C: Connector,
    F: Fn(&'a Arc<Ring<C>>) -> W,
    W: Future<Output = Acquired<C>>,
{
    /// Looks for what is idle; if nothing is, does what `wait` says.
    pub(crate) fn new(ring: &'a Arc<Ring<C>>, wait: F) -> Self {
        Self::Look { ring, wait }
    }
}

impl<'a, C, F, W> Future for IdleFirst<'a, C, F, W>
where
    C: Connector,
    F: Fn(&'a Arc<Ring<C>>) -> W,
    W: Future<Output = Acquired<C>>,
{
    type Output = Result<PooledConn<C>, AcquireError<C::Error>>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                State::Look { ring, wait } => {
                    // A task that always finds a connection lets others run now and then.
                    ready!(poll_proceed(cx)).made_progress();
                    if let Some(entry) = ring.acquire_idle() {
                        return Poll::Ready(Ok(PooledConn::new(entry)));
                    }
                    let waiting = wait(ring);
                    self.set(Self::Wait { waiting });
                }
                State::Wait { waiting } => return poll_out_of_line(waiting, cx).map_ok(PooledConn::new),
            }
        }
    }
}

/// Out of line, so that what callers inline is the look alone.
#[cold]
#[inline(never)]
fn poll_out_of_line<W: Future>(waiting: Pin<&mut W>, cx: &mut Context<'_>) -> Poll<W::Output> {
    waiting.poll(cx)
}
