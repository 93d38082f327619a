//! Against a server of tokio-rustls, with certificates made for the test.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use connring::test_util::conn_info;
use connring::{
    AcquireError, ConnInfo, ConnectFault, Connector, Failure, Pool, PooledConn, Reason, Server, StateKind,
    TLS_SERVER_NAME, connect_fn,
};
use connring_tls::rustls::crypto::ring;
use connring_tls::rustls::pki_types::CertificateDer;
use connring_tls::rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use connring_tls::{TlsConnector, TlsError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a condition may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The two ends' configurations, with a certificate for `name` that the client trusts.
fn configs(name: &str) -> (ClientConfig, ServerConfig) {
    let identity = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], identity.signing_key.into())
        .unwrap();
    (client(identity.cert.der()), server)
}

fn client(root: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Serves each connection by `handle`, after the handshake. Returns the server's address.
async fn serve<F>(config: ServerConfig, handle: fn(TlsStream<TcpStream>) -> F) -> Server
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Server::from(listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let accepting = acceptor.accept(stream);
            tokio::spawn(async move {
                if let Ok(stream) = accepting.await {
                    handle(stream).await;
                }
            });
        }
    });
    server
}

async fn echo(mut stream: TlsStream<TcpStream>) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).await.is_ok() {
        stream.write_all(&byte).await.unwrap();
        stream.flush().await.unwrap();
    }
}

async fn send_and_receive(conn: &mut PooledConn<TlsConnector>) {
    conn.write_all(b"x").await.unwrap();
    assert_eq!(conn.read_u8().await.unwrap(), b'x');
}

fn info(server: &Server) -> ConnInfo {
    conn_info(server.clone(), Duration::ZERO, Duration::ZERO, 0)
}

/// The only server's failed connect.
async fn failure<C: Connector>(pool: &Pool<C>) -> Arc<Failure<C::Error>> {
    let AcquireError::Unavailable(reason) = pool.acquire_now().await.err().unwrap() else {
        panic!("no attempt is left")
    };
    match &reason.servers()[0].reason {
        Reason::Down { cause: Some(cause), .. } | Reason::Paused { cause: Some(cause), .. } => Arc::clone(cause),
        other => panic!("no failure: {other:?}"),
    }
}

#[tokio::test]
async fn session_tickets_leave_the_connection_reusable_and_resume_the_session_of_the_next_one() {
    let (client, server) = configs("127.0.0.1");
    assert_eq!(server.send_tls13_tickets, 2);
    let server = serve(server, echo).await;
    let connector = TlsConnector::new(client);
    let mut conn = connector.connect(&server).await.unwrap();
    assert_eq!(conn.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));

    let tickets = conn.get_ref().0.peek(&mut [0]).await.unwrap();
    assert_eq!(tickets, 1, "they lie in the socket, unread");
    let next = async {
        loop {
            assert!(connector.is_reusable(&mut conn, &info(&server)));
            let next = connector.connect(&server).await.unwrap();
            if next.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                break;
            }
        }
    };
    timeout(PATIENCE, next).await.expect("the tickets were read");
    conn.write_all(b"x").await.unwrap();
    assert_eq!(conn.read_u8().await.unwrap(), b'x');
    assert!(connector.is_reusable(&mut conn, &info(&server)));
}

#[tokio::test]
async fn released_connection_is_reused() {
    let (client, server) = configs("127.0.0.1");
    let pool = Pool::builder(TlsConnector::new(client)).server(serve(server, echo).await).build().unwrap();
    for uses in 0..4 {
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(PooledConn::info(&conn).uses(), uses);
        send_and_receive(&mut conn).await;
        conn.release();
    }
}

