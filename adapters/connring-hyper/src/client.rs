//! The client: a request to whichever server the pool chooses.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use connring::{AcquireOptions, Connector, Pool, PooledConn};
use http::header::{CONNECTION, HOST};
use http::response::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;

use crate::body::ResponseBody;
use crate::connector::HttpConn;
use crate::error::SendError;
use crate::exchange::{Exchange, name_of};
use crate::progress::Silent;
use crate::request_body::RequestBody;

/// What the head of a response says of its server, by [`HttpClient::verdict`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// It serves.
    Success,
    /// It failed. After a few of these in a row the pool avoids it for a time: see [`Ejection`](connring::Ejection).
    Failure,
    /// It failed, and the pool avoids it for this time: it has said when to come back.
    FailureFor(Duration),
}

type Judge = dyn Fn(&Parts) -> Verdict + Send + Sync;

/// Sends each request on a connection of a pool. Clones share the pool.
///
/// Also a [`tower_service::Service`], which is always ready: the pool's `wait_timeout` and `max_waiters` bound what
/// waits.
///
/// # What counts for and against a server
///
/// A response that [`verdict`](Self::verdict) does not call a failure is a success of its server as soon as
///
/// - its body was read to its end, or
/// - a part of it comes 300 ms after the head or later: a long response need not end before it counts, or
/// - it is dropped before its end: a reader that is slow or leaves says nothing about the server.
///
/// Before that a body that stalls for the [`body_timeout`](Self::body_timeout) is a failure, as is a head that does not
/// come in the [`head_timeout`](Self::head_timeout). A body that breaks off is neither.
///
/// Both timeouts bound a silence of the server. They start anew whenever it takes a part of the request: a long upload
/// that goes on has all the time it needs, and a server that stops reading it fails. While the body of the request has
/// no next part to give (its `poll_frame` is pending) the silence is the caller's. Then the request ends after the same
/// time, by [`SendError::Stalled`] or [`BodyError::Stalled`], and the server is not blamed.
///
/// A request or body that is dropped while the server has kept silent for 300 ms is a dropped connection: the pool's
/// [`abandoned_after`](connring::Builder::abandoned_after) decides. Any other drop says nothing against the server.
///
/// [`BodyError::Stalled`]: crate::BodyError::Stalled
pub struct HttpClient<C: Connector> {
    pool: Pool<C>,
    head_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    judge: Arc<Judge>,
}

impl<C: Connector> HttpClient<C> {
    /// A client of the servers of `pool`.
    pub fn new(pool: Pool<C>) -> Self {
        Self {
            pool,
            head_timeout: Some(Duration::from_secs(30)),
            body_timeout: Some(Duration::from_secs(60)),
            judge: Arc::new(|_| Verdict::Success),
        }
    }

