//! The body of a response, which returns its connection at its end.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use connring::{Connector, PooledConn};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a response. It holds the connection, and releases it for reuse once it was read to its end. **Dropped
/// before that, it closes the connection**: the rest of it would be the next answer.
pub struct ResponseBody<C: Connector> {
    incoming: Incoming,
    /// `None` once the connection has gone back.
    conn: Option<PooledConn<C>>,
    at_end: AtEnd,
}

/// What happens to the connection at the end of the body.
pub(crate) enum AtEnd {
    Release,
    /// The server closes it.
    Discard,
    /// The server asked for a pause.
    FailFor(String, Duration),
}

impl<C: Connector> ResponseBody<C> {
    pub(crate) fn new(incoming: Incoming, conn: Option<PooledConn<C>>, at_end: AtEnd) -> Self {
        let mut body = Self { incoming, conn, at_end };
        // The response to HEAD, 204, 304 and any other without a body.
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        let Some(conn) = self.conn.take() else { return };
        match &self.at_end {
            AtEnd::Release => conn.release(),
            AtEnd::Discard => conn.discard(),
            AtEnd::FailFor(reason, time) => conn.fail_for(reason, *time),
        }
    }
}

impl<C: Connector> Body for ResponseBody<C> {
    type Data = <Incoming as Body>::Data;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match &frame {
            // A reader may stop at the last byte, where the length is known.
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => self.end(),
            // The server's wish does not depend on how its response ends.
            Some(Err(_)) if matches!(self.at_end, AtEnd::FailFor(..)) => self.end(),
            Some(Err(error)) => {
                if let Some(conn) = self.conn.take() {
                    conn.broken(error);
                }
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl<C: Connector> Drop for ResponseBody<C> {
    fn drop(&mut self) {
        // Nor on who reads it.
        if let AtEnd::FailFor(..) = self.at_end {
            self.end();
        }
    }
}

impl<C: Connector> fmt::Debug for ResponseBody<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("incoming", &self.incoming)
            .field("conn", &self.conn)
            .finish_non_exhaustive()
    }
}
