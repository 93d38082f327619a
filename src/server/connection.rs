//! An open connection, what the pool keeps about it, and its permit.

use crate::close_reason::CloseReason;
use crate::conn_info::ConnInfo;
use crate::connector::{AfterUse, Connector, Ended};
use crate::raw::{Outage, Time};
use crate::server::totals::Total;
use crate::server::{Generation, ServerEntry};
use crate::sync::Arc;

/// One connection, in a box that goes from the idle queue to the caller and back.
///
/// The fields drop in their order: the connection, then its permit, also if the connection's drop panics.
pub(crate) struct Connection<C: Connector> {
    pub(crate) conn: C::Conn,
    pub(crate) permit: Permit<C>,
    /// Asked after each use.
    pub(crate) connector: Arc<C>,
    /// The tick in which its good returns change nothing: the first one in that tick changed all there was to change.
    /// `NOT_QUIET` before the first return, and where the caller has said how this use ended.
    pub(crate) quiet_in: Time,
    /// When its lifetime ends.
    pub(crate) expires_at: Time,
}

/// Neither a tick nor the value that stands for none, so that no tick equals it.
pub(crate) const NOT_QUIET: Time = Time::from_nanos(Time::NEVER.as_nanos() - 1);

impl<C: Connector> Connection<C> {
    pub(crate) fn new(conn: C::Conn, connector: Arc<C>, permit: Permit<C>, expires_at: Time) -> Self {
        Self { conn, permit, connector, quiet_in: NOT_QUIET, expires_at }
    }

    /// The server's outage number when the connection was opened or last came back well.
    pub(crate) fn outage(&self) -> Outage {
        self.permit.outage
    }

    pub(crate) fn generation(&self) -> &Arc<Generation<C>> {
        self.permit.generation()
    }

    #[inline(always)]
    pub(crate) fn info(&self) -> &ConnInfo {
        &self.permit.info
    }

    #[inline(always)]
    pub(crate) fn info_mut(&mut self) -> &mut ConnInfo {
        &mut self.permit.info
    }

    /// Why it may not be idle any longer, if its time is over.
    #[inline(always)]
    pub(crate) fn is_over(&self, now: Time, idle_timeout: Time) -> Option<CloseReason> {
        if now >= self.expires_at {
            return Some(CloseReason::MaxLifetime);
        }
        (now.counted_from(self.info().idle_since()) >= idle_timeout).then_some(CloseReason::IdleTimeout)
    }

    /// Whether it may be checked out now, which it is then: not past its lifetime or idle timeout, and the connector
    /// agrees.
    #[inline(always)]
    pub(crate) fn is_reusable(&mut self, now: Time, idle_timeout: Time) -> bool {
        if self.is_over(now, idle_timeout).is_some() {
            return false;
        }
        self.permit.info.check_out(now);
        self.connector.is_reusable(&mut self.conn, &self.permit.info)
    }

    /// Asks the connector what happens after a use.
    #[inline(always)]
    pub(crate) fn after_use(&mut self, ended: Ended) -> AfterUse {
        self.connector.after_use(&mut self.conn, ended)
    }

    /// Counts its use, which begins, in the server's word. Its return then takes the slow path, which ends the count.
    pub(crate) fn count_use(&mut self) {
        if !std::mem::replace(&mut self.permit.is_counted, true) {
            self.permit.server().in_use.raise();
            self.quiet_in = NOT_QUIET;
        }
    }

    /// Ends the count of its use. True if it was counted: from here on it is as if it had not been.
    pub(crate) fn end_counted_use(&mut self) -> bool {
        let was_counted = self.permit.end_count();
        if was_counted && !self.permit.has_verdict && self.info().uses() > 0 {
            // The tick of the last return: see `quiet_in`.
            self.quiet_in = self.info().idle_since();
        }
        was_counted
    }

    /// Moves it to another generation of the same epoch.
    pub(crate) fn move_to(&mut self, generation: Arc<Generation<C>>) {
        self.permit.right.generation = generation;
    }
}

