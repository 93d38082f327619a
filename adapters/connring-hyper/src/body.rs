//! The body of a response, which returns its connection at its end.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use connring::Connector;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::error::BodyError;
use crate::exchange::Exchange;
use crate::progress::Silent;

/// The body of a response. It holds the connection, and releases it for reuse once it was read to its end. **Dropped
/// before that, it closes the connection**: the rest of it would be the next answer.
///
/// While it is read it counts the time without a part of it: see [`HttpClient::body_timeout`].
///
/// [`HttpClient::body_timeout`]: crate::HttpClient::body_timeout
pub struct ResponseBody<C: Connector> {
    incoming: Incoming,
    /// `None` once the connection has gone back.
    exchange: Option<Exchange<C>>,
    /// Whether the server closes the connection after it.
    is_last: bool,
}

impl<C: Connector> ResponseBody<C> {
    pub(crate) fn new(incoming: Incoming, exchange: Option<Exchange<C>>, is_last: bool) -> Self {
        let mut body = Self { incoming, exchange, is_last };
        // The response to HEAD, 204, 304 and any other without a body.
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    fn end(&mut self) {
        let Some(mut conn) = self.exchange.take().map(Exchange::into_conn) else { return };
        if self.is_last {
            conn.report_success();
            conn.discard();
        } else {
            conn.release();
        }
    }

    /// Ready when the next part is awaited for too long.
    fn poll_timeout(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(exchange) = &mut self.exchange else { return Poll::Pending };
        let silent = ready!(exchange.poll_silent(cx));
        let Some(exchange) = self.exchange.take() else { return Poll::Pending };
        let (server, after) = exchange.end_silent(silent, "part of a response");
        Poll::Ready(match silent {
            Silent::Server => BodyError::Timeout { server, after },
            Silent::Caller => BodyError::Stalled { after },
        })
    }
}

impl<C: Connector> Body for ResponseBody<C> {
    type Data = <Incoming as Body>::Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, BodyError>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            return self.poll_timeout(cx).map(|error| Some(Err(error)));
        };
        match &frame {
            // A reader may stop at the last byte, where the length is known.
            Some(Ok(_)) if self.incoming.is_end_stream() => self.end(),
            Some(Ok(_)) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.heard();
                }
            }
            None => self.end(),
            Some(Err(error)) => {
                if let Some(exchange) = self.exchange.take() {
                    exchange.into_conn().broken(error);
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl<C: Connector> fmt::Debug for ResponseBody<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("incoming", &self.incoming)
            .field("exchange", &self.exchange)
            .finish_non_exhaustive()
    }
}
