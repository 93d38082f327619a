//! HTTP/1.1 over nginx: a GET of a path, which the server sends back.

use std::fs::{self, File};
use std::io::{Read, Seek};

use connring::{ConnInfo, Pool, TcpConnector};
use connring_hyper::{HttpClient, HttpConnector};
use connring_real_servers::RealServer;
use deadpool::managed::{Manager, Metrics, RecycleResult};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::pools::{CONNECT, PATIENCE};
use crate::protocol::{Ask, BoxError, Protocol, Reply};

type Body = Empty<Bytes>;

/// One nginx. Has the list of its workers open.
pub(crate) struct Http(File);

/// One is taken by the listener, and one by nginx's own use.
const LIMIT: &str = "worker_connections 6;";
/// As the server was started.
const UNLIMITED: &str = "worker_connections 4096;";

/// The manager that users of deadpool or bb8 would write: hyper knows whether a connection is open and ready.
pub(crate) struct Sender {
    address: String,
}

impl Sender {
    async fn open(&self) -> Result<SendRequest<Body>, BoxError> {
        let stream = timeout(CONNECT, TcpStream::connect(&self.address)).await??;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

impl Manager for Sender {
    type Type = SendRequest<Body>;
    type Error = BoxError;

    async fn create(&self) -> Result<SendRequest<Body>, BoxError> {
        self.open().await
    }

    async fn recycle(&self, sender: &mut SendRequest<Body>, _: &Metrics) -> RecycleResult<BoxError> {
        Ok(sender.ready().await.map_err(BoxError::from)?)
    }
}

impl bb8::ManageConnection for Sender {
    type Connection = SendRequest<Body>;
    type Error = BoxError;

    async fn connect(&self) -> Result<SendRequest<Body>, BoxError> {
        self.open().await
    }

    async fn is_valid(&self, sender: &mut SendRequest<Body>) -> Result<(), BoxError> {
        Ok(sender.ready().await?)
    }

    fn has_broken(&self, sender: &mut SendRequest<Body>) -> bool {
        sender.is_closed()
    }
}

impl Ask for SendRequest<Body> {
    async fn ask(&mut self, text: &str) -> Result<String, BoxError> {
        let request = Request::get(format!("/{text}")).header(HOST, "faults").body(Body::new())?;
        read(self.send_request(request).await?).await
    }
}

/// The path that a response repeats.
async fn read<B>(response: Response<B>) -> Result<String, BoxError>
where
    B: hyper::body::Body<Error: std::error::Error + Send + Sync + 'static>,
{
    if !response.status().is_success() {
        return Err(response.status().to_string().into());
    }
    let body = response.into_body().collect().await?.to_bytes();
    let path = String::from_utf8(body.into())?;
    Ok(path.trim_start_matches('/').to_owned())
}

impl Protocol for Http {
    const NAME: &str = "nginx";
    const CLOSES: &str = "SIGKILL of its worker";
    const LIMITS: &str = "worker_connections";
    type Connector = HttpConnector<TcpConnector, Body>;
    type Client = HttpClient<Self::Connector>;
    type Deadpool = Sender;
    type Bb8 = Sender;

    fn start() -> Option<RealServer> {
        // By default nginx closes each connection after 1 000 requests, which would hide the connects after a fault.
        connring_real_servers::nginx("access_log off; keepalive_requests 1000000000; location / { return 200 $uri; }")
    }

    fn connector() -> Self::Connector {
        HttpConnector::new(TcpConnector::new())
            .check_with(|| Request::get("/health").body(Body::new()).expect("a request"))
    }

    fn client(pool: Pool<Self::Connector>) -> Self::Client {
        HttpClient::new(pool).head_timeout(PATIENCE)
    }

    async fn request(client: &Self::Client, text: &str) -> Result<Reply, ()> {
        let request = Request::get(format!("/{text}")).body(Body::new()).map_err(drop)?;
        let response = client.send(request).await.map_err(drop)?;
        let info = response.extensions().get::<ConnInfo>().ok_or(())?;
        let server = info.server().name().parse().map_err(drop)?;
        let text = timeout(PATIENCE, read(response)).await.map_err(drop)?.map_err(drop)?;
        Ok(Reply { text, server })
    }

    fn deadpool(address: &str) -> Sender {
        Sender { address: address.to_owned() }
    }

    fn bb8(address: &str) -> Sender {
        Sender { address: address.to_owned() }
    }

    async fn administer(server: &RealServer) -> Result<Self, BoxError> {
        let master = fs::read_to_string(server.folder().join("pid"))?;
        let master = master.trim();
        Ok(Self(File::open(format!("/proc/{master}/task/{master}/children"))?))
    }

    /// The master starts another worker at once.
    async fn close_all(&mut self, _: &RealServer) -> Result<(), BoxError> {
        let mut workers = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut workers)?;
        for worker in workers.split_whitespace() {
            // One that has ended meanwhile is no error.
            let _ = Pid::from_raw(worker.parse()?).map(|worker| kill_process(worker, Signal::KILL));
        }
        Ok(())
    }

    async fn set_limited(&mut self, server: &RealServer, is_limited: bool) -> Result<(), BoxError> {
        let file = server.folder().join("nginx.conf");
        let (from, to) = if is_limited { (UNLIMITED, LIMIT) } else { (LIMIT, UNLIMITED) };
        fs::write(&file, fs::read_to_string(&file)?.replace(from, to))?;
        server.signal(Signal::HUP);
        Ok(())
    }
}
