//! The end of a run: checks for each order of teardown that nothing is left, and that no task of the pool panicked.

use std::cell::Cell;
use std::panic;
use std::sync::Once;

use super::rig::{Rig, poll_once, yield_now};

impl Rig {
    /// Closes the pool while connections are checked out, then ends their uses in various ways.
    pub(super) async fn end_closed(mut self) {
        let pool = self.pool.clone();
        let mut close = Box::pin(async move { pool.close().await });
        let was_pending = poll_once(close.as_mut()).is_pending();
        self.callers.clear();
        for (index, held) in self.held.drain(..).enumerate() {
            match index % 3 {
                0 => held.conn.release(),
                1 => held.conn.fail("broken"),
                _ => held.conn.discard(),
            }
        }
        self.settle().await;
        let is_closed = !was_pending || poll_once(close.as_mut()).is_ready();
        assert!(is_closed, "`close` ends after the last return: {:?}", self.pool.status());
        drop(close);
        self.end_dropped().await;
    }

    /// Drops the last handle while connections are checked out.
    pub(super) async fn end_dropped(self) {
        let Self { pool, alive, connector, callers, held, detached, .. } = self;
        drop(callers);
        drop(pool);
        yield_now(24).await;
        let out = (held.len() + detached.len()) as u32;
        assert_eq!(connector.total_counts().open, out, "only connections that callers hold are open");
        held.into_iter().for_each(|held| held.conn.release());
        drop(detached);
        yield_now(24).await;
        let counts = connector.total_counts();
        assert_eq!((counts.open, counts.in_flight), (0, 0), "no connection and no attempt is left");
        assert!(alive.upgrade().is_none(), "a reference to the pool is left");
    }

    /// Ends the run after the runtime and its tasks were dropped.
    pub(super) fn end_without_runtime(self) {
        let Self { pool, alive, connector, callers, held, detached, .. } = self;
        assert_eq!(connector.total_counts().in_flight, 0, "connect attempts end with the runtime");
        let _ = pool.try_acquire();
        drop(callers);
        held.into_iter().for_each(|held| held.conn.release());
        drop(detached);
        drop(pool);
        assert_eq!(connector.total_counts().open, 0, "no connection and no attempt is left");
        assert!(alive.upgrade().is_none(), "a reference to the pool is left");
    }
}

thread_local! {
    static PANICKED: Cell<bool> = const { Cell::new(false) };
}

/// Installs a panic hook that silences scripted panics and records any other. The runtime catches both kinds.
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
