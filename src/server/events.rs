//! Records what happens to a server and its connections: mostly one `tracing` event and one call of the observer. A
//! pause is an event only, a failed attempt a call only.
//!
//! No lock may be held: both run user code. A panic of a subscriber or an observer ends here: events come in the middle
//! of work, and while unwinding.

use std::error::Error;
use std::time::Duration;

use crate::close_reason::CloseReason;
use crate::conn_info::ConnInfo;
use crate::connector::Connector;
use crate::error::Failure;
use crate::observer::StateChange;
use crate::server::{Server, ServerRecord, quietly};
use crate::status::StateKind;

impl<C: Connector> ServerRecord<C> {
    /// Its state changed, and it was neither taken down nor disabled.
    pub(crate) fn tell_state(&self, to: StateKind, text: &'static str) {
        quietly(|| {
            tracing::info!(pool = %self.pool_name(), server = %self.config().name(), state = to.name(), "{text}");
        });
        self.tell_change(to, None, None);
    }

    /// It went down or was ejected.
    pub(crate) fn tell_down(&self, to: StateKind, cause: &Failure<C::Error>, retry_after: Duration) {
        quietly(|| {
            // The cause within the event: it costs nothing where no subscriber wants it.
            let (pool, state) = (self.pool_name(), to.name());
            tracing::warn!(
                %pool, server = %self.config().name(), state, cause = %chain(cause), ?retry_after, "server is {state}"
            );
        });
        self.tell_change(to, Some(cause), Some(retry_after));
    }

    /// It was disabled, for a time or by order only.
    pub(crate) fn tell_disabled(&self, ends_in: Option<Duration>) {
        quietly(|| {
            let (pool, state) = (self.pool_name(), StateKind::Disabled.name());
            let ends_in = ends_in.map(tracing::field::debug);
            tracing::info!(%pool, server = %self.config().name(), state, ends_in, "server is disabled");
        });
        self.tell_change(StateKind::Disabled, None, ends_in);
    }

    fn tell_change(
        &self,
        to: StateKind,
        cause: Option<&(dyn Error + Send + Sync + 'static)>,
        retry_after: Option<Duration>,
    ) {
        let from = self.swap_last_state(to);
        self.notifier().tell(|observer| {
            observer.state_changed(&self.config(), &StateChange { from, to, cause, retry_after });
        });
    }

    /// An attempt connected.
    pub(crate) fn tell_opened(&self, server: &Server, took: Duration) {
        quietly(|| {
            let pool = self.pool_name();
            tracing::debug!(%pool, server = %server.name(), connection = "open", "connection is open");
        });
        self.notifier().tell(|observer| observer.connected(server, took));
    }

    /// Connecting to it pauses after so many failures in a row.
    pub(crate) fn tell_pause(&self, cause: &Failure<C::Error>, failures: u32, retry_after: Duration) {
        quietly(|| {
            let pool = self.pool_name();
            tracing::warn!(
                %pool, server = %self.config().name(), cause = %chain(cause), failures, ?retry_after,
                "connecting pauses"
            );
        });
    }

    /// An attempt failed. The event comes with the pause, if connecting pauses for it.
    pub(crate) fn tell_connect_failed(&self, server: &Server, failure: &Failure<C::Error>, took: Duration) {
        self.notifier().tell(|observer| observer.connect_failed(server, failure, took));
    }

    /// A connection closed.
    pub(crate) fn tell_closed(&self, info: &ConnInfo, why: CloseReason) {
        let (server, uses) = (info.server(), info.uses());
        quietly(|| {
            let (pool, why) = (self.pool_name(), why.name());
            tracing::debug!(%pool, server = %server.name(), connection = "closed", why, uses, "connection is closed");
        });
        let notifier = self.notifier();
        notifier.tell(|observer| observer.closed(server, why, notifier.clock.time().since(info.opened_at()), uses));
    }
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
