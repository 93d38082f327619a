//! TLS with a real server.

use std::sync::Arc;
use std::time::Duration;

use connring::{ConnectFault, Connector, Pool, Server, TLS_SERVER_NAME};
use connring_postgres::{Error, PostgresConnector};
use connring_real_servers::{RealServer, postgres_tls};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres_rustls::MakeRustlsConnect;

/// A server with a certificate for `names`, and a connector that trusts it.
fn server(names: &[&str]) -> Option<(RealServer, PostgresConnector<MakeRustlsConnect>)> {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let identity = rcgen::generate_simple_self_signed(names).unwrap();
    let server = postgres_tls(&identity.cert.pem(), &identity.signing_key.serialize_pem())?;
    let mut roots = RootCertStore::empty();
    roots.add(identity.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = PostgresConnector::new("user=postgres dbname=postgres sslmode=require".parse().unwrap());
    Some((server, connector.tls(MakeRustlsConnect::new(config))))
}

/// The process of a session, and whether it has TLS.
async fn session(client: &Client) -> (i32, bool) {
    let row = client.query_one("SELECT pid, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn certificate_is_checked_against_the_host_of_the_address_or_the_tag() {
    let Some((server, connector)) = server(&["localhost", "db.example"]) else { return };
    let by_name = Server::new(format!("localhost:{}", server.port()));
    let by_ip = Server::new(server.address());
    for right in [by_name.clone(), by_ip.clone().tag(TLS_SERVER_NAME, "db.example")] {
        assert!(session(&connector.connect(&right).await.unwrap()).await.1, "{right:?}");
    }
    for wrong in [by_ip, by_name.tag(TLS_SERVER_NAME, "other.example")] {
        let error = connector.connect(&wrong).await.unwrap_err();
        assert_eq!(connector.classify(&error), ConnectFault::Server, "{error:?}");
        assert!(matches!(&error, Error::Postgres(error) if error.to_string().contains("TLS")), "{error:?}");
    }
}

#[tokio::test]
async fn dropped_request_is_cancelled_and_the_session_reused() {
    let Some((server, connector)) = server(&["db.example"]) else { return };
    let server = Server::new(server.address()).tag(TLS_SERVER_NAME, "db.example");
    let pool = Pool::builder(connector).max_conns_per_server(1).server(server).build().unwrap();
    let conn = pool.acquire().await.unwrap();
    let first = session(&conn).await;
    assert!(timeout(Duration::from_millis(20), conn.batch_execute("SELECT pg_sleep(60)")).await.is_err());
    drop(conn);
    let conn = pool.acquire_timeout(Duration::from_secs(10)).await.unwrap();
    assert_eq!(session(&conn).await, first);
    assert!(first.1);
}
