//! A client of few settings, and a server that is told what to send.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use connring::{BoxConnector, Builder, Clock, Connector, Pool, PoolStatus, Server, TcpConnector, connect_fn};
use connring_hyper::{HttpClient, HttpConn, HttpConnector, ResponseBody, SendError};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

pub(crate) type RequestBody = BoxBody<Bytes, io::Error>;
pub(crate) type Tcp = HttpConnector<TcpConnector, RequestBody>;
pub(crate) type Client = HttpClient<Tcp>;

/// How long what must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn body(text: impl Into<Bytes>) -> RequestBody {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn get(uri: &str) -> Request<RequestBody> {
    Request::get(uri).body(body("")).unwrap()
}

/// A pool of one server, with one connection at a time.
pub(crate) fn builder(server: impl Into<Server>) -> Builder<Tcp> {
    Pool::builder(HttpConnector::new(TcpConnector::new())).max_conns_per_server(1).server(server)
}

pub(crate) fn client(server: impl Into<Server>) -> Client {
    HttpClient::new(builder(server).build().unwrap())
}

pub(crate) async fn text<C: Connector>(response: Response<ResponseBody<C>>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Sends a GET and returns the body of its response.
pub(crate) async fn ask<C>(client: &HttpClient<C>, uri: &str) -> Result<String, SendError<C::Error>>
where
    C: Connector<Conn = HttpConn<RequestBody>>,
{
    Ok(text(client.send(get(uri)).await?).await)
}

/// Waits until the status fulfils a condition. The server's counts follow within a second.
pub(crate) async fn until<C: Connector>(pool: &Pool<C>, is_so: impl Fn(&PoolStatus) -> bool) {
    let wait = async {
        while !is_so(&pool.status()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{}", pool.status());
}

/// A server whose n-th connection, from 0, is served by `serve`.
pub(crate) async fn server<F>(serve: impl Fn(usize, TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(number, stream));
        }
    });
    address
}

/// The room of a pipe, in each direction.
pub(crate) const PIPE: usize = 1024;

/// A client of a server within the test, so that time can be paused. The n-th connection, from 0, is served by `serve`.
pub(crate) fn piped<F>(
    serve: impl Fn(usize, DuplexStream) -> F + Send + Sync + 'static,
) -> HttpClient<HttpConnector<BoxConnector<DuplexStream>, RequestBody>>
where
    F: Future<Output = ()> + Send + 'static,
{
    let connects = AtomicUsize::new(0);
    let below = connect_fn(move |_: Server| {
        let (near, far) = duplex(PIPE);
        tokio::spawn(serve(connects.fetch_add(1, Ordering::Relaxed), far));
        async { io::Result::Ok(near) }
    });
    let pool = Pool::builder(HttpConnector::new(below.boxed())).clock(Clock::tokio()).server("a");
    HttpClient::new(pool.build().unwrap())
}

/// Reads the head of a request, and nothing after it. `None` at the end of the connection.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Sends text. An error shows at the other end.
pub(crate) async fn say(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
    let _ = stream.flush().await;
}

/// A response of that body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// The sender of the parts of a request's body.
pub(crate) type Parts = mpsc::Sender<io::Result<Frame<Bytes>>>;

/// A request whose body is sent part by part.
pub(crate) fn post_of_parts() -> (Parts, Request<RequestBody>) {
    let (sender, mut receiver) = mpsc::channel(1);
    let body = StreamBody::new(stream_of(move |cx| receiver.poll_recv(cx)));
    (sender, Request::post("/").body(BodyExt::boxed(body)).unwrap())
}

/// Sends a part.
pub(crate) async fn give(parts: &Parts, part: impl Into<Bytes>) {
    let _ = parts.send(Ok(Frame::data(part.into()))).await;
}

/// A stream of a function.
pub(crate) fn stream_of<T>(next: impl FnMut(&mut Context<'_>) -> Poll<Option<T>> + Send + Sync + 'static) -> Of<T> {
    Of(Box::new(next))
}

pub(crate) struct Of<T>(Box<Next<T>>);

type Next<T> = dyn FnMut(&mut Context<'_>) -> Poll<Option<T>> + Send + Sync;

impl<T> futures_core::Stream for Of<T> {
    type Item = T;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        (self.0)(cx)
    }
}
