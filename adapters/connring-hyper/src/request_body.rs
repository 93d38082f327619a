//! The body of a request, which tells how far it is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::progress::{Progress, Upload};

pin_project! {
    pub(crate) struct RequestBody<B> {
        #[pin]
        body: B,
        noted: Noted,
    }
}

/// hyper drops a body when it needs no more of it.
struct Noted(Arc<Progress>);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.set_upload(Upload::Ended);
    }
}

impl<B> RequestBody<B> {
    /// A request of which `progress` is told.
    pub(crate) fn within(request: Request<B>, progress: &Arc<Progress>) -> Request<Self> {
        progress.set_upload(Upload::Sending);
        request.map(|body| Self { body, noted: Noted(Arc::clone(progress)) })
    }

    pub(crate) fn into_inner(self) -> B {
        self.body
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        this.noted.0.set_upload(if frame.is_pending() { Upload::Waiting } else { Upload::Sending });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
