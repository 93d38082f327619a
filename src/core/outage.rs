//! Whether the pool can serve callers at all, and whether it is worth their while to wait.

use crate::connector::Connector;
use crate::core::shared::Shared;
use crate::error::AcquireError;
use crate::raw::Time;

/// Why no caller can be served any more. A patient one waits for the first set of a followed stream.
pub(crate) fn ended<C: Connector>(shared: &Shared<C>, is_patient: bool) -> Option<AcquireError<C::Error>> {
    // Before the list: a set that comes in between is found there.
    let is_awaited = is_patient && shared.first_sets.are_awaited();
    let list = shared.servers.list();
    match list.closed {
        true => Some(AcquireError::Closed),
        false => (list.len == 0 && !is_awaited).then_some(AcquireError::NoServers),
    }
}

/// Whether there is a total outage: no server serves.
pub(crate) fn is_total_outage<C: Connector>(shared: &Shared<C>) -> bool {
    // During a change the count may be too low or the bits too many. Only both together show an outage.
    shared.servers.serving.serving() == 0 && shared.servers.list().up.is_empty()
}

/// The same, if there are servers.
fn is_total_outage_of_servers<C: Connector>(shared: &Shared<C>) -> bool {
    // Servers that are added serve before the list has them, so the look that counts comes after that at the list. The
    // first one is for speed.
    is_total_outage(shared) && shared.servers.list().len > 0 && is_total_outage(shared)
}

/// Whether there is a total outage, and callers shall not wait for its end.
pub(crate) fn fails_fast<C: Connector>(shared: &Shared<C>) -> bool {
    shared.settings.fail_fast_when_down && is_total_outage_of_servers(shared)
}

/// Whether all servers are disabled. Without servers there is another reason to give.
pub(crate) fn are_all_disabled<C: Connector>(shared: &Shared<C>) -> bool {
    let disabled = shared.servers.disabled();
    // Most pools have none, and need no look at the list.
    disabled > 0 && {
        let len = shared.servers.list().len;
        len > 0 && len <= disabled
    }
}

/// Whether a caller that waits until `deadline` would wait in vain: no server serves, is connected to or has an open
/// connection, and none is tried before then. Disabled servers do not count. Without servers it waits for those to
/// come.
pub(crate) fn is_pointless<C: Connector>(shared: &Shared<C>, deadline: Time) -> bool {
    let retry = || {
        let now = shared.clock.time();
        let own = shared.due_times.earliest(now, |number| resumes_at(shared, number, now));
        // Only servers that are down are tried ahead of their time.
        let ahead =
            shared.settings.outage_retry.filter(|_| !are_all_disabled(shared)).map(|_| shared.due_times.ahead());
        own.into_iter().chain(ahead).min().unwrap_or(Time::NEVER)
    };
    // The attempts before and after the retries: one that starts meanwhile is among the latter until then.
    let may_connect = || shared.attempts.running() > 0 && !are_all_disabled(shared);
    fails_fast(shared)
        || is_total_outage_of_servers(shared)
            && !may_connect()
            && retry() > deadline
            && !may_connect()
            && shared.servers.list().open.is_empty()
}

/// When connecting to a server resumes, by the current list: an older one may lack it.
pub(crate) fn resumes_at<C: Connector>(shared: &Shared<C>, number: usize, now: Time) -> Option<Time> {
    shared.servers.list().entry(number)?.server().resumes_at(now)
}
