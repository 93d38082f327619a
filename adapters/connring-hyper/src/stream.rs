//! The stream of a connection: hyper's task reads and writes it, and the connection's owner can close it at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::progress::Progress;

/// A stream that notes when the server takes bytes.
///
/// An aborted task drops its stream only when the runtime comes to it. The pool counts a connection as closed when its
/// owner has dropped it, so the owner drops the stream.
pub(crate) struct Stream<S: Send + 'static> {
    shared: Arc<Mutex<Option<S>>>,
    progress: Arc<Progress>,
}

impl<S: Send + 'static> Stream<S> {
    pub(crate) fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { shared: Arc::new(Mutex::new(Some(stream))), progress }
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner(Some(Arc::clone(&self.shared) as Arc<dyn Close>))
    }

    fn with<T>(&self, poll: impl FnOnce(&mut S) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &mut *self.shared.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(stream) => poll(stream),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.progress.moved();
        }
        written
    }
}

/// Closes the stream when dropped.
pub(crate) struct Owner(Option<Arc<dyn Close>>);

impl Owner {
    /// Leaves the stream to the task.
    pub(crate) fn let_go(&mut self) {
        self.0 = None;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(stream) = &self.0 {
            stream.close();
        }
    }
}

trait Close: Send + Sync {
    fn close(&self);
}

impl<S: Send> Close for Mutex<Option<S>> {
    fn close(&self) {
        let stream = self.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Without the lock.
        drop(stream);
    }
}

impl<S: Send + 'static> Drop for Stream<S> {
    fn drop(&mut self) {
        // The task has ended: the owner may keep its half for long.
        self.shared.close();
    }
}

impl<S: AsyncRead + Unpin + Send + 'static> AsyncRead for Stream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_read(cx, buf))
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> AsyncWrite for Stream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.note(self.with(|stream| Pin::new(stream).poll_write(cx, buf)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.note(self.with(|stream| Pin::new(stream).poll_write_vectored(cx, bufs)))
    }

    fn is_write_vectored(&self) -> bool {
        let stream = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }
}