/// Waits until the connector calls a connection unfit, of a server that sends no tickets.
async fn becomes_unfit<F>(handle: fn(TlsStream<TcpStream>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (client, mut server) = configs("127.0.0.1");
    server.send_tls13_tickets = 0;
    let server = serve(server, handle).await;
    let connector = TlsConnector::new(client);
    let mut conn = connector.connect(&server).await.unwrap();
    let unfit = async {
        while connector.is_reusable(&mut conn, &info(&server)) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, unfit).await.expect("it is unfit");
}

#[tokio::test]
async fn close_notify_on_an_open_socket_makes_an_idle_connection_unfit() {
    becomes_unfit(|mut stream| async move {
        stream.get_mut().1.send_close_notify();
        stream.flush().await.unwrap();
        std::future::pending().await
    })
    .await;
}

#[tokio::test]
async fn end_of_file_without_close_notify_makes_an_idle_connection_unfit() {
    becomes_unfit(|stream| async move { drop(stream) }).await;
}

#[tokio::test]
async fn late_answer_makes_an_idle_connection_unfit() {
    becomes_unfit(|mut stream| async move {
        stream.write_all(b"late").await.unwrap();
        stream.flush().await.unwrap();
        std::future::pending().await
    })
    .await;
}

#[tokio::test]
async fn connection_that_the_pool_closes_says_close_notify_and_one_that_is_discarded_does_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) = configs("127.0.0.1");
    let pool = Pool::builder(TlsConnector::new(client)).server(listener.local_addr().unwrap()).build().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let (sender, mut ends) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let end = acceptor.accept(stream).await.unwrap().read(&mut [0]).await;
            sender.send(end.map_err(|error| error.kind())).unwrap();
        }
    });
    pool.acquire().await.unwrap().discard();
    assert_eq!(ends.recv().await, Some(Err(io::ErrorKind::UnexpectedEof)));
    pool.acquire().await.unwrap().release();
    pool.close().await;
    assert_eq!(ends.recv().await, Some(Ok(0)));
}

#[tokio::test]
async fn certificate_for_another_name_takes_the_server_down_unless_the_tag_names_it() {
    let (client, server) = configs("db.example");
    let server = serve(server, echo).await;
    let pool = Pool::builder(TlsConnector::new(client)).server(server.clone()).build().unwrap();
    let failure = failure(&pool).await;
    let Failure::Connect(TlsError::Handshake(error)) = &*failure else { panic!("{failure:?}") };
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(pool.status().servers[0].state.kind(), StateKind::Down);

    pool.update(server.tag(TLS_SERVER_NAME, "db.example")).unwrap();
    send_and_receive(&mut timeout(PATIENCE, pool.acquire()).await.unwrap().unwrap()).await;
}

#[tokio::test]
async fn certificate_that_no_root_signed_is_the_servers_fault() {
    let (_, server) = configs("127.0.0.1");
    let (other, _) = configs("127.0.0.1");
    let connector = TlsConnector::new(other);
    let error = connector.connect(&serve(server, echo).await).await.unwrap_err();
    assert!(matches!(error, TlsError::Handshake(_)), "{error:?}");
    assert_eq!(connector.classify(&error), ConnectFault::Server);
}

#[tokio::test]
async fn server_name_that_is_none_is_the_clients_fault_and_nothing_is_connected_to() {
    let (client, _) = configs("127.0.0.1");
    let beneath = connect_fn(|_: Server| async { panic!("it connects") as io::Result<TcpStream> });
    let server = Server::new("127.0.0.1:1").tag(TLS_SERVER_NAME, "no name");
    let pool = Pool::builder(TlsConnector::over(beneath, client)).server(server).build().unwrap();
    let failure = failure(&pool).await;
    let Failure::Connect(TlsError::ServerName { name, .. }) = &*failure else { panic!("{failure:?}") };
    assert_eq!(name, "no name");
    assert_eq!(pool.status().servers[0].state.kind(), StateKind::Up);
}

#[tokio::test]
async fn connector_beneath_classifies_its_own_errors() {
    let (client, _) = configs("a");
    let refuses =
        connect_fn(|_: Server| async { io::Result::<TcpStream>::Err(io::ErrorKind::ConnectionRefused.into()) });
    let connector = TlsConnector::over(refuses.classify(|_| ConnectFault::Client), client);
    let error = connector.connect(&Server::new("a:1")).await.unwrap_err();
    assert_eq!(connector.classify(&error), ConnectFault::Client);
    assert_eq!(error.to_string(), io::Error::from(io::ErrorKind::ConnectionRefused).to_string());
}

#[tokio::test]
async fn connection_over_any_stream_tells_the_protocol_of_alpn() {
    let (mut client, mut server) = configs("a");
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let beneath = connect_fn(move |_: Server| {
        let (near, far) = duplex(16_384);
        tokio::spawn(acceptor.accept(far));
        async { io::Result::<DuplexStream>::Ok(near) }
    });
    let pool = Pool::builder(TlsConnector::over(beneath, client)).server("a:1").build().unwrap();
    let conn = pool.acquire().await.unwrap();
    assert_eq!(conn.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn connect_timeout_ends_a_handshake_that_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, _) = configs("127.0.0.1");
    let builder = Pool::builder(TlsConnector::new(client)).server(listener.local_addr().unwrap());
    let pool = builder.connect_timeout(Duration::from_millis(100)).build().unwrap();
    let failure = failure(&pool).await;
    assert!(matches!(*failure, Failure::ConnectTimeout { .. }), "{failure:?}");
}
