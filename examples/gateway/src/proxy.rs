//! A request goes to a server, and once more to another one where that is safe.

use std::net::IpAddr;
use std::time::Duration;

use connring::{AcquireOptions, TcpConnector};
use connring_hyper::{HttpClient, HttpConnector, ResponseBody, SendError, Verdict};
use http_body_util::{Either, Empty, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::response::Parts;
use hyper::{Method, Request, Response, StatusCode};

use crate::headers;

/// Connects to the servers.
pub(crate) type Backend = HttpConnector<TcpConnector, Either<Incoming, Empty<Bytes>>>;
/// A server's answer, or one of the gateway's own.
type Answer = Either<ResponseBody<Backend>, Full<Bytes>>;

/// Which answers say that the server itself cannot serve.
pub(crate) fn verdict(head: &Parts) -> Verdict {
    match head.status {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Verdict::Failure,
        _ => Verdict::Success,
    }
}

pub(crate) async fn forward(
    client: &HttpClient<Backend>,
    from: IpAddr,
    request: Request<Incoming>,
) -> Response<Answer> {
    if request.method() == Method::CONNECT {
        return own(StatusCode::METHOD_NOT_ALLOWED, "this is no forward proxy");
    }
    let (mut head, body) = request.into_parts();
    headers::remove_hop_by_hop(&mut head.headers);
    headers::add_forwarded_for(&mut head.headers, from);
    let has_body = !body.is_end_stream();
    let is_repeatable = head.method.is_idempotent() && !has_body;
    let spare = is_repeatable.then(|| Request::from_parts(head.clone(), Either::Right(Empty::new())));
    let body = if has_body { Either::Left(body) } else { Either::Right(Empty::new()) };

    let mut result = client.send(Request::from_parts(head, body)).await;
    if let (Err(error), Some(request)) = (&result, spare)
        && error.server().is_some()
    {
        result = client.send_with(AcquireOptions::new().avoid(error.server()), request).await;
    }
    match result {
        Ok(response) => {
            let mut response = response.map(Either::Left);
            headers::remove_hop_by_hop(response.headers_mut());
            response
        }
        Err(SendError::Acquire(error)) => {
            let mut response = own(StatusCode::SERVICE_UNAVAILABLE, &error.to_string());
            let seconds = error.retry_after().unwrap_or(Duration::from_secs(1)).as_secs_f64().ceil();
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
            response
        }
        Err(error @ SendError::Timeout { .. }) => own(StatusCode::GATEWAY_TIMEOUT, &error.to_string()),
        Err(error @ SendError::Stalled { .. }) => own(StatusCode::REQUEST_TIMEOUT, &error.to_string()),
        Err(error @ SendError::Request(_)) => own(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error) => own(StatusCode::BAD_GATEWAY, &error.to_string()),
    }
}

/// An answer of the gateway's own.
fn own(status: StatusCode, text: &str) -> Response<Answer> {
    let mut response = Response::new(Either::Right(Full::from(format!("gateway: {text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