    /// How long the server may neither take a part of the request nor send the head of its response. Afterwards a
    /// failure of the server is counted. Default: 30 s. Range: any; `None`: no bound.
    #[must_use]
    pub fn head_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.head_timeout = timeout.into();
        self
    }

    /// How long the server may send no part of the body of its response while that is awaited: from when its reader
    /// asks for the next part on. Time in which the reader asks for none does not count. Afterwards the body ends with
    /// [`BodyError::Timeout`], and a failure of the server is counted. Default: 60 s, as between two reads of nginx.
    /// Range: any; `None`: no bound, for streams of events that are further apart.
    ///
    /// [`BodyError::Timeout`]: crate::BodyError::Timeout
    #[must_use]
    pub fn body_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.body_timeout = timeout.into();
        self
    }

    /// Whether a response is a failure of its server. Default: no response is.
    ///
    /// # Examples
    ///
    /// The time of [`Verdict::FailureFor`] has no bound of the pool: [`Ejection::max`](connring::Ejection::max) bounds
    /// the times that the pool chooses. A server that asks for a day by mistake would be left out for a day, so the
    /// example takes 5 minutes at most.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use connring::Connector;
    /// use connring_hyper::{HttpClient, Verdict};
    ///
    /// /// The longest `Retry-After` that counts.
    /// const LONGEST: Duration = Duration::from_secs(5 * 60);
    ///
    /// fn honours_retry_after<C: Connector>(client: HttpClient<C>) -> HttpClient<C> {
    ///     client.verdict(|head| {
    ///         let seconds = head.headers.get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
    ///         match (head.status.as_u16(), seconds) {
    ///             (503, Some(seconds)) => Verdict::FailureFor(Duration::from_secs(seconds).min(LONGEST)),
    ///             (502..=504, _) => Verdict::Failure,
    ///             _ => Verdict::Success,
    ///         }
    ///     })
    /// }
    /// ```
    #[must_use]
    pub fn verdict(mut self, judge: impl Fn(&Parts) -> Verdict + Send + Sync + 'static) -> Self {
        self.judge = Arc::new(judge);
        self
    }

    /// The pool.
    pub fn pool(&self) -> &Pool<C> {
        &self.pool
    }

    /// Sends a request and returns the response, whose body holds the connection until it was read to its end.
    ///
    /// The request goes out as HTTP/1.1. Of an absolute URI only path and query are sent. Without a `Host` of its own
    /// it gets the authority of the URI, else the server's tag `host`, else the server's address.
    ///
    /// The extensions of the response have the [`ConnInfo`](connring::ConnInfo) of its connection, with the server.
    ///
    /// If hyper says that the connection was closed before the request was sent, it is sent once more on a new
    /// connection. Any other retry is yours: only you know whether a request is safe to send twice.
    ///
    /// A response whose body ends before that of the request was sent closes the connection, and the rest of the
    /// request is not sent.
    ///
    /// A response to an upgrade (101, or 2xx to `CONNECT`) takes the connection out of the pool and its counts: take
    /// the stream by [`hyper::upgrade::on`].
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: the connection closes. The server may have got the request.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    ///
    /// # Panics
    ///
    /// As [`Pool::acquire`]. Outside a tokio runtime with the time driver, if there is a `head_timeout`; to read the
    /// body, if there is a `body_timeout`.
    pub async fn send<B>(&self, request: Request<B>) -> Result<Response<ResponseBody<C>>, SendError<C::Error>>
    where
        C: Connector<Conn = HttpConn<B>>,
        B: Body + 'static,
    {
        self.send_with(AcquireOptions::new(), request).await
    }

    /// The same as [`send`](Self::send), with wishes for the acquire: after a failure, to
    /// [avoid](AcquireOptions::avoid) the [server](SendError::server) that failed.
    ///
    /// # Cancel safety
    ///
    /// As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`SendError`].
    ///
    /// # Panics
    ///
    /// As [`send`](Self::send).
    pub async fn send_with<B>(
        &self,
        options: AcquireOptions,
        mut request: Request<B>,
    ) -> Result<Response<ResponseBody<C>>, SendError<C::Error>>
    where
        C: Connector<Conn = HttpConn<B>>,
        B: Body + 'static,
    {
        let has_host = prepare(&mut request);
        let is_connect = request.method() == Method::CONNECT;
        let (mut options, mut is_last) = (options, false);
        loop {
            let mut conn = self.pool.acquire_with(options.clone()).await.map_err(SendError::Acquire)?;
            if !has_host {
                let host = conn.host.clone();
                request.headers_mut().insert(HOST, host);
            }
            let progress = Arc::clone(&conn.progress);
            let mut sending = pin!(conn.sender.try_send_request(RequestBody::within(request, &progress)));
            let mut exchange = Exchange::new(conn, self.head_timeout, &progress);
            let sent = poll_fn(|cx| match sending.as_mut().poll(cx) {
                Poll::Ready(sent) => Poll::Ready(Ok(sent)),
                Poll::Pending => exchange.poll_silent(cx).map(Err),
            });
            let mut failure = match sent.await {
                Ok(Ok(response)) => return Ok(self.receive(exchange, response, is_connect)),
                Ok(Err(failure)) => failure,
                Err(silent) => {
                    let (server, after) = exchange.end_silent(silent, "response");
                    return Err(match silent {
                        Silent::Server => SendError::Timeout { server, after },
                        Silent::Caller => SendError::Stalled { after },
                    });
                }
            };
            let unsent = failure.take_message();
            let error = end_broken(exchange.into_conn(), failure.into_error(), unsent.is_some());
            match unsent {
                Some(again) if !is_last => request = again.map(RequestBody::into_inner),
                _ => return Err(error),
            }
            (options, is_last) = (options.fresh(), true);
        }
    }

    fn receive<B>(
        &self,
        mut exchange: Exchange<C>,
        response: Response<hyper::body::Incoming>,
        is_connect: bool,
    ) -> Response<ResponseBody<C>>
    where
        C: Connector<Conn = HttpConn<B>>,
    {
        let (mut head, incoming) = response.into_parts();
        exchange.answered(self.body_timeout);
        let conn = exchange.conn();
        head.extensions.insert(PooledConn::info(conn));
        match (self.judge)(&head) {
            // Said later: see `Exchange::heard`.
            Verdict::Success => {}
            Verdict::Failure => conn.report_failure(head.status),
            Verdict::FailureFor(time) => conn.report_failure_for(head.status, time),
        }
        let is_last = !stays_open(&head);
        let is_upgrade = head.status == StatusCode::SWITCHING_PROTOCOLS || is_connect && head.status.is_success();
        let exchange = if is_upgrade {
            let mut conn = exchange.into_conn();
            conn.report_success();
            conn.detach().let_go();
            None
        } else {
            Some(exchange)
        };
        Response::from_parts(head, ResponseBody::new(incoming, exchange, is_last))
    }
}

