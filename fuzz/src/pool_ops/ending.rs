//! Nothing is left at the end, whatever goes first; and no task of the pool panicked on the way.

use std::cell::Cell;
use std::panic;
use std::sync::Once;

use super::rig::{Rig, poll_once, yield_now};

impl Rig {
    /// The pool is closed while connections are out; they come back in various ways.
    pub(super) async fn end_closed(mut self) {
        let pool = self.pool.clone();
        let mut close = Box::pin(async move { pool.close().await });
        let was_out = poll_once(close.as_mut()).is_pending();
        self.callers.clear();
        for (index, conn) in self.held.drain(..).enumerate() {
            match index % 3 {
                0 => conn.release(),
                1 => conn.fail("it is broken"),
                _ => conn.discard(),
            }
        }
        self.settle().await;
        let is_closed = !was_out || poll_once(close.as_mut()).is_ready();
        assert!(is_closed, "all came back: {:?}", self.pool.status());
        drop(close);
        self.end_dropped().await;
    }

    /// The last handle goes while connections are out.
    pub(super) async fn end_dropped(self) {
        let Self { pool, alive, connector, callers, held, detached, .. } = self;
        drop(callers);
        drop(pool);
        yield_now(24).await;
        let out = (held.len() + detached.len()) as u32;
        assert_eq!(connector.total_counts().open, out, "only what callers hold is left");
        held.into_iter().for_each(|conn| conn.release());
        drop(detached);
        yield_now(24).await;
        let counts = connector.total_counts();
        assert_eq!((counts.open, counts.in_flight), (0, 0), "nothing is left open");
        assert!(alive.upgrade().is_none(), "nothing holds the pool any more");
    }

    /// The runtime has gone, and its tasks with it.
    pub(super) fn end_without_runtime(self) {
        let Self { pool, alive, connector, callers, held, detached, .. } = self;
        assert_eq!(connector.total_counts().in_flight, 0, "its dials have gone with it");
        let _ = pool.try_acquire();
        drop(callers);
        held.into_iter().for_each(|conn| conn.release());
        drop(detached);
        drop(pool);
        assert_eq!(connector.total_counts().open, 0, "nothing is left open");
        assert!(alive.upgrade().is_none(), "nothing holds the pool any more");
    }
}

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Scripted panics are caught by the runtime and are to make no noise. Any other, which it would catch too, is
/// remembered.
pub(super) fn silence_scripted_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| text.ends_with("as scripted")) {
                PANICKED.set(true);
                before(info);
            }
        }));
    });
    PANICKED.set(false);
}

pub(super) fn check_no_panic() {
    assert!(!PANICKED.get(), "a task of the pool panicked");
}
