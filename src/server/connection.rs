//! An open connection, what the pool keeps about it, and its permit.

use crate::conn_info::ConnInfo;
use crate::connector::Connector;
use crate::raw::{Outage, Time};
use crate::server::Generation;
use crate::sync::Arc;

/// One connection, in a box that goes from the idle queue to the caller and back.
///
/// The fields drop in their order: the connection, then its permit, also if the connection's drop panics.
pub(crate) struct Connection<C: Connector> {
    pub(crate) conn: C::Conn,
    pub(crate) permit: Permit<C>,
    pub(crate) info: ConnInfo,
    /// The server's outage number when the connection was opened or last came back well.
    pub(crate) outage: Outage,
    /// The outage number under which its next good return changes nothing but the tick. `Outage::NONE`: that return is
    /// the first one, or the caller has said how this use ended.
    pub(crate) ordinary: Outage,
    /// The caller has said how this use ended.
    pub(crate) has_verdict: bool,
    /// When it was last checked; when it was opened before that.
    pub(crate) checked_at: Time,
    /// When its lifetime ends.
    pub(crate) expires_at: Time,
}

impl<C: Connector> Connection<C> {
    pub(crate) fn generation(&self) -> &Arc<Generation<C>> {
        &self.permit.generation
    }

    /// Whether it may be checked out now, which it is then: not past its lifetime or idle timeout, and the connector
    /// agrees.
    #[inline(always)]
    pub(crate) fn is_reusable(&mut self, connector: &C, now: Time, idle_timeout: Time) -> bool {
        if now >= self.expires_at || now.counted_from(self.info.idle_since()) >= idle_timeout {
            return false;
        }
        self.info.check_out(now);
        connector.is_reusable(&mut self.conn, &self.info)
    }

    /// Moves it to another generation of the same epoch.
    pub(crate) fn move_to(&mut self, generation: Arc<Generation<C>>) {
        self.permit.generation = generation;
    }
}

/// The right to have one connection to a server open. Released when dropped.
pub(crate) struct Permit<C: Connector> {
    generation: Arc<Generation<C>>,
    /// The outage number under which its connection counts as one that has answered; `Outage::NONE` before the first
    /// good return.
    answered: Outage,
}

impl<C: Connector> Permit<C> {
    /// The outage number under which the connection came back well.
    #[inline(always)]
    pub(crate) fn answered(&self) -> Outage {
        self.answered
    }

    /// Counts a good return under an outage number; `Outage::NONE` takes the count back.
    pub(crate) fn count_answer(&mut self, outage: Outage) {
        let answered = &self.generation.server.answered;
        answered.discount(std::mem::replace(&mut self.answered, outage));
        if outage != Outage::NONE {
            answered.count(outage);
        }
    }
}

impl<C: Connector> Drop for Permit<C> {
    fn drop(&mut self) {
        self.generation.server.answered.discount(self.answered);
        self.generation.server.permits.release();
        self.generation.server.permit_freed();
    }
}

/// The right to open one connection to a server: a permit that counts as connecting. Released when dropped.
pub(crate) struct ConnectPermit<C: Connector> {
    /// Empty once it became a [`Permit`].
    generation: Option<Arc<Generation<C>>>,
}

impl<C: Connector> ConnectPermit<C> {
    /// Takes a permit, if one is free and fewer than `most` attempts run at the server.
    pub(crate) fn take(generation: &Arc<Generation<C>>, most: u32) -> Option<Self> {
        generation.server.permits.begin(most).then(|| Self { generation: Some(Arc::clone(generation)) })
    }

    /// The attempt succeeded: the connection keeps the permit.
    pub(crate) fn connected(mut self) -> Option<Permit<C>> {
        let generation = self.generation.take()?;
        generation.server.permits.connected();
        Some(Permit { generation, answered: Outage::NONE })
    }
}

impl<C: Connector> Drop for ConnectPermit<C> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation.take() {
            generation.server.permits.failed();
            generation.server.permit_freed();
        }
    }
}
