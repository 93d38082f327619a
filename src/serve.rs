//! What comes back, or comes from a dial, goes to the caller in front of the line, else to its server's idle queue.

use crate::connector::Connector;
use crate::server::{Entry, Grant, Hold, LiveServer, Now, Ring, Token, UNREAD, close, near};
use crate::sync::Arc;

impl<C: Connector> Ring<C> {
    /// Takes a connection back for reuse.
    #[inline]
    pub(crate) fn release(mut entry: Box<Entry<C>>) {
        // The entry owns the reference to its server; from the push on it is another's.
        let hold = entry.hold(near());
        let Hold { words, ring, .. } = &*hold;
        if !words.health.snapshot().is_unblemished() {
            entry.server().released(entry.generation);
        }
        if words.permits.is_over() {
            return close(entry);
        }
        entry.info.check_in(ring.tick().unwrap_or_else(|| ring.read_clock()));
        hold.put_back(entry);
    }

    /// A new connection: straight to the caller in front, if there is a token, else to the pool.
    pub(crate) fn offer(&self, entry: Box<Entry<C>>) {
        let may_serve = self.may_serve(entry.server());
        let mut entry = Some(entry);
        if may_serve {
            self.line.serve(|| self.grant_once(&mut entry));
        }
        if let Some(entry) = entry {
            keep_for_later(entry);
        }
    }

    /// Makes a grant of a new connection, if its server has a token and was not removed. Else the entry stays.
    pub(crate) fn grant_once(&self, entry: &mut Option<Box<Entry<C>>>) -> Option<Grant<C>> {
        let server = entry.as_ref()?.server();
        if server.idle.is_closed() {
            return None;
        }
        let token = Token::take(server.bucket().as_ref(), || self.clock.now_ns())?;
        entry.take().map(|entry| Grant { entry, token, fresh: true })
    }

    /// A caller left with what it was served with: the next gets it.
    pub(crate) fn pass_on(&self, grant: Grant<C>) {
        if let Some(token) = grant.token {
            token.undo();
        }
        keep_for_later(grant.entry);
    }

    /// Serves those who wait from all servers, then dials for those who still do.
    pub(crate) fn serve(self: &Arc<Self>) {
        if self.line.waiting() == 0 {
            return;
        }
        let near = near();
        let mut now = UNREAD;
        let mut rejected = Vec::new();
        {
            let list = self.list.load();
            let mut take = |server: &_| self.take_for_line(server, near, &mut now, &mut rejected);
            self.line.serve(|| {
                if list.up.is_empty() {
                    return self.cursors.pass(near, &list.servers, |server| take(server));
                }
                self.cursors.pass(near, &list.up, |turn| {
                    let is_up = turn.server.health.snapshot().is_up();
                    if is_up { take(&turn.server) } else { None }
                })
            });
        }
        drop(rejected);
        self.dial_for_line();
    }

    /// Takes a connection and a token of one server. The check is the receiver's.
    ///
    /// Runs under the line's lock: what must be closed is pushed to `rejected`.
    fn take_for_line(
        &self,
        server: &LiveServer<C>,
        near: usize,
        now: &mut Now,
        rejected: &mut Vec<Box<Entry<C>>>,
    ) -> Option<Grant<C>> {
        if server.idle.is_empty() {
            return None;
        }
        // Its own, and not that of the list: wakers run while the line is served, and may change the limit.
        let bucket = server.bucket();
        if bucket.as_ref().is_some_and(|bucket| !bucket.has_token(self.now(now))) {
            return None;
        }
        let entry = server.idle.pop(near)?;
        match Token::take(bucket.as_ref(), || self.now(now)) {
            Some(token) => Some(Grant { entry, token, fresh: false }),
            None => {
                server.keep(entry, near, |refused| rejected.push(refused));
                // Only entered: the bell wakes a task, which is not for under the lock.
                if let Some(at_ns) = server.down_until() {
                    self.enter_retry(at_ns);
                }
                None
            }
        }
    }

    /// Whether a server may serve: it is up, or none is.
    fn may_serve(&self, server: &LiveServer<C>) -> bool {
        server.health.snapshot().is_up() || self.list.load().up.is_empty()
    }
}

/// Puts a connection that no caller has into the pool, near this thread.
#[cold]
pub(crate) fn keep_for_later<C: Connector>(entry: Box<Entry<C>>) {
    entry.hold(near()).put_back(entry);
}

impl<C: Connector> Hold<C> {
    /// Puts a connection into its server's idle queue, near this hold's stripe, then serves those who wait from there.
    #[inline(always)]
    pub(crate) fn put_back(&self, entry: Box<Entry<C>>) {
        // What does not fit, or may not stay, is closed.
        self.words.keep(entry, self.near, close);
        // Behind the fence of `keep`: a probe may have missed this connection, which would have made room.
        self.ring.retry_if_down(&self.words);
        // Behind the same, which pairs with that of `Line::join`.
        if self.ring.line.waiting() > 0 {
            self.serve();
        }
    }

    /// Serves those who wait from this server.
    #[cold]
    fn serve(&self) {
        let ring = &self.ring;
        let Some(server) = self.server.upgrade().filter(|server| ring.may_serve(server)) else { return };
        let mut now = UNREAD;
        let mut rejected = Vec::new();
        ring.line.serve(|| ring.take_for_line(&server, self.near, &mut now, &mut rejected));
        drop(rejected);
        if ring.line.waiting() > 0 {
            if let Some(bucket) = server.bucket() {
                ring.ring_before(bucket.available_at());
            }
        }
    }
}
