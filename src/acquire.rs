//! The one path to a connection: a pass over the servers, then the line.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::clock::{Clock, between, nanos};
use crate::connect::Connector;
use crate::dial::Reason;
use crate::error::{AcquireError, TryAcquireError};
use crate::raw::Place;
use crate::server::{Entry, List, LiveServer, Ring, Turn};
use crate::sync::Arc;

/// The time of one acquire: read at most once, and only if somebody asks.
struct Now<'a> {
    clock: &'a Clock,
    read: Option<u64>,
}

impl Now<'_> {
    fn get(&mut self) -> u64 {
        *self.read.get_or_insert_with(|| self.clock.now_ns())
    }
}

/// A connection, or why there is none.
pub(crate) type Acquired<C> = Result<Box<Entry<C>>, AcquireError<<C as Connector>::Error>>;

/// Why a server's turn gave no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Miss {
    Down,
    Limited,
    Empty,
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
    pub(crate) fn try_acquire(self: &Arc<Self>) -> Result<Box<Entry<C>>, TryAcquireError> {
        let list = self.list.load();
        if list.servers.is_empty() {
            return Err(if list.closed { TryAcquireError::Closed } else { TryAcquireError::NoServers });
        }
        // Those who wait come first.
        if self.line.waiting() == 0 {
            if let Some(entry) = self.pass(&list, Balance::InRuntime) {
                return Ok(entry);
            }
        }
        Err(TryAcquireError::Unavailable(self.counts()))
    }

    /// An idle connection, without waiting for anything but the task's turn.
    pub(crate) async fn acquire_idle(self: &Arc<Self>) -> Result<Option<Box<Entry<C>>>, AcquireError<C::Error>> {
        // A task that always finds a connection lets others run now and then.
        tokio::task::coop::consume_budget().await;
        let list = self.list.load();
        if let Some(ended) = ended(&list) {
            return Err(ended);
        }
        if !self.is_attended() {
            self.start_upkeep();
        }
        // Those who wait come first.
        if self.line.waiting() > 0 {
            return Ok(None);
        }
        Ok(self.pass(&list, Balance::IfServed))
    }

    /// See [`Pool::acquire`](crate::Pool::acquire).
    pub(crate) async fn acquire(self: &Arc<Self>, timeout: Option<Duration>) -> Acquired<C> {
        match self.acquire_idle().await? {
            Some(entry) => Ok(entry),
            None => self.wait(timeout).await,
        }
    }

    /// Joins the line and waits for its turn.
    #[cold]
    async fn wait(self: &Arc<Self>, timeout: Option<Duration>) -> Acquired<C> {
        let started_ns = self.clock.now_ns();
        let joined = self.line.join(self.settings.max_waiting);
        let place = joined.map_err(|waiting| AcquireError::Overloaded { waiting })?;
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

    /// Tries the servers that are up, each once; if none is, the idle connections of those that are down.
    fn pass(self: &Arc<Self>, list: &List<C>, balance: Balance) -> Option<Box<Entry<C>>> {
        let mut now = Now { clock: &self.clock, read: None };
        if let Some(retry_at) = self.next_retry() {
            if retry_at <= now.get() {
                self.probe(now.get());
            }
        }
        let mut empty: Option<&Arc<LiveServer<C>>> = None;
        let served = self.cursors.pass(&list.up, |turn| match self.take(turn, &mut now, false) {
            Ok(entry) => Some(entry),
            Err(miss) => {
                if miss == Miss::Empty && empty.is_none() && turn.server.permits.is_free() {
                    empty = Some(&turn.server);
                }
                None
            }
        });
        if let Some(server) = empty {
            let is_wanted = match balance {
                Balance::IfServed => served.is_some(),
                Balance::InRuntime => Handle::try_current().is_ok(),
            };
            if is_wanted {
                self.balance(server);
            }
        }
        if served.is_none() && list.up.is_empty() {
            return self.cursors.pass(&list.servers, |server| {
                let turn = Turn { server: Arc::clone(server), bucket: server.bucket() };
                self.take(&turn, &mut now, true).ok()
            });
        }
        served
    }

    /// Dials a server that was found empty, so that load does not stick to those dialled first.
    #[cold]
    fn balance(self: &Arc<Self>, server: &Arc<LiveServer<C>>) {
        if server.dialing() == 0 {
            self.dial(server, Reason::Balance);
        }
    }

    /// Takes a connection of one server: look for a token, pop, check, take the token last.
    fn take(&self, turn: &Turn<C>, now: &mut Now<'_>, last_resort: bool) -> Result<Box<Entry<C>>, Miss> {
        let Turn { server, bucket } = turn;
        if !last_resort && !server.health.snapshot().is_up() {
            return Err(Miss::Down);
        }
        if let Some(bucket) = bucket {
            if !bucket.has_token(now.get()) {
                return Err(Miss::Limited);
            }
        }
        loop {
            let mut entry = server.idle.pop().ok_or(Miss::Empty)?;
            if !self.is_good(&mut entry, now) {
                continue;
            }
            if let Some(bucket) = bucket {
                if bucket.take(now.get()).is_none() {
                    // Lost the race for the last token.
                    self.put_back(server, entry);
                    return Err(Miss::Limited);
                }
            }
            return Ok(entry);
        }
    }

    /// Whether a connection that was idle may be handed out.
    fn is_good(&self, entry: &mut Entry<C>, now: &mut Now<'_>) -> bool {
        let now_ns = self.tick().unwrap_or_else(|| now.get());
        let idle = entry.idle(now_ns);
        !self.is_over_age(entry, now_ns) && self.connector.is_reusable(&mut entry.conn, idle)
    }

    /// Whether a connection's time is over: its lifetime, its time idle, its runtime.
    pub(crate) fn is_over_age(&self, entry: &Entry<C>, now_ns: u64) -> bool {
        now_ns >= entry.expires_at
            || self.settings.idle_timeout.is_some_and(|timeout| entry.idle(now_ns) >= timeout)
            || entry.runtime != self.runtime.number()
    }

    /// Why nobody can be served any more.
    pub(crate) fn ended(&self) -> Option<AcquireError<C::Error>> {
        ended(&self.list.load())
    }
}

fn ended<C: Connector>(list: &List<C>) -> Option<AcquireError<C::Error>> {
    let ended = || if list.closed { AcquireError::Closed } else { AcquireError::NoServers };
    list.servers.is_empty().then(ended)
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
            let mut now = Now { clock: &ring.clock, read: None };
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
