//! Accepts clients and answers their requests.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// How long accepting pauses where the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a client may take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(30);

/// Serves clients until `stop`, then returns those that are connected.
pub(crate) async fn serve<F, B>(
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    answer: impl Fn(IpAddr, Request<Incoming>) -> F + Clone + Send + 'static,
) -> GracefulShutdown
where
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    let clients = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stop => return clients,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            sleep(PAUSE).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let answer = answer.clone();
        let service = service_fn(move |request| {
            let answer = answer(from.ip(), request);
            async { Ok::<_, Infallible>(answer.await) }
        });
        let client = clients.watch(http.serve_connection(TokioIo::new(stream), service));
        // It fails where its client is gone.
        tokio::spawn(async { drop(client.await) });
    }
}
