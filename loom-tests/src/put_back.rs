//! Models of a look for one kind of idle connection, which takes others out for a moment: they restate a few lines of
//! `src/core`.

use loom::sync::Arc;
use loom::thread;

use crate::check;
use crate::raw::ServerSet;
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

/// Property: an item that any caller may take once no server is up is found then, or the thread that has put it back
/// sees that none is up, and has the pool settled (I3).
/// Threads: the last server that is up goes down, and its thread looks for an item; the main thread looks for one that
/// is not there, and then whether any server is up.
/// Mutation that fails it: no fence in `ServerSet::refresh`.
pub fn a_last_resort_is_found_while_another_item_is_looked_for() {
    check(3, || {
        let (server, up) = (Server::new(), Arc::new(ServerSet::new(1)));
        server.release(7);
        up.refresh(0, || true);
        let goes_down = {
            let (server, up) = (Arc::clone(&server), Arc::clone(&up));
            thread::spawn(move || {
                up.refresh(0, || false);
                server.idle.pop(0).is_some()
            })
        };
        let refuse = |_| panic!("the set is open and has room");
        assert!(server.idle.pop_if(0, |_| false, refuse).is_none());
        let none_is_up = server.signals.waiters_after_change() == 0 && up.is_empty();
        assert!(goes_down.join().unwrap() || none_is_up, "an item is idle, and no one looks for it");
    });
}
