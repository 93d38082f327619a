//! Runs a hook of the connector on a connection which no caller has, within the connect timeout.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::clock::Clock;
use crate::close_reason::CloseReason;
use crate::connector::Connector;
use crate::core::attempt_counts::Counted;
use crate::core::shared::Shared;
use crate::server::Generation;

/// How a hook ended.
pub(crate) enum HookEnd<E> {
    Passed,
    Failed(E),
    TimedOut,
    /// The epoch ended before it. Says why the connection closes.
    Ended(CloseReason),
}

/// Runs a hook as an attempt runs: it ends with the epoch, and after the connect timeout in the time that the runtime
/// really ran. A recycle no longer counts as young after the hedge delay.
pub(crate) async fn run_hook<C: Connector>(
    shared: &Shared<C>,
    generation: &Generation<C>,
    counted: &mut Counted,
    hook: impl Future<Output = Result<(), C::Error>>,
) -> HookEnd<C::Error> {
    let mut ended = pin!(generation.over());
    let hedge_at = shared.clock.time().after(shared.settings.hedge_after(generation.server.connect_time()));
    let mut hedge = pin!(shared.clock.sleep_until_time(hedge_at));
    let mut timeout = pin!(time_out(&shared.clock, shared.settings.connect_timeout));
    let mut hook = pin!(hook);
    poll_fn(|cx| {
        if let Poll::Ready(why) = ended.as_mut().poll(cx) {
            return Poll::Ready(HookEnd::Ended(why));
        }
        // Before the hook, which may use up the task's budget: then no timer is ever due.
        let is_over = timeout.as_mut().poll(cx).is_ready();
        if counted.is_young() && hedge.as_mut().poll(cx).is_ready() {
            counted.grow_late();
        }
        match hook.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_or_else(HookEnd::Failed, |()| HookEnd::Passed)),
            Poll::Pending if is_over => Poll::Ready(HookEnd::TimedOut),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Ends when the runtime has run for `timeout`. A stall of the client (a thread that computes, a frozen process) is not
/// the server's fault: a slice of the time whose end is noticed late by another slice does not count.
pub(crate) async fn time_out(clock: &Clock, timeout: Duration) {
    const SLICE: Duration = Duration::from_millis(100);
    let mut left = timeout;
    while !left.is_zero() {
        let slice = left.min(SLICE);
        let end = clock.time().after(slice);
        clock.sleep_until_time(end).await;
        if clock.time().since(end) < SLICE {
            left -= slice;
        }
    }
}
