//! Which connections are reused, which close, and what counts as a failure of the server.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use connring::test_util::conn_info;
use connring::{CloseReason, ConnInfo, Connector, Pool, PooledConn, Server, ServerState, TcpConnector, connect_fn};
use connring_hyper::{ConnectError, HttpClient, HttpConn, HttpConnector, SendError, Verdict};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::support::*;

#[tokio::test]
async fn bytes_after_the_end_of_a_response_never_answer_the_next_request() {
    let address = server(|number, mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            let wrong = ok("an answer that nobody asked for");
            say(&mut stream, &(ok(&format!("connection {number}")) + &wrong)).await;
        }
    })
    .await;
    let client = client(address);
    for number in 0..20 {
        assert_eq!(ask(&client, "/").await.unwrap(), format!("connection {number}"));
    }
}

#[tokio::test]
async fn connection_is_not_reused_after_http_1_0_or_connection_close() {
    for (version, header) in [("1.0", ""), ("1.1", "Connection: x, Close\r\n")] {
        let address = server(move |number, mut stream| async move {
            read_head(&mut stream).await;
            let head = format!("HTTP/{version} 200 OK\r\n{header}content-length: 1\r\n\r\n{number}");
            say(&mut stream, &head).await;
            // It stays open, against its own word.
            read_head(&mut stream).await;
        })
        .await;
        let client = client(address);
        for number in 0..3 {
            assert_eq!(ask(&client, "/").await.unwrap(), number.to_string(), "{version} {header}");
        }
        let totals = client.pool().status().totals;
        assert_eq!((totals.closes(CloseReason::Discarded), totals.failures), (3, 0));
    }
}

#[tokio::test]
async fn body_that_is_dropped_closes_its_connection_and_is_no_failure() {
    let address = server(|number, mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, &format!("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{number}")).await;
        assert!(read_head(&mut stream).await.is_none());
    })
    .await;
    let pool = builder(address).abandoned_after(Duration::from_nanos(1)).build().unwrap();
    let client = HttpClient::new(pool);
    for number in 0..3_u8 {
        let mut body = client.send(get("/")).await.unwrap().into_body();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), Bytes::from(number.to_string()));
    }
    // Each head was an answer.
    until(client.pool(), |status| status.totals.successes == 3).await;
    let totals = client.pool().status().totals;
    assert_eq!((totals.closes(CloseReason::Dropped), totals.failures), (3, 0));
}

#[tokio::test]
async fn body_that_breaks_off_is_an_error_and_its_connection_is_broken() {
    let address = server(|_, mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf").await;
    })
    .await;
    let client = client(address);
    client.send(get("/")).await.unwrap().into_body().collect().await.unwrap_err();
    assert_eq!(client.pool().status().totals.closes(CloseReason::Broken), 1);
}

#[tokio::test]
async fn connection_closed_under_a_request_is_broken_if_reused_and_a_failure_if_new() {
    let address = server(|number, mut stream| async move {
        read_head(&mut stream).await;
        if number == 0 {
            say(&mut stream, &ok("well")).await;
            read_head(&mut stream).await;
        }
    })
    .await;
    let client = client(address);
    ask(&client, "/").await.unwrap();
    for (is_reused, failures) in [(true, 0), (false, 1)] {
        let error = ask(&client, "/").await.unwrap_err();
        assert_eq!(error.server(), Some(&*address.to_string()));
        let SendError::Broken { reused, unsent: false, .. } = error else { panic!("{error:?}") };
        assert_eq!(reused, is_reused);
        assert_eq!(client.pool().status().totals.failures, failures);
    }
}

#[tokio::test]
async fn answer_in_another_protocol_is_a_failure_of_the_server() {
    let address = server(|_, mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, &ok("well")).await;
        read_head(&mut stream).await;
        say(&mut stream, "220 mail.example ESMTP\r\n\r\n").await;
    })
    .await;
    let client = client(address);
    ask(&client, "/").await.unwrap();
    let error = ask(&client, "/").await.unwrap_err();
    assert!(matches!(error, SendError::Broken { reused: false, .. }), "{error:?}");
    assert_eq!(client.pool().status().totals.failures, 1);
}

/// Hands out connections that are closed.
struct Careless(Tcp);

impl Connector for Careless {
    type Conn = HttpConn<RequestBody>;
    type Error = ConnectError<io::Error>;

    async fn connect(&self, server: &Server) -> Result<Self::Conn, Self::Error> {
        self.0.connect(server).await
    }
}

