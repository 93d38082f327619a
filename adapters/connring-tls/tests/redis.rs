//! Against the OpenSSL of a real Redis.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use connring::{Pool, PooledConn, Server, TLS_SERVER_NAME};
use connring_real_servers::{free_port, redis_with};
use connring_tls::TlsConnector;
use connring_tls::rustls::crypto::ring;
use connring_tls::rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

async fn ping(conn: &mut PooledConn<TlsConnector>) {
    conn.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    conn.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[tokio::test]
async fn connection_is_reused_until_its_server_dies() {
    let identity = rcgen::generate_simple_self_signed(["redis.example".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, identity.cert.pem()).unwrap();
    fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    let (cert, key, port) = (cert.to_str().unwrap(), key.to_str().unwrap(), free_port().to_string());
    let tls = ["--tls-port", &port, "--tls-auth-clients", "no", "--tls-cert-file", cert, "--tls-key-file", key];
    let Some(mut redis) = redis_with(&tls) else { return };

    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = Server::new(format!("127.0.0.1:{port}")).tag(TLS_SERVER_NAME, "redis.example");
    let pool = Pool::builder(TlsConnector::new(config)).server(server).build().unwrap();
    for uses in 0..4 {
        let mut conn = pool.acquire().await.unwrap();
        assert_eq!(PooledConn::info(&conn).uses(), uses);
        ping(&mut conn).await;
        conn.release();
    }

    redis.kill();
    redis.start_again();
    // The reactor delivers the end of the old connection.
    sleep(Duration::from_millis(1)).await;
    let mut conn = timeout(Duration::from_secs(20), pool.acquire()).await.unwrap().unwrap();
    assert_eq!(PooledConn::info(&conn).uses(), 0);
    ping(&mut conn).await;
}
