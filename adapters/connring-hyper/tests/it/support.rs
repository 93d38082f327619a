//! A client of few settings, and a server that is told what to send.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use connring::{Builder, Connector, Pool, PoolStatus, Server, TcpConnector};
use connring_hyper::{HttpClient, HttpConn, HttpConnector, ResponseBody, SendError};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

pub(crate) type RequestBody = BoxBody<Bytes, std::io::Error>;
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

/// Reads the head of a request, and nothing after it. `None` at the end of the connection.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// Sends text. An error shows at the other end.
pub(crate) async fn say(stream: &mut TcpStream, text: &str) {
    let _ = stream.write_all(text.as_bytes()).await;
}

/// A response of that body.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
