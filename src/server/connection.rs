//! An open connection, and what the pool keeps about it.

use crate::close_reason::CloseReason;
use crate::conn_info::ConnInfo;
use crate::connector::{AfterUse, Connector, Ended};
use crate::raw::{HealthSnapshot, Outage, Time};
use crate::server::totals::Total;
use crate::server::{ConnectPermit, Generation, ServerRecord};
use crate::sync::Arc;

/// One connection, in a box that goes from the idle queue to the caller and back.
///
/// The fields drop in their order: the connection, then its record, which is the permit, also if the connection's drop
/// panics.
pub(crate) struct Connection<C: Connector> {
    pub(crate) conn: C::Conn,
    pub(crate) record: ConnRecord<C>,
    /// Asked after each use.
    pub(crate) connector: Arc<C>,
    /// When its lifetime ends.
    pub(crate) expires_at: Time,
}

impl<C: Connector> Connection<C> {
    pub(crate) fn new(conn: C::Conn, connector: Arc<C>, record: ConnRecord<C>, expires_at: Time) -> Self {
        Self { conn, record, connector, expires_at }
    }

    /// The server's outage number when its attempt began, or when it last came back well.
    pub(crate) fn outage(&self) -> Outage {
        self.record.outage
    }

    pub(crate) fn generation(&self) -> &Arc<Generation<C>> {
        self.record.generation()
    }

    pub(crate) fn server(&self) -> &Arc<ServerRecord<C>> {
        self.record.server()
    }

    #[inline(always)]
    pub(crate) fn info(&self) -> &ConnInfo {
        &self.record.info
    }

    #[inline(always)]
    pub(crate) fn info_mut(&mut self) -> &mut ConnInfo {
        &mut self.record.info
    }

    /// Why it may not be idle any longer, if its time is over.
    #[inline(always)]
    pub(crate) fn why_expired(&self, now: Time, idle_limit: Time) -> Option<CloseReason> {
        if now >= self.expires_at {
            return Some(CloseReason::MaxLifetime);
        }
        (now.counted_from(self.info().idle_since()) >= idle_limit).then_some(CloseReason::IdleTimeout)
    }

    /// Checks it out, if it may be used now: it is not past its lifetime or idle timeout, and the connector agrees.
    #[inline(always)]
    pub(crate) fn try_check_out(&mut self, now: Time, idle_limit: Time) -> bool {
        if self.why_expired(now, idle_limit).is_some() {
            return false;
        }
        self.record.info.check_out(now);
        self.connector.is_reusable(&mut self.conn, &self.record.info)
    }

    /// Asks the connector what happens after a use.
    #[inline(always)]
    pub(crate) fn after_use(&mut self, ended: Ended) -> AfterUse {
        /// Ends the use if the connector panics.
        struct EndsUse<'a, C: Connector>(&'a mut ConnRecord<C>);
        impl<C: Connector> Drop for EndsUse<'_, C> {
            fn drop(&mut self) {
                self.0.end_use(self.0.info.checked_out_at());
            }
        }
        let unless_it_returns = EndsUse(&mut self.record);
        let after_use = self.connector.after_use(&mut self.conn, ended);
        std::mem::forget(unless_it_returns);
        after_use
    }

    /// Moves it to another generation of the same epoch.
    pub(crate) fn move_to(&mut self, generation: Arc<Generation<C>>) {
        self.record.generation = generation;
    }
}

/// How an open connection counts in [`ServerRecord::answered`], under its outage number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// It has not come back well since it was opened.
    Unproven,
    /// It came back well.
    Proven,
    /// It does not count: a failure was reported since it came back well, or it closes.
    Disproven,
}

/// What the pool counts of a connection. It is the permit of the connection: when dropped, it counts the connection out
/// and releases the permit.
pub(crate) struct ConnRecord<C: Connector> {
    generation: Arc<Generation<C>>,
    info: ConnInfo,
    /// The health word that the last slow release saw, if the server was plainly up and the connection proven.
    /// Otherwise `HealthSnapshot::NONE`: the next return takes the slow path.
    noted: HealthSnapshot,
    /// See [`Connection::outage`].
    outage: Outage,
    /// The uses that the totals have of it, modulo 2³²: between two additions there are fewer.
    uses_in_totals: u32,
    proof: Proof,
    /// The caller has said how this use ended.
    has_verdict: bool,
    /// Why its connection closes.
    why: CloseReason,
    /// Its use counts in `ServerRecord::in_use`.
    is_in_load: bool,
}