#[tokio::test]
async fn request_that_was_not_sent_is_sent_on_a_new_connection() {
    let address = server(|number, mut stream| async move {
        let head = read_head(&mut stream).await.unwrap();
        let mut body = [0; 4];
        let body = if head.contains("content-length: 4") {
            stream.read_exact(&mut body).await.map(|_| &body[..])
        } else {
            Ok(&[][..])
        };
        say(&mut stream, &ok(&format!("{number} {}", String::from_utf8_lossy(body.unwrap())))).await;
    })
    .await;
    let connector = Careless(HttpConnector::new(TcpConnector::new()));
    let client = HttpClient::new(Pool::builder(connector).max_conns_per_server(1).server(address).build().unwrap());
    assert_eq!(ask(&client, "/").await.unwrap(), "0 ");
    let mut conn = client.pool().acquire().await.unwrap();
    let (asked, info) = (Tcp::new(TcpConnector::new()), PooledConn::info(&conn));
    let closes = async {
        while asked.is_reusable(&mut conn, &info) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closes).await.unwrap();
    // Back into the idle queue, although it is closed.
    conn.release();
    let post = Request::post("/").body(body("post")).unwrap();
    assert_eq!(text(client.send(post).await.unwrap()).await, "1 post");
    assert_eq!(client.pool().status().totals.closes(CloseReason::Broken), 1);
}

#[tokio::test]
async fn server_that_does_not_answer_in_time_has_failed() {
    let address = server(|_, mut stream| async move { while read_head(&mut stream).await.is_some() {} }).await;
    let client = client(address).head_timeout(Duration::from_millis(20));
    let error = ask(&client, "/").await.unwrap_err();
    assert_eq!(error.to_string(), format!("{address} sent no response in 20ms"));
    let totals = client.pool().status().totals;
    assert_eq!((totals.failures, totals.closes(CloseReason::Failed)), (1, 1));
}

#[tokio::test]
async fn verdict_decides_which_responses_are_failures() {
    let address = server(|_, mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            say(&mut stream, "HTTP/1.1 503 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nbusy").await;
        }
    })
    .await;
    let by_default = client(address);
    assert_eq!(ask(&by_default, "/").await.unwrap(), "busy");
    until(by_default.pool(), |status| status.totals.successes == 1).await;
    assert_eq!(by_default.pool().status().totals.failures, 0);

    let counts = client(address).verdict(|head| if head.status == 503 { Verdict::Failure } else { Verdict::Success });
    assert_eq!(ask(&counts, "/").await.unwrap(), "busy");
    assert_eq!(counts.pool().status().totals.failures, 1);
    assert_eq!(counts.pool().status().servers[0].open, 1, "the connection is of use");

    for is_read in [true, false] {
        let other = server(|_, _| async {}).await;
        let pool = builder(address).server(other).build().unwrap();
        let client = HttpClient::new(pool).verdict(|head| {
            let seconds = head.headers["retry-after"].to_str().unwrap().parse().unwrap();
            Verdict::FailureFor(Duration::from_secs(seconds))
        });
        let options = connring::AcquireOptions::new().avoid([other.to_string()]);
        let response = client.send_with(options, get("/")).await.unwrap();
        // By its head alone, whatever becomes of its body.
        let ServerState::Ejected { retry_after, .. } = client.pool().status().servers[0].state else {
            panic!("{}", client.pool().status())
        };
        assert!(retry_after > Duration::from_secs(2), "{retry_after:?}");
        if is_read {
            assert_eq!(text(response).await, "busy");
        } else {
            drop(response);
        }
        assert_eq!(client.pool().status().totals.failures, 1);
    }
}

#[tokio::test]
async fn connection_whose_request_is_still_being_sent_closes_after_its_response() {
    let address = server(|number, mut stream| async move {
        // It reads nothing more on the first connection.
        while read_head(&mut stream).await.is_some() {
            say(&mut stream, &ok(&number.to_string())).await;
            if number == 0 {
                std::future::pending::<()>().await;
            }
        }
    })
    .await;
    let client = client(address);
    let (parts, request) = post_of_parts();
    give(&parts, "half").await;
    assert_eq!(text(client.send(request).await.unwrap()).await, "0");
    let status = client.pool().status();
    assert_eq!((status.servers[0].open, status.totals.closes(CloseReason::Unfit)), (0, 1), "nothing is waited for");
    assert_eq!(ask(&client, "/").await.unwrap(), "1");
    assert_eq!(ask(&client, "/").await.unwrap(), "1", "one whose request was sent is reused");
    assert_eq!(client.pool().status().totals.failures, 0);
}

#[tokio::test]
async fn dropped_request_closes_its_socket_though_its_body_has_no_end() {
    let (closed, is_closed) = oneshot::channel();
    let closed = Arc::new(std::sync::Mutex::new(Some(closed)));
    let address = server(move |_, mut stream| {
        let closed = Arc::clone(&closed);
        async move {
            read_head(&mut stream).await;
            say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf").await;
            while !matches!(stream.read(&mut [0; 4096]).await, Ok(0) | Err(_)) {}
            let _ = closed.lock().unwrap().take().unwrap().send(());
        }
    })
    .await;
    let client = client(address);
    let parts = stream_of(|cx| {
        cx.waker().wake_by_ref();
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from("more")))))
    });
    let request = Request::post("/").body(BodyExt::boxed(StreamBody::new(parts))).unwrap();
    drop(client.send(request).await.unwrap());
    timeout(PATIENCE, is_closed).await.unwrap().unwrap();
}

