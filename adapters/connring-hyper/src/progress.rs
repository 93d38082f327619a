//! How far the exchange on a connection is, and a bound on the time in which nothing moves.

#![allow(clippy::disallowed_methods, reason = "the bounds are those of tokio's timers, which a test can pause")]

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A silence that is found later than this does not count: the reader did not poll meanwhile, or the process stood
/// still, and what the server sent then waits to be read.
const LATE: Duration = Duration::from_millis(300);

/// Written by the stream of a connection and by the body of its request, which another task polls.
pub(crate) struct Progress(Mutex<State>);

struct State {
    /// When the server last took a part of the request, or the caller gave one.
    moved_at: Instant,
    upload: Upload,
}

/// The body of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// Taken to its end, or there is none.
    Ended,
    /// It is the server that takes it.
    Sending,
    /// The next part of it is the caller's to give.
    Waiting,
}

/// The side that keeps the other one waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silent {
    Server,
    Caller,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(State { moved_at: Instant::now(), upload: Upload::Ended }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server took bytes.
    pub(crate) fn moved(&self) {
        self.state().moved_at = Instant::now();
    }

    pub(crate) fn set_upload(&self, upload: Upload) {
        let mut state = self.state();
        state.upload = upload;
        // One that still waits gave nothing.
        if upload != Upload::Waiting {
            state.moved_at = Instant::now();
        }
    }

    pub(crate) fn is_uploading(&self) -> bool {
        self.state().upload != Upload::Ended
    }

    /// When nothing has moved for that time since `since`, if ever.
    fn silent_at(&self, since: Instant, time: Duration) -> Option<Instant> {
        since.max(self.state().moved_at).checked_add(time)
    }

    /// The side whose turn it is.
    fn silent(&self) -> Silent {
        if self.state().upload == Upload::Waiting { Silent::Caller } else { Silent::Server }
    }
}

/// A bound on the silence in one exchange.
pub(crate) struct Bound {
    after: Option<Duration>,
    progress: Arc<Progress>,
    /// Since when a part of the response is awaited.
    since: Option<Instant>,
    /// Kept from one wait to the next. It fires early then, and sleeps on.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Bound {
    pub(crate) fn new(after: Option<Duration>, progress: Arc<Progress>) -> Self {
        Self { after, progress, since: None, sleep: None }
    }

    pub(crate) fn set(&mut self, after: Option<Duration>) {
        self.after = after;
    }

    pub(crate) fn after(&self) -> Duration {
        self.after.unwrap_or(Duration::MAX)
    }

    /// A part of the response came.
    pub(crate) fn heard(&mut self) {
        self.since = None;
    }

    /// A part of the response is awaited. Ready when nothing has moved for the time of this bound.
    pub(crate) fn poll_silent(&mut self, cx: &mut Context<'_>) -> Poll<Silent> {
        let mut since = *self.since.get_or_insert_with(Instant::now);
        let Some(after) = self.after else { return Poll::Pending };
        loop {
            // Later than any time.
            let Some(over) = self.progress.silent_at(since, after) else { return Poll::Pending };
            let now = Instant::now();
            if over <= now && now - over < LATE {
                return Poll::Ready(self.progress.silent());
            }
            if over <= now {
                since = *self.since.insert(now);
                continue;
            }
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(over)));
            if sleep.is_elapsed() || sleep.deadline() > over {
                sleep.as_mut().reset(over);
            }
            ready!(sleep.as_mut().poll(cx));
        }
    }

    /// Whether a part of the response has been awaited from the server for at least that time.
    pub(crate) fn awaits_server_for(&self, time: Duration) -> bool {
        let silent_at = self.since.and_then(|since| self.progress.silent_at(since, time));
        silent_at.is_some_and(|over| over <= Instant::now()) && self.progress.silent() == Silent::Server
    }
}
