//! What goes out, and what comes back.

use connring::{CloseReason, ConnInfo, Server};
use connring_hyper::{HttpClient, SendError};
use http::{Method, Request, Version};
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower_service::Service;

use super::support::*;

/// Answers each request with its head.
async fn mirror() -> std::net::SocketAddr {
    server(|_, mut stream| async move {
        while let Some(head) = read_head(&mut stream).await {
            say(&mut stream, &ok(&head)).await;
        }
    })
    .await
}

#[tokio::test]
async fn request_has_a_host_and_the_path_alone() {
    let address = mirror().await;
    let plain = client(address);
    let tagged = client(Server::from(address).tag("host", "tag.example"));
    let of_address = address.to_string();
    for (client, uri, path, host) in [
        (&plain, "/a?b=c", "/a?b=c", &*of_address),
        (&plain, "http://me:secret@uri.example:81/a?b=c", "/a?b=c", "uri.example:81"),
        (&plain, "http://uri.example", "/", "uri.example"),
        (&tagged, "/", "/", "tag.example"),
        (&tagged, "http://uri.example/", "/", "uri.example"),
    ] {
        assert_eq!(ask(client, uri).await.unwrap(), format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
    }
    let request = Request::get("http://uri.example/").header("host", "own.example").body(body("")).unwrap();
    let head = text(plain.send(request).await.unwrap()).await;
    assert_eq!(head, "GET / HTTP/1.1\r\nhost: own.example\r\n\r\n");
}

#[tokio::test]
async fn request_of_any_version_goes_out_as_http_1_1() {
    let client = client(mirror().await);
    for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2, Version::HTTP_3] {
        let request = Request::options("*").version(version).header("host", "h").body(body("")).unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await, "OPTIONS * HTTP/1.1\r\nhost: h\r\n\r\n");
    }
}

#[tokio::test]
async fn responses_without_a_body_give_their_connection_back_at_once() {
    let address = server(|number, mut stream| async move {
        for head in [
            "200 OK\r\ncontent-length: 5", // to HEAD
            "204 No Content",
            "304 Not Modified\r\ncontent-length: 5",
            "200 OK\r\ncontent-length: 0",
        ] {
            read_head(&mut stream).await;
            let early = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\n\r\n";
            say(&mut stream, &format!("{early}HTTP/1.1 {head}\r\nnumber: {number}\r\n\r\n")).await;
        }
    })
    .await;
    let client = client(address);
    let mut kept = Vec::new();
    for method in [Method::HEAD, Method::GET, Method::GET, Method::GET] {
        let request = Request::builder().method(method).uri("/").body(body("")).unwrap();
        // The only connection is free although the bodies are neither read nor dropped.
        let response = client.send(request).await.unwrap();
        assert_eq!(response.headers()["number"], "0");
        kept.push(response);
    }
}

#[tokio::test]
async fn request_whose_body_fails_is_at_fault_itself() {
    let address = server(|_, mut stream| async move { while stream.read_u8().await.is_ok() {} }).await;
    let client = client(address);
    let failing = StreamBody::new(Failing).boxed();
    let error = client.send(Request::post("/").body(failing).unwrap()).await.unwrap_err();
    assert!(matches!(error, SendError::Request(_)), "{error:?}");
    assert_eq!(client.pool().status().totals.failures, 0);
}

struct Failing;

impl futures_core::Stream for Failing {
    type Item = std::io::Result<http_body::Frame<bytes::Bytes>>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("the disk failed"))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgraded_connection_leaves_the_pool() {
    let address = server(|_, mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        let status = if head.starts_with("CONNECT far.example:1 ") { "200 OK" } else { "101 Switching Protocols" };
        say(&mut stream, &format!("HTTP/1.1 {status}\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")).await;
        let (mut reader, mut writer) = stream.split();
        let _ = tokio::io::copy(&mut reader, &mut writer).await;
    })
    .await;
    let client = client(address);
    // Often, since the connection's task ends at about the time when the response is here.
    for number in 0..200 {
        let upgrade = || Request::get("/").header("connection", "upgrade").header("upgrade", "echo");
        let request = if number % 2 == 0 { upgrade() } else { Request::connect("far.example:1") };
        let response = client.send(request.body(body("")).unwrap()).await.unwrap();
        assert_eq!(client.pool().status().totals.closes(CloseReason::Detached), number + 1);
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(b"ping").await.unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"ping");
    }
    assert_eq!(client.pool().status().servers[0].open, 0);
}

#[tokio::test]
async fn response_says_which_server_sent_it() {
    let address = mirror().await;
    let response = client(address).send(get("/")).await.unwrap();
    let info = response.extensions().get::<ConnInfo>().unwrap();
    assert_eq!((info.server().name(), info.uses()), (&*address.to_string(), 0));
}

#[tokio::test]
async fn client_is_a_service() {
    async fn call<S: Service<Request<RequestBody>>>(mut service: S) -> Result<S::Response, S::Error> {
        std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(get("/")).await
    }
    let client: HttpClient<_> = client(mirror().await);
    assert!(text(call(client).await.unwrap()).await.starts_with("GET / HTTP/1.1\r\n"));
}