/// Whether the server keeps the connection open after the response.
fn stays_open(head: &Parts) -> bool {
    let tokens = head.headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let closes = tokens.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("close"));
    head.version == Version::HTTP_11 && !closes
}

/// Ends the use of a connection that broke before the response.
fn end_broken<C: Connector>(conn: PooledConn<C>, error: hyper::Error, unsent: bool) -> SendError<C::Error> {
    if error.is_user() {
        conn.discard();
        return SendError::Request(error);
    }
    let (server, info) = (name_of(&conn), PooledConn::info(&conn));
    // A server may close an idle connection, but not answer in another protocol.
    let reused = !info.is_new() && !error.is_parse();
    if reused || unsent {
        conn.broken(&error)
    } else {
        conn.fail(&error)
    }
    SendError::Broken { server, reused, unsent, error }
}

/// Makes a request fit for an HTTP/1.1 server. Returns whether it has a `Host`.
pub(crate) fn prepare<B>(request: &mut Request<B>) -> bool {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        // Without the user's name and password.
        let host = authority.as_str().rsplit('@').next().and_then(|host| HeaderValue::from_str(host).ok());
        if request.method() != Method::CONNECT {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
        if let Some(host) = host {
            request.headers_mut().entry(HOST).or_insert(host);
        }
    }
    request.headers().contains_key(HOST)
}

impl<C, B> tower_service::Service<Request<B>> for HttpClient<C>
where
    C: Connector<Conn = HttpConn<B>>,
    B: Body + Send + 'static,
{
    type Response = Response<ResponseBody<C>>;
    type Error = SendError<C::Error>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.send(request).await })
    }
}

impl<C: Connector> Clone for HttpClient<C> {
    fn clone(&self) -> Self {
        let Self { pool, head_timeout, body_timeout, judge } = self;
        Self { pool: pool.clone(), head_timeout: *head_timeout, body_timeout: *body_timeout, judge: Arc::clone(judge) }
    }
}

impl<C: Connector> fmt::Debug for HttpClient<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pool, head_timeout, body_timeout, judge: _ } = self;
        f.debug_struct("HttpClient")
            .field("pool", pool)
            .field("head_timeout", head_timeout)
            .field("body_timeout", body_timeout)
            .finish_non_exhaustive()
    }
}
