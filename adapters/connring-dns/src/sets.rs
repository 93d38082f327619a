//! The stream of server sets: asks, waits, and asks again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use connring::{Clock, Server};
use futures_core::Stream;
use futures_util::stream::{StreamExt, unfold};

use crate::policy::{Answer, Policy};

/// By how much longer than its interval a pause may be, so that many clients do not ask at once.
const SPREAD_RATIO: f64 = 0.1;

/// A stream of the servers of one name, for [`Pool::follow`](connring::Pool::follow).
///
/// It yields a set when the name first has records, and each time that the set changes. It never ends. It looks up only
/// while it is polled, inside a tokio runtime with its timer and I/O enabled. Dropped, it leaves nothing behind.
#[must_use = "a stream does nothing until it is polled"]
pub struct ServerSets {
    name: String,
    stream: Pin<Box<dyn Stream<Item = Vec<Server>> + Send>>,
}

impl ServerSets {
    pub(crate) fn new<A>(name: &str, policy: Policy, ask: impl FnMut() -> A + Send + 'static) -> Self
    where
        A: Future<Output = Answer> + Send + 'static,
    {
        let stream = unfold((policy, ask, None), |(mut policy, mut ask, mut next)| async move {
            loop {
                // Made at the first poll, because tokio's clock belongs to the runtime that polls.
                let (clock, due) = next.take().unwrap_or_else(|| (Clock::tokio(), Duration::ZERO));
                clock.sleep_until(due).await;
                let answer = ask().await;
                let now = clock.now();
                let step = policy.hear(answer, now);
                next = Some((clock, now + step.delay.mul_f64(1.0 + SPREAD_RATIO * random_ratio())));
                if let Some(set) = step.set {
                    return Some((set, (policy, ask, next)));
                }
            }
        });
        Self { name: name.to_owned(), stream: Box::pin(stream) }
    }

    /// Waits for the next set. The first one is what a pool can be built with before it follows the others; it comes
    /// once the name has records, so bound the wait.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next call goes on with the same look-up.
    pub async fn next_set(&mut self) -> Vec<Server> {
        // It never ends.
        self.stream.next().await.unwrap_or_default()
    }
}

impl Stream for ServerSets {
    type Item = Vec<Server>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.stream.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for ServerSets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSets").field("name", &self.name).finish_non_exhaustive()
    }
}

/// From 0 to 1. Each hasher has keys of its own.
fn random_ratio() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests;
