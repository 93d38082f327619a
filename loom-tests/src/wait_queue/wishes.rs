//! A waiter with a wish, which accepts no idle item here.

use loom::sync::Arc;
use loom::thread;

use super::Server;
use crate::check;

/// Property: no wake-up is lost behind a waiter that does not accept the item (I1).
/// Threads: a waiter with a wish is in front; two join; the main thread releases one item.
/// Mutation that fails it: no waiter behind the front one is asked.
pub fn no_wake_up_is_lost_behind_a_waiter_with_a_wish() {
    check(3, || {
        let server = Server::new();
        let mut wishing = server.waiter(true, Some(Arc::new(())));
        let joiners = [(); 2].map(|()| {
            let server = Arc::clone(&server);
            thread::spawn(move || server.join())
        });
        server.release(7);
        let mut waiters = joiners.map(|joiner| joiner.join().unwrap());
        let served = waiters.iter_mut().map(|waiter| usize::from(server.was_served(waiter))).sum::<usize>();
        assert_eq!((served, server.idle.len(), server.was_served(&mut wishing)), (1, 0, false));
        server.leave(wishing);
    });
}
