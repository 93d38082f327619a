//! HTTPS: over `connring_tls`, with a certificate made for the test.

use std::io;
use std::sync::Arc;

use connring::{CloseReason, Pool, Server, TLS_SERVER_NAME, TcpConnector};
use connring_hyper::{HttpClient, HttpConnector, SendError};
use connring_tls::TlsConnector;
use connring_tls::rustls::crypto::ring;
use connring_tls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use http::Request;
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::support::*;

type Client = HttpClient<HttpConnector<TlsConnector<TcpConnector>, RequestBody>>;

const NAME: &str = "http.example";
const MEGABYTE: usize = 1 << 20;

/// A client of a server that serves each connection by `serve`, after the handshake. The client expects that name.
async fn https<F>(name: &str, serve: impl Fn(TlsStream<TcpStream>) -> F + Clone + Send + Sync + 'static) -> Client
where
    F: Future<Output = ()> + Send + 'static,
{
    let identity = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let connector = TlsConnector::new(config.unwrap().with_root_certificates(roots).with_no_client_auth());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![identity.cert.der().clone()], identity.signing_key.into()).unwrap();

    let acceptor = TlsAcceptor::from(Arc::new(config));
    let address = server(move |_, stream| {
        let (accepting, serve) = (acceptor.accept(stream), serve.clone());
        async move {
            if let Ok(stream) = accepting.await {
                serve(stream).await;
            }
        }
    });
    let server = Server::from(address.await).tag(TLS_SERVER_NAME, name).tag("host", NAME);
    HttpClient::new(Pool::builder(HttpConnector::new(connector)).server(server).build().unwrap())
}

/// Answers each request with its head, and sends a large body to one that asks for it.
async fn mirror(mut stream: TlsStream<TcpStream>) {
    while let Some(head) = read_head(&mut stream).await {
        if head.starts_with("POST ") {
            stream.read_exact(&mut vec![0; MEGABYTE]).await.unwrap();
        }
        let answer = if head.starts_with("GET /large ") { "x".repeat(MEGABYTE) } else { head };
        say(&mut stream, &ok(&answer)).await;
    }
}

#[tokio::test]
async fn requests_in_turn_use_one_connection() {
    let client = https(NAME, mirror).await;
    for number in 0..10 {
        let path = format!("/{number}");
        assert_eq!(ask(&client, &path).await.unwrap(), format!("GET {path} HTTP/1.1\r\nhost: {NAME}\r\n\r\n"));
        let post = Request::post("/").body(body(vec![b'x'; MEGABYTE])).unwrap();
        assert!(text(client.send(post).await.unwrap()).await.starts_with("POST / "));
        assert_eq!(ask(&client, "/large").await.unwrap().len(), MEGABYTE);
    }
    let totals = client.pool().status().totals;
    assert_eq!((totals.connects, totals.failures), (1, 0));
}

#[tokio::test]
async fn server_without_a_valid_certificate_is_asked_nothing() {
    let client = https("other.example", |_| async { panic!("the handshake is refused") }).await;
    let asking = tokio::spawn({
        let client = client.clone();
        async move { client.send(get("/")).await.unwrap_err() }
    });
    until(client.pool(), |status| status.to_string().contains("TLS handshake failed")).await;
    assert_eq!(client.pool().status().totals.checkouts, 0);
    client.pool().close().await;
    let error = timeout(PATIENCE, asking).await.unwrap().unwrap();
    assert!(matches!(error, SendError::Acquire(_)), "{error:?}");
}

/// What the server reads after the requests: an end that is announced, or one that cuts the stream off.
#[tokio::test]
async fn server_is_told_the_end_of_a_connection_unless_a_response_was_cut_off() {
    for is_cut_off in [false, true] {
        let (ends, mut end) = mpsc::unbounded_channel();
        let client = https(NAME, move |mut stream| {
            let ends = ends.clone();
            async move {
                read_head(&mut stream).await;
                let length = if is_cut_off { 99 } else { 4 };
                say(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nhalf")).await;
                ends.send(stream.read_u8().await.unwrap_err()).unwrap();
            }
        })
        .await;
        let mut body = client.send(get("/")).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        client.pool().close().await;
        let error = timeout(PATIENCE, end.recv()).await.unwrap().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(error.to_string().contains("close_notify"), is_cut_off, "{error}");
        assert_eq!(client.pool().status().totals.closes(CloseReason::Dropped), u64::from(is_cut_off));
    }
}
