//! Connections that speak HTTP/1.1 over those of another connector.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use connring::{AfterUse, CloseReason, ConnInfo, ConnectFault, Connector, Ended, Server};
use http::header::HOST;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

use crate::client::prepare;
use crate::error::ConnectError;
use crate::progress::Progress;
use crate::request_body::RequestBody;
use crate::stream::{Owner, Stream};

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type MakeRequest<B> = dyn Fn() -> Request<B> + Send + Sync;

/// Makes HTTP/1.1 connections over those of the connector `T`, such as [`TcpConnector`](connring::TcpConnector) or one
/// of TLS.
///
/// `B` is the body of the requests, one type for all requests of a pool. For bodies of several types it is a boxed one,
/// such as `HttpConnector<TcpConnector, BoxBody<Bytes, Infallible>>`: see
/// [the crate's page](crate#one-body-type-for-each-pool).
///
/// A connection is reusable while it is open and no response is outstanding. hyper reads idle connections, so that one
/// closes as soon as the server closes it, or sends something that was not asked for.
pub struct HttpConnector<T, B> {
    below: T,
    http: Builder,
    check: Option<Arc<MakeRequest<B>>>,
}

impl<T, B> HttpConnector<T, B> {
    /// A connector over `below`.
    pub fn new(below: T) -> Self {
        Self { below, http: Builder::new(), check: None }
    }

    /// Settings of hyper: the size of the buffer, the most headers and so on. Default: hyper's.
    #[must_use]
    pub fn http(mut self, http: Builder) -> Self {
        self.http = http;
        self
    }

    /// A request that shows whether a server can serve: a `GET` of its health page. Default: none, and a server that
    /// accepts connections counts as healthy.
    ///
    /// It is part of the probe of a server that was down, and is sent on idle connections every
    /// [`idle_check_interval`](connring::Builder::idle_check_interval), if that is set. A status of 500 or above fails
    /// it. Its response is read to its end, so let that be short.
    #[must_use]
    pub fn check_with(mut self, request: impl Fn() -> Request<B> + Send + Sync + 'static) -> Self {
        self.check = Some(Arc::new(request));
        self
    }
}

impl<T: Clone, B> Clone for HttpConnector<T, B> {
    fn clone(&self) -> Self {
        Self { below: self.below.clone(), http: self.http.clone(), check: self.check.clone() }
    }
}

impl<T: fmt::Debug, B> fmt::Debug for HttpConnector<T, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnector").field("below", &self.below).finish_non_exhaustive()
    }
}

impl<T, B> Connector for HttpConnector<T, B>
where
    T: Connector,
    T::Conn: AsyncRead + AsyncWrite + Unpin,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Conn = HttpConn<B>;
    type Error = ConnectError<T::Error>;

    async fn connect(&self, server: &Server) -> Result<HttpConn<B>, Self::Error> {
        let host = server.tag_value("host").unwrap_or(server.address());
        let host = HeaderValue::from_str(host).map_err(|_| ConnectError::Host { value: host.to_owned() })?;
        let stream = self.below.connect(server).await.map_err(ConnectError::Connect)?;
        let progress = Arc::new(Progress::new());
        let stream = Stream::new(stream, Arc::clone(&progress));
        let owner = stream.owner();
        let (sender, connection) = self.http.handshake(TokioIo::new(stream)).await.map_err(ConnectError::Http)?;
        // Its errors reach the caller of the request that they end.
        let task = tokio::spawn(async { drop(connection.with_upgrades().await) });
        let mut conn = HttpConn { sender, host, progress, task: Task { task: Some(task), stream: owner } };
        // Until its task has run once, it would be taken for a busy one.
        conn.sender.ready().await.map_err(ConnectError::Http)?;
        Ok(conn)
    }

    fn is_reusable(&self, conn: &mut HttpConn<B>, _: &ConnInfo) -> bool {
        conn.sender.is_ready()
    }

    fn classify(&self, error: &Self::Error) -> ConnectFault {
        match error {
            ConnectError::Connect(error) => self.below.classify(error),
            ConnectError::Host { .. } => ConnectFault::Client,
            error => ConnectFault::of(error),
        }
    }

    async fn check(&self, conn: &mut HttpConn<B>) -> Result<(), Self::Error> {
        let Some(request) = &self.check else { return Ok(()) };
        let response = conn.send_request(request()).await.map_err(ConnectError::Http)?;
        let status = response.status();
        read_to_end(response).await.map_err(ConnectError::Http)?;
        // One that the server closes after its answer is refused by `is_reusable`, or its request is sent once more.
        let _ = conn.sender.ready().await;
        if status.is_server_error() { Err(ConnectError::Check { status }) } else { Ok(()) }
    }

    /// The end of a response reaches its reader a moment before the connection's task is ready for the next request.
    /// That is not so where the server answered before it had the whole request: it may never take the rest.
    fn after_use(&self, conn: &mut HttpConn<B>, ended: Ended) -> AfterUse {
        match ended {
            Ended::Released if conn.sender.is_ready() => AfterUse::Reuse,
            Ended::Released if !conn.sender.is_closed() && !conn.progress.is_uploading() => AfterUse::Recycle,
            _ => AfterUse::Close,
        }
    }

    /// Waits until the connection is ready. One that the server closes meanwhile is no failure: `is_reusable` refuses
    /// it.
    async fn recycle(&self, conn: &mut HttpConn<B>) -> Result<(), Self::Error> {
        let _ = conn.sender.ready().await;
        Ok(())
    }

    /// Lets hyper shut the stream down, which TLS answers with a `close_notify`.
    fn close(&self, conn: HttpConn<B>, _: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        let HttpConn { sender, task, .. } = conn;
        drop(sender);
        Some(task.ended())
    }
}

async fn read_to_end(mut response: Response<Incoming>) -> hyper::Result<()> {
    let mut body = Pin::new(response.body_mut());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        frame?;
    }
    Ok(())
}

/// An HTTP/1.1 connection. Dropping it closes its socket at once, whatever is still to be sent.
pub struct HttpConn<B> {
    pub(crate) sender: SendRequest<RequestBody<B>>,
    /// For requests that name no host.
    pub(crate) host: HeaderValue,
    pub(crate) progress: Arc<Progress>,
    task: Task,
}

impl<B: Body + 'static> HttpConn<B> {
    /// Sends a request, for those who take connections from the pool themselves. Release the connection after the body
    /// of the response was read to its end. Nothing bounds the time.
    ///
    /// # Cancel safety
    ///
    /// Safe to drop at any time: drop the connection then, too. The server may have got the request.
    ///
    /// # Errors
    ///
    /// hyper's: the connection broke, or the request is at fault.
    pub async fn send_request(&mut self, mut request: Request<B>) -> hyper::Result<Response<Incoming>> {
        if !prepare(&mut request) {
            request.headers_mut().insert(HOST, self.host.clone());
        }
        self.sender.send_request(RequestBody::within(request, &self.progress)).await
    }
}

impl<B> HttpConn<B> {
    /// Leaves the socket to the user of an upgrade.
    pub(crate) fn let_go(mut self) {
        self.task.task = None;
        self.task.stream.let_go();
    }
}

impl<B> fmt::Debug for HttpConn<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConn").field("host", &self.host).finish_non_exhaustive()
    }
}

/// The task that reads and writes the socket. It ends with its owner: hyper's own end waits for a server that reads no
/// more.
struct Task {
    task: Option<JoinHandle<()>>,
    stream: Owner,
}

impl Task {
    async fn ended(mut self) {
        if let Some(task) = &mut self.task {
            let _ = task.await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