/// The right to have one connection to a server open, with what is counted of the connection. Released when dropped.
pub(crate) struct Permit<C: Connector> {
    right: Right<C>,
    info: ConnInfo,
    /// The outage number under which its connection counts as one that has answered; `Outage::NONE` before the first
    /// good return.
    answered: Outage,
    /// See [`Connection::outage`].
    outage: Outage,
    /// How many uses the totals have of it, modulo 2³²: fewer come in one tick.
    counted: u32,
    /// Its connection has not come back well since it was opened, and counts as new.
    is_new: bool,
    /// The caller has said how this use ended.
    has_verdict: bool,
    /// Why its connection closes.
    why: CloseReason,
    /// Its use counts in `ServerEntry::in_use`.
    is_counted: bool,
}

impl<C: Connector> Permit<C> {
    fn end_count(&mut self) -> bool {
        let was_counted = std::mem::take(&mut self.is_counted);
        if was_counted {
            self.server().in_use.lower();
        }
        was_counted
    }

    /// The outage number under which the connection came back well.
    #[inline(always)]
    pub(crate) fn answered(&self) -> Outage {
        self.answered
    }

    /// Counts a good return under an outage number; `Outage::NONE` takes the count back.
    pub(crate) fn count_answer(&mut self, outage: Outage) {
        let answered = &self.right.generation.server.answered;
        answered.discount(std::mem::replace(&mut self.answered, outage));
        if outage != Outage::NONE {
            answered.count(outage);
            self.end_new();
            self.outage = outage;
        }
    }

    fn end_new(&mut self) {
        if std::mem::take(&mut self.is_new) {
            self.server().answered.discount_new(self.outage);
        }
    }

    /// The connection no longer counts as open where its server's state is decided.
    pub(crate) fn count_out(&mut self) {
        self.count_answer(Outage::NONE);
        self.end_new();
    }

    /// The caller says how this use ended. False if it has said so before.
    pub(crate) fn set_verdict(&mut self) -> bool {
        !std::mem::replace(&mut self.has_verdict, true)
    }

    pub(crate) fn has_verdict(&self) -> bool {
        self.has_verdict
    }

    /// Ends a use, which the totals get without a verdict. True if the caller has said how it ended.
    pub(crate) fn end_use(&mut self, now: Time) -> bool {
        self.end_count();
        self.count_uses();
        self.info.check_in(now);
        self.counted = self.counted.wrapping_add(1);
        self.server().count(Total::Checkouts, 1);
        std::mem::take(&mut self.has_verdict)
    }

    /// Adds the uses that the totals lack, which all ended well.
    pub(crate) fn count_uses(&mut self) {
        let uses = self.info.uses() as u32;
        let new = uses.wrapping_sub(std::mem::replace(&mut self.counted, uses));
        if new > 0 {
            self.server().count(Total::Checkouts, new.into());
            self.server().count(Total::Successes, new.into());
        }
    }

    /// Why the connection closes, if it does.
    pub(crate) fn set_close_reason(&mut self, why: CloseReason) {
        self.why = why;
    }

    pub(crate) fn server(&self) -> &Arc<ServerEntry<C>> {
        &self.right.generation.server
    }

    pub(crate) fn generation(&self) -> &Arc<Generation<C>> {
        &self.right.generation
    }
}

impl<C: Connector> Drop for Permit<C> {
    fn drop(&mut self) {
        self.end_count();
        self.count_uses();
        self.count_out();
        let server = self.server();
        server.count_close(self.why);
        // Last: it runs user code. The right is released also if that panics.
        server.closed(&self.info, self.why);
    }
}

/// Released when dropped, after what its connection leaves behind.
struct Right<C: Connector> {
    generation: Arc<Generation<C>>,
}

impl<C: Connector> Drop for Right<C> {
    fn drop(&mut self) {
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

    /// The attempt, which began under an outage number, succeeded: the connection keeps the permit.
    pub(crate) fn connected(mut self, info: ConnInfo, outage: Outage) -> Option<Permit<C>> {
        let generation = self.generation.take()?;
        generation.server.permits.connected();
        generation.server.answered.count_new(outage);
        Some(Permit {
            right: Right { generation },
            info,
            answered: Outage::NONE,
            outage,
            counted: 0,
            is_new: true,
            has_verdict: false,
            why: CloseReason::Lost,
            is_counted: false,
        })
    }
}

impl<C: Connector> Drop for ConnectPermit<C> {
    fn drop(&mut self) {
        if let Some(generation) = self.generation.take() {
            generation.server.permits.failed();
            generation.server.permit_freed();
            generation.server.notifier().attempt_ended.notify_waiters();
        }
    }
}