#[tokio::test]
async fn connection_is_reusable_as_soon_as_it_is_made_and_until_its_server_closes_it() {
    let address = server(|number, mut stream| async move {
        if number == 0 {
            read_head(&mut stream).await;
        }
    })
    .await;
    let (connector, server) = (Tcp::new(TcpConnector::new()), Server::from(address));
    let info: ConnInfo = conn_info(server.clone(), Duration::ZERO, Duration::ZERO, 0);
    let mut conn = connector.connect(&server).await.unwrap();
    assert!(connector.is_reusable(&mut conn, &info));
    let wait = async {
        let Ok(mut conn) = connector.connect(&server).await else { return };
        while connector.is_reusable(&mut conn, &info) {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap();
}

#[tokio::test]
async fn check_passes_unless_the_server_cannot_serve() {
    let requests = Arc::new(AtomicUsize::new(0));
    let address = server(move |_, mut stream| {
        let requests = Arc::clone(&requests);
        async move {
            while let Some(head) = read_head(&mut stream).await {
                assert!(head.starts_with("GET /health HTTP/1.1\r\nhost: b.example\r\n"), "{head}");
                let status = ["204 Well", "404 Not here", "503 Not well"][requests.fetch_add(1, Ordering::Relaxed)];
                say(&mut stream, &format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
            }
        }
    })
    .await;
    let connector = Tcp::new(TcpConnector::new()).check_with(|| get("/health"));
    let server = Server::from(address).tag("host", "b.example");
    let mut conn = connector.connect(&server).await.unwrap();
    connector.check(&mut conn).await.unwrap();
    connector.check(&mut conn).await.unwrap();
    let info = conn_info(server, Duration::ZERO, Duration::ZERO, 0);
    assert!(connector.is_reusable(&mut conn, &info));
    let error = connector.check(&mut conn).await.unwrap_err();
    assert_eq!(error.to_string(), "the check was answered with 503 Service Unavailable");
}

#[tokio::test]
async fn check_that_closes_the_connection_after_its_answer_is_no_failure() {
    let address = server(|_, mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").await;
    })
    .await;
    let connector = Tcp::new(TcpConnector::new()).check_with(|| get("/health"));
    let server = Server::from(address);
    let mut conn = connector.connect(&server).await.unwrap();
    connector.check(&mut conn).await.unwrap();
    assert!(!connector.is_reusable(&mut conn, &conn_info(server, Duration::ZERO, Duration::ZERO, 0)));
}

/// A stream that notes its orderly end, and its drop.
struct Noted(TcpStream, Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.2.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes streams that note their ends and their drops.
fn noted() -> (impl Connector<Conn = Noted, Error = io::Error>, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (ends, drops) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let notes = (Arc::clone(&ends), Arc::clone(&drops));
    let below = connect_fn(move |server: Server| {
        let (ends, drops) = notes.clone();
        async move { io::Result::Ok(Noted(TcpStream::connect(server.address()).await?, ends, drops)) }
    });
    (below, ends, drops)
}

impl AsyncRead for Noted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Noted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn pool_that_closes_shuts_its_streams_down_before_it_says_so() {
    let address = server(|_, mut stream| async move {
        read_head(&mut stream).await;
        say(&mut stream, &ok("well")).await;
        read_head(&mut stream).await;
    })
    .await;
    let (below, ends, _) = noted();
    let client = HttpClient::new(Pool::builder(HttpConnector::new(below)).server(address).build().unwrap());
    assert_eq!(ask(&client, "/").await.unwrap(), "well");
    timeout(PATIENCE, client.pool().close()).await.unwrap();
    assert_eq!(ends.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn socket_is_closed_when_the_pool_counts_its_connection_no_more() {
    let address = server(|_, mut stream| async move {
        while read_head(&mut stream).await.is_some() {
            say(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf").await;
        }
    })
    .await;
    let (below, _, drops) = noted();
    let client = HttpClient::new(Pool::builder(HttpConnector::new(below)).server(address).build().unwrap());
    for number in 1..=3 {
        // The only thread runs no task of the connection from here on.
        drop(client.send(get("/")).await.unwrap());
        assert_eq!((client.pool().status().servers[0].open, drops.load(Ordering::Relaxed)), (0, number));
    }
}

#[tokio::test]
async fn socket_of_an_idle_connection_is_closed_as_soon_as_its_server_closes() {
    let address = server(|_, _| async {}).await;
    let (below, _, drops) = noted();
    let connector: HttpConnector<_, RequestBody> = HttpConnector::new(below);
    let conn = connector.connect(&Server::from(address)).await;
    let closes = async {
        while drops.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, closes).await.unwrap();
    drop(conn);
}
