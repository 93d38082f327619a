//! The one path to a connection: a pass over the servers, then the line.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::{between, nanos};
use crate::connector::Connector;
use crate::dial::Reason;
use crate::error::{AcquireError, TryAcquireError};
use crate::raw::{Bucket, Place};
use crate::serve::keep_for_later;
use crate::server::{Entry, LiveServer, Now, Ring, Seat, Seats, Turn, UNREAD, close, near};
use crate::sync::Arc;

/// A connection, or why there is none.
pub(crate) type Acquired<C> = Result<Box<Entry<C>>, AcquireError<<C as Connector>::Error>>;

/// Why a server's turn gave no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Miss {
    Limited,
    Empty,
    /// One was popped, and closed.
    Dead,
}

/// When a pass asks to dial the first server that it found empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Balance {
    /// If another served.
    IfServed,
    /// If there is a runtime to dial on.
    InRuntime,
}

impl<C: Connector> Ring<C> {
    /// See [`Pool::try_acquire`](crate::Pool::try_acquire).
    #[inline]
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Result<Box<Entry<C>>, TryAcquireError> {
        self.take_idle(Balance::InRuntime).ok_or_else(|| self.refusal())
    }

    #[cold]
    fn refusal(&self) -> TryAcquireError {
        let list = self.list.load();
        match (list.closed, list.servers.is_empty()) {
            (true, _) => TryAcquireError::Closed,
            (false, true) => TryAcquireError::NoServers,
            (false, false) => TryAcquireError::Unavailable(self.counts()),
        }
    }

    /// An idle connection for an async caller, who has spent some of its task's budget for it.
    #[inline]
    pub(crate) fn acquire_idle(self: &Arc<Self>) -> Option<Box<Entry<C>>> {
        if !self.is_attended() {
            self.start_upkeep();
        }
        self.take_idle(Balance::IfServed)
    }

    /// An idle connection, if nobody waits.
    #[inline]
    fn take_idle(self: &Arc<Self>, balance: Balance) -> Option<Box<Entry<C>>> {
        match self.take_first() {
            Ok(entry) => Some(entry),
            Err(now) => self.take_any(balance, now),
        }
    }

    /// The hot path: a connection near this thread, of the server whose turn it is. Whatever stands in its way is left
    /// to `take_any`, which looks everywhere.
    fn take_first(self: &Arc<Self>) -> Result<Box<Entry<C>>, Now> {
        if self.line.waiting() > 0 {
            return Err(UNREAD);
        }
        let mut now = UNREAD;
        if let Some(retry_at) = self.next_retry() {
            now = self.probe_if_due(retry_at);
        }
        let taken = self.with_seats(|Seats { seats, limited }, near| {
            if *limited {
                // Here rather than where it is needed, which would take more registers.
                self.now(&mut now);
            }
            let Seat { words, bucket } = self.cursors.turn(near, seats).ok_or(now)?;
            if !words.health.snapshot().is_up() {
                return Err(now);
            }
            self.take(bucket.as_ref(), &mut now, || words.idle.pop_near(near)).map_err(|_| now)
        });
        taken.unwrap_or_else(|| self.skip_turn(now))
    }

    /// A server is Down: starts the probes that are due. Returns the time.
    #[cold]
    fn probe_if_due(self: &Arc<Self>, retry_at: u64) -> Now {
        let now_ns = self.clock.now_ns();
        if retry_at <= now_ns {
            self.probe(now_ns);
        }
        now_ns
    }

    /// This thread does not remember the list that counts. It will the next time.
    #[cold]
    fn skip_turn(&self, now: Now) -> Result<Box<Entry<C>>, Now> {
        let list = self.list.load();
        self.remember(&list);
        self.cursors.turn(near(), &list.up);
        Err(now)
    }

    /// After `acquire_idle` found nothing: joins the line and waits for its turn.
    pub(crate) async fn wait(self: &Arc<Self>, timeout: Option<Duration>) -> Acquired<C> {
        if let Some(ended) = self.ended() {
            return Err(ended);
        }
        let started_ns = self.clock.now_ns();
        let joined = self.line.join(self.settings.max_waiters);
        let place = joined.map_err(|waiting| AcquireError::QueueFull { waiters: waiting })?;
        let mut waiter = Waiter { ring: self, place };
        if waiter.place.found_nobody() {
            // While nobody waits nobody rings: the task that watches may sleep beyond a token or a retry of since then.
            self.something_changed();
        }
        // What came between the pass and the join is there for whoever is in front.
        self.serve();
        let deadline_ns = timeout.map_or(u64::MAX, |timeout| started_ns.saturating_add(nanos(timeout)));
        let ended = self.clock.until_ns(deadline_ns, poll_fn(|cx| waiter.poll(cx))).await;
        ended.unwrap_or_else(|| {
            // Out of the line first: it does not count among those who come before it.
            drop(waiter);
            let waited = between(started_ns, self.clock.now_ns());
            Err(AcquireError::Timeout { waited, reason: self.unavailable() })
        })
    }

