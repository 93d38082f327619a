#![doc = include_str!("../README.md")]

use std::error::Error;
use std::future::Future;
use std::io;
use std::sync::Arc;

use connring::{CloseReason, ConnInfo, ConnectFault, Connector, Server, TcpConnector, is_idle};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

pub use tokio_rustls::rustls;

/// Connects by TLS over the streams of another connector, [`TcpConnector`] by default.
///
/// The certificate must be valid for the server's [`tls_server_name`](Server::tls_server_name), a DNS name or an IP
/// address: the host of its address, unless a tag says another. With the address of a Unix socket it needs the tag.
///
/// An idle connection is reusable while nothing can be read through TLS ([`is_idle`]). Session tickets, which a server
/// of TLS 1.3 sends after the handshake, are read on the way and serve the next handshake; `close_notify`, any other
/// alert, an end of file and bytes that no request asked for close the connection.
///
/// A connection that the pool closes in good order, such as one that was idle for too long, says `close_notify`. All
/// others are dropped, and so the server can tell that the stream may be cut off.
///
/// Of the connector beneath only `connect` and `classify` are used: its other hooks would read and write beneath TLS.
/// A connection is `tokio_rustls`'s stream: `conn.get_ref().1` is its state, with `alpn_protocol()`,
/// `protocol_version()` and `peer_certificates()`.
///
/// # Errors
///
/// [`TlsError`] says whose fault each is. The pool's connect timeout bounds connect and handshake together.
///
/// A server of TLS 1.3 that refuses the client's certificate says so after the handshake: then the first request fails.
#[derive(Debug, Clone)]
pub struct TlsConnector<C = TcpConnector> {
    beneath: C,
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    /// TLS over TCP. The configuration has the trusted roots, the client's certificate, the protocols of ALPN and the
    /// store of sessions, which all servers and all clones of this connector share.
    pub fn new(config: impl Into<Arc<ClientConfig>>) -> Self {
        Self::over(TcpConnector::new(), config)
    }
}

impl<C> TlsConnector<C> {
    /// TLS over the streams of a connector: one with other settings of TCP, of Unix sockets, or through a proxy.
    pub fn over(connector: C, config: impl Into<Arc<ClientConfig>>) -> Self {
        Self { beneath: connector, config: config.into() }
    }
}

impl<C> Connector for TlsConnector<C>
where
    C: Connector<Conn: AsyncRead + AsyncWrite + Unpin>,
{
    type Conn = TlsStream<C::Conn>;
    type Error = TlsError<C::Error>;

    async fn connect(&self, server: &Server) -> Result<TlsStream<C::Conn>, Self::Error> {
        let name = server_name(server)?;
        let stream = self.beneath.connect(server).await.map_err(TlsError::Connect)?;
        let tls = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        tls.connect(name, stream).await.map_err(TlsError::Handshake)
    }

    fn is_reusable(&self, conn: &mut TlsStream<C::Conn>, _: &ConnInfo) -> bool {
        is_idle(conn)
    }

    fn classify(&self, error: &Self::Error) -> ConnectFault {
        match error {
            TlsError::Connect(error) => self.beneath.classify(error),
            TlsError::ServerName { .. } => ConnectFault::Client,
            TlsError::Handshake(error) => ConnectFault::of(error),
        }
    }

    fn close(&self, mut conn: TlsStream<C::Conn>, _: CloseReason) -> Option<impl Future<Output = ()> + Send + 'static> {
        Some(async move {
            // The connection ends either way.
            let _ = conn.shutdown().await;
        })
    }
}

/// The name that the certificate of a server must be valid for.
fn server_name<E: Error>(server: &Server) -> Result<ServerName<'static>, TlsError<E>> {
    let name = server.tls_server_name();
    let refused = |_| TlsError::ServerName { server: server.name().to_owned(), name: name.to_owned() };
    ServerName::try_from(name.to_owned()).map_err(refused)
}

/// Why a connection with TLS could not be opened. `E` is the error of the connector beneath.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError<E: Error + 'static> {
    /// The connector beneath failed, and says whose fault it is.
    #[error(transparent)]
    Connect(E),
    /// The tag `tls_server_name`, or without it the host of the address, is no name that a certificate can have. The
    /// client's fault: nothing was connected to.
    #[error("TLS server name {name:?} of server {server:?} is neither a DNS name nor an IP address")]
    ServerName {
        /// The name of the server in the pool.
        server: String,
        /// The value that was refused.
        name: String,
    },
    /// The handshake failed: the certificate is not valid, no version or protocol is common to both, an alert came, or
    /// the stream ended. The server's fault, unless this host is out of buffers or memory.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use connring::TLS_SERVER_NAME;

    use super::*;

    #[test]
    fn error_names_the_server_name_that_was_refused() {
        let text = |server: &Server| server_name::<io::Error>(server).unwrap_err().to_string();
        let expected = r#"TLS server name "/run/db.sock" of server "db" is neither a DNS name nor an IP address"#;
        assert_eq!(text(&Server::named("db", "/run/db.sock")), expected);
        assert!(text(&Server::new("a:1").tag(TLS_SERVER_NAME, "no name")).contains(r#""no name" of server "a:1""#));
        assert!(text(&Server::new(":443")).contains(r#"TLS server name """#));
    }
}
