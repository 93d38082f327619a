//! One use of a connection: a request and its response, and what they say of the server.

#![allow(clippy::disallowed_methods, reason = "the times are those of tokio's timers, which a test can pause")]

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use connring::{Connector, PooledConn};
use tokio::time::Instant;

use crate::progress::{Bound, Progress, Silent};

/// How long a response goes on, or a server keeps silent, before that says something of the server. It is the pool's
/// default for `abandoned_after`.
const TELLING: Duration = Duration::from_millis(300);

/// Holds the connection, and closes it if dropped.
pub(crate) struct Exchange<C: Connector> {
    /// `None` once it has left this handle.
    conn: Option<PooledConn<C>>,
    bound: Bound,
    /// When the head of the response came.
    answered_at: Option<Instant>,
}

impl<C: Connector> Exchange<C> {
    pub(crate) fn new(conn: PooledConn<C>, head_timeout: Option<Duration>, progress: &Arc<Progress>) -> Self {
        Self { conn: Some(conn), bound: Bound::new(head_timeout, Arc::clone(progress)), answered_at: None }
    }

    pub(crate) fn conn(&mut self) -> &mut PooledConn<C> {
        let Some(conn) = &mut self.conn else { unreachable!("{GONE}") };
        conn
    }

    /// Ends it by an end of its connection.
    pub(crate) fn into_conn(mut self) -> PooledConn<C> {
        let Some(conn) = self.conn.take() else { unreachable!("{GONE}") };
        conn
    }

    /// The head of the response came.
    pub(crate) fn answered(&mut self, body_timeout: Option<Duration>) {
        self.bound.heard();
        self.bound.set(body_timeout);
        self.answered_at = Some(Instant::now());
    }

    /// A part of the body of the response came. The first verdict stands, so this one is given late: until then a
    /// server that keeps silent can have failed.
    pub(crate) fn heard(&mut self) {
        self.bound.heard();
        if self.answered_at.is_some_and(|answered_at| answered_at.elapsed() >= TELLING) {
            self.conn().report_success();
        }
    }

    /// Polled while a part of the response is awaited. Ready when nothing has moved for too long.
    pub(crate) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<Silent> {
        self.bound.poll_silent(cx)
    }

    /// Ends it because nothing has moved. Returns the name of the server and the bound.
    pub(crate) fn end_silent(self, silent: Silent, awaited: &str) -> (String, Duration) {
        let after = self.bound.after();
        let conn = self.into_conn();
        let server = name_of(&conn);
        match silent {
            Silent::Server => conn.fail(format_args!("no {awaited} in {after:?}")),
            Silent::Caller => conn.discard(),
        }
        (server, after)
    }
}

/// The methods that take it out also consume the handle.
const GONE: &str = "the connection has left its exchange";

pub(crate) fn name_of<C: Connector>(conn: &PooledConn<C>) -> String {
    PooledConn::info(conn).server().name().to_owned()
}

impl<C: Connector> Drop for Exchange<C> {
    /// The caller has left. A server that is still at work, or has not got all of the request, is not to blame. Of one
    /// that keeps silent the pool's `abandoned_after` decides.
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        if self.bound.awaits_server_for(TELLING) {
            return;
        }
        if self.answered_at.is_some() {
            conn.report_success();
        } else {
            conn.discard();
        }
    }
}

impl<C: Connector> fmt::Debug for Exchange<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Exchange").field(&self.conn).finish()
    }
}