    /// Tries the servers that are up, each once, from the one whose turn it was; if none is up, the idle connections of
    /// those that are down. Asks for a dial to the first that was found empty, so that load does not stick to those
    /// dialled first.
    #[cold]
    fn take_any(self: &Arc<Self>, balance: Balance, mut now: Now) -> Option<Box<Entry<C>>> {
        // Those who wait come first.
        if self.line.waiting() > 0 {
            return None;
        }
        let list = self.list.load();
        let near = near();
        let mut take = |server: &LiveServer<C>, bucket: Option<&Arc<Bucket>>| loop {
            match self.take(bucket, &mut now, || server.idle.pop(near)) {
                Err(Miss::Dead) => {}
                taken => return taken,
            }
        };
        if list.up.is_empty() {
            return self.cursors.pass(near, &list.servers, |server| take(server, server.bucket().as_ref()).ok());
        }
        let mut empty = None;
        let served = self.cursors.go_on(near, &list.up, |turn| {
            let Turn { server, bucket } = turn;
            if !server.health.snapshot().is_up() {
                return None;
            }
            let taken = take(server, bucket.as_ref());
            if matches!(taken, Err(Miss::Empty)) && server.permits.is_free() {
                empty.get_or_insert(server);
            }
            taken.ok()
        });
        if let Some(server) = empty.filter(|server| server.dialing() == 0) {
            let is_wanted = match balance {
                Balance::IfServed => served.is_some(),
                Balance::InRuntime => Handle::try_current().is_ok(),
            };
            if is_wanted {
                self.dial(server, Reason::Balance);
            }
        }
        served
    }

    /// Takes a connection of one server: look for a token, pop, check, take the token last.
    #[inline(always)]
    fn take(
        &self,
        bucket: Option<&Arc<Bucket>>,
        now: &mut Now,
        pop: impl Fn() -> Option<Box<Entry<C>>>,
    ) -> Result<Box<Entry<C>>, Miss> {
        let Some(bucket) = bucket else { return self.pop_good(now, pop) };
        let seen = bucket.look(self.now(now)).ok_or(Miss::Limited)?;
        let entry = self.pop_good(now, pop)?;
        if bucket.take_seen(seen).is_none() {
            // Another took the last token.
            keep_for_later(entry);
            return Err(Miss::Limited);
        }
        Ok(entry)
    }

    /// Pops one and checks it. One that is no good is closed.
    #[inline(always)]
    fn pop_good(&self, now: &mut Now, pop: impl Fn() -> Option<Box<Entry<C>>>) -> Result<Box<Entry<C>>, Miss> {
        let mut entry = pop().ok_or(Miss::Empty)?;
        if self.is_good(&mut entry, now) {
            return Ok(entry);
        }
        close(entry);
        Err(Miss::Dead)
    }

    /// Whether a connection that was idle may be handed out.
    #[inline(always)]
    fn is_good(&self, entry: &mut Entry<C>, now: &mut Now) -> bool {
        let now_ns = self.tick().unwrap_or_else(|| self.now(now));
        entry.info.check_out(now_ns);
        !self.is_over_age(entry, now_ns) && self.connector.is_reusable(&mut entry.conn, &entry.info)
    }

    /// Whether a connection's time is over: its lifetime, its time idle, its runtime.
    #[inline]
    pub(crate) fn is_over_age(&self, entry: &Entry<C>, now_ns: u64) -> bool {
        now_ns >= entry.expires_at
            || now_ns.saturating_sub(entry.info.idle_since()) >= self.idle_timeout_ns
            || entry.runtime != self.runtime.number()
    }

    /// Why nobody can be served any more.
    pub(crate) fn ended(&self) -> Option<AcquireError<C::Error>> {
        let list = self.list.load();
        let ended = || if list.closed { AcquireError::Closed } else { AcquireError::NoServers };
        list.servers.is_empty().then(ended)
    }
}

/// A caller in the line. If it leaves, what it was served with is passed on.
struct Waiter<'a, C: Connector> {
    ring: &'a Arc<Ring<C>>,
    place: Place,
}

impl<C: Connector> Waiter<'_, C> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Acquired<C>> {
        let ring = self.ring;
        while let Some(mut grant) = ring.line.poll(&mut self.place, cx.waker()) {
            let mut now = UNREAD;
            if grant.fresh || ring.is_good(&mut grant.entry, &mut now) {
                return Poll::Ready(Ok(grant.entry));
            }
            // A dead one: back to the old place, then whatever else there is. The entry goes last: its permit rings.
            if let Some(token) = grant.token {
                token.undo();
            }
            ring.line.rejoin(&mut self.place);
            drop(grant.entry);
            ring.serve();
        }
        // Behind the waker's registration: who ends the wait after this look wakes us.
        if let Some(ended) = ring.ended() {
            return Poll::Ready(Err(ended));
        }
        ring.watch();
        Poll::Pending
    }
}

impl<C: Connector> Drop for Waiter<'_, C> {
    fn drop(&mut self) {
        if let Some(grant) = self.ring.line.leave(&mut self.place) {
            self.ring.pass_on(grant);
        }
    }
}