impl<C: Connector> ConnRecord<C> {
    /// Of a new connection, whose attempt began under an outage number. Takes over the permit of the attempt; `None` if
    /// that has none any more.
    pub(crate) fn new(permit: ConnectPermit<C>, info: ConnInfo, outage: Outage) -> Option<Self> {
        let generation = permit.connected()?;
        generation.server.answered.count_unproven(outage);
        Some(Self {
            generation,
            info,
            noted: HealthSnapshot::NONE,
            outage,
            uses_in_totals: 0,
            proof: Proof::Unproven,
            has_verdict: false,
            why: CloseReason::Lost,
            is_in_load: false,
        })
    }

    /// Counts its use, which begins, in the load of its server.
    pub(crate) fn count_in_load(&mut self) {
        if !std::mem::replace(&mut self.is_in_load, true) {
            self.server().in_use.raise();
        }
    }

    /// Ends that count.
    #[inline(always)]
    pub(crate) fn end_load(&mut self) {
        if self.is_in_load {
            self.is_in_load = false;
            self.server().in_use.lower();
        }
    }

    /// Whether the slow path has noted a return of this connection in this tick, with the same health word.
    #[inline(always)]
    pub(crate) fn repeats_noted_return(&self, tick: Time, health: HealthSnapshot) -> bool {
        self.info.idle_since() == tick && self.noted == health
    }

    /// Its return was noted. Later ones in this tick repeat it, if it came back well and the server is plainly up.
    pub(crate) fn set_noted(&mut self) {
        let health = self.server().health.snapshot();
        let is_settled = health.is_plainly_up() && self.is_proven_under(health.outage());
        self.noted = if is_settled { health } else { HealthSnapshot::NONE };
    }

    /// Whether it came back well under an outage number, and no failure was reported since.
    pub(crate) fn is_proven_under(&self, outage: Outage) -> bool {
        self.proof == Proof::Proven && self.outage == outage
    }

    /// The connection came back well under an outage number.
    pub(crate) fn prove(&mut self, outage: Outage) {
        self.server().answered.count_proven(outage);
        self.set_proof(Proof::Proven);
        self.outage = outage;
    }

    /// What it told counts no more: a failure was reported.
    pub(crate) fn disprove(&mut self) {
        if self.proof == Proof::Proven {
            self.set_proof(Proof::Disproven);
        }
    }

    /// The connection no longer counts as open where its server's state is decided.
    pub(crate) fn count_out(&mut self) {
        self.set_proof(Proof::Disproven);
    }

    /// Takes back what the proof before it counted.
    fn set_proof(&mut self, proof: Proof) {
        let answered = &self.server().answered;
        match self.proof {
            Proof::Unproven => answered.discount_unproven(self.outage),
            Proof::Proven => answered.discount_proven(self.outage),
            Proof::Disproven => {}
        }
        self.proof = proof;
    }

    /// The caller says how this use ended. False if it has said so before.
    pub(crate) fn set_verdict(&mut self) -> bool {
        // The release must not count another one.
        self.noted = HealthSnapshot::NONE;
        !std::mem::replace(&mut self.has_verdict, true)
    }

    pub(crate) fn has_verdict(&self) -> bool {
        self.has_verdict
    }

    /// Ends a use. The totals get a checkout, but no success or failure. True if the caller has said how it ended.
    pub(crate) fn end_use(&mut self, now: Time) -> bool {
        // Until `set_noted`. A recycle also sets the idle time, and would look like a noted return.
        self.noted = HealthSnapshot::NONE;
        self.end_load();
        self.add_uses_to_totals();
        self.info.check_in(now);
        self.uses_in_totals = self.uses_in_totals.wrapping_add(1);
        self.server().count(Total::Checkouts, 1);
        std::mem::take(&mut self.has_verdict)
    }

    /// Adds the uses that the totals lack, which all ended well.
    pub(crate) fn add_uses_to_totals(&mut self) {
        let uses = self.info.uses() as u32;
        let new = uses.wrapping_sub(std::mem::replace(&mut self.uses_in_totals, uses));
        if new > 0 {
            self.server().count(Total::Checkouts, new.into());
            self.server().count(Total::Successes, new.into());
        }
    }

    /// Why the connection closes, if it does.
    pub(crate) fn set_close_reason(&mut self, why: CloseReason) {
        self.why = why;
    }

    pub(crate) fn server(&self) -> &Arc<ServerRecord<C>> {
        &self.generation.server
    }

    pub(crate) fn generation(&self) -> &Arc<Generation<C>> {
        &self.generation
    }
}

impl<C: Connector> Drop for ConnRecord<C> {
    fn drop(&mut self) {
        self.end_load();
        self.add_uses_to_totals();
        self.count_out();
        let server = self.server();
        server.count_close(self.why);
        // It runs user code, whose panic ends there.
        server.tell_closed(&self.info, self.why);
        server.permits.release();
        server.permit_freed();
    }
}
