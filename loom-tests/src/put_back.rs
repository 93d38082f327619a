//! A model of a look for one kind of idle connection, which takes others out for a moment: restates a few lines of
//! `src/core`.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::wait_queue::Server;

/// Property: a waiter receives an item that another thread takes out for a moment, since it looks for others, and puts
/// back (I3).
/// Threads: one joins; the main thread looks for an item that is not there, and serves waiters if there are any.
/// Mutation that fails it: no fence in `join`; the CAS of `Slot::put` is only Release.
pub fn no_wake_up_is_lost_while_another_item_is_looked_for() {
    check(3, || {
        let server = Server::new();
        server.release(7);
        let joins = {
            let server = Arc::clone(&server);
            thread::spawn(move || server.join())
        };
        let refuse = |_| panic!("the set is open and has room");
        assert!(server.idle.pop_if(0, |_| false, refuse).is_none());
        if server.signals.waiters() > 0 {
            server.serve(0);
        }
        assert!(server.was_served(&mut joins.join().unwrap()));
    });
}
