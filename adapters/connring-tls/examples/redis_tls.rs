//! Pings a Redis through TLS, on a new connection, on the same one again, and on one that resumes the session.
//!
//! Run it with an address, a file with the root certificate, and the name in the server's certificate:
//! `cargo run -p connring-tls --example redis_tls -- 127.0.0.1:6390 ca.pem redis.example`.

use std::env;

use connring::{AcquireOptions, Pool, PooledConn, Server, TLS_SERVER_NAME};
use connring_tls::TlsConnector;
use connring_tls::rustls::pki_types::CertificateDer;
use connring_tls::rustls::pki_types::pem::PemObject;
use connring_tls::rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [address, root, name] = &arguments[..] else { return Err("usage: redis_tls ADDRESS ROOT NAME".into()) };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root)?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let server = Server::new(&**address).tag(TLS_SERVER_NAME, &**name);
    let pool = Pool::builder(TlsConnector::new(config)).server(server).build()?;

    let options = AcquireOptions::new();
    for options in [options.clone(), options.clone(), options.fresh()] {
        let mut conn = pool.acquire_with(options).await?;
        conn.write_all(b"PING\r\n").await?;
        let mut answer = [0; 7];
        conn.read_exact(&mut answer).await?;
        let (uses, tls) = (PooledConn::info(&conn).uses(), conn.get_ref().1);
        let (version, handshake) = (tls.protocol_version(), tls.handshake_kind());
        println!("{} by {version:?}, handshake {handshake:?}, used before: {uses}", answer.escape_ascii());
        conn.release();
    }
    pool.close().await;
    Ok(())
}
