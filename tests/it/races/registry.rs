//! No user code runs under the registry's lock.

use super::*;

/// Asks the pool for something that takes the registry's lock, when it is dropped.
struct AsksBack(Pool<ScriptedConnector>);

impl std::fmt::Debug for AsksBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it asks back")
    }
}

impl std::fmt::Display for AsksBack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it asks back")
    }
}

impl std::error::Error for AsksBack {}

impl Drop for AsksBack {
    fn drop(&mut self) {
        let _ = self.0.deregister("unknown");
    }
}

/// The last connection of a removed server comes back beside a change of the list, which then drops the server.
#[test]
fn no_error_is_dropped_under_the_lock_of_the_registry() {
    assert!(ends(|| {
        let runtime = RuntimeBuilder::new_current_thread().enable_all().build().expect("a runtime");
        let _entered = runtime.enter();
        let builder = Pool::builder(ScriptedConnector::new(Clock::manual())).upkeep(false).max_conns_per_server(2);
        let pool = builder.clock(Clock::manual()).build().expect("the settings are in range");
        let others: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        for _ in 0..500 {
            pool.set_servers(["a"]).expect("it is in range");
            let held = runtime.block_on(pool.acquire()).expect("it accepts");
            runtime.block_on(pool.acquire()).expect("it accepts").fail(AsksBack(pool.clone()));
            let barrier = std::sync::Barrier::new(2);
            pool.deregister("a").expect("it is registered");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    barrier.wait();
                    drop(held);
                });
                barrier.wait();
                pool.set_servers(others.iter().map(String::as_str)).expect("they are in range");
            });
        }
    }));
}
