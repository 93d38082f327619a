//! Servers that cannot be connected to.

use std::time::Duration;

use connring::PooledConn;
use connring::test_util::{Connect, ScriptedConnector};

use super::super::world::{World, sleep};

const STEP: Duration = Duration::from_millis(1);
const ANSWER: Duration = Duration::from_millis(10);

pub struct Swallows {
    /// From its first attempt until it is down, relative to the connect timeout; not a number if it never is.
    pub down_after: f64,
    /// The most attempts at a time of those that began afterwards.
    pub attempts: usize,
}

/// One of two servers swallows SYNs from some time on, while a caller has a connection to it.
pub fn swallows(seed: u64) -> Swallows {
    const RPS: u32 = 200;
    const TIMEOUT: Duration = Duration::from_secs(1);
    let world = World::new(seed, &["a", "b"], |builder| builder.connect_timeout(TIMEOUT));
    let out = world.block_on(async {
        let [one, other] =
            [world.pool.acquire().await, world.pool.acquire().await].map(|conn| conn.expect("it accepts"));
        let (out, spare) = if one.address() == "b" { (one, other) } else { (other, one) };
        spare.release();
        out
    });
    assert_eq!(out.address(), "b");
    world.connector.on_connect("b", Connect::Never);
    let connected = world.connector.counts("b").attempts as usize;
    let request = || {
        let (pool, clock) = (world.pool.clone(), world.clock.clone());
        async move {
            let conn = pool.acquire().await.expect("one server is well");
            sleep(&clock, ANSWER).await;
            conn.release();
        }
    };
    world.load(Duration::from_secs(60), STEP, RPS, request);
    drop(out);
    let starts = world.connector.connect_times("b").split_off(connected);
    let (Some(&first), Some(down)) = (starts.first(), world.first("b", "down")) else {
        return Swallows { down_after: f64::NAN, attempts: usize::MAX };
    };
    let later: Vec<_> = starts.into_iter().filter(|&start| start > down).collect();
    assert!(later.len() > 5, "it is tried again");
    let at_a_time =
        |&start: &Duration| later.iter().filter(|&&other| other <= start && start < other + TIMEOUT).count();
    Swallows {
        down_after: (down - first).as_secs_f64() / TIMEOUT.as_secs_f64(),
        attempts: later.iter().map(at_a_time).max().unwrap_or(0),
    }
}

/// How often the connections in use have come back before.
#[derive(Clone, Copy)]
pub enum Uses {
    None,
    Some,
}

/// One of two servers refuses one connect while 100 of its connections are in use. They come back well, and are used
/// again and again. Returns how many connections to it are closed within 10 s.
pub fn refuses_once(seed: u64, uses: Uses) -> u64 {
    const CONNS: usize = 100;
    const SPARE: usize = 2;
    let world = World::new(seed, &["a", "b"], |builder| builder.max_conns_per_server((CONNS + SPARE) as u32));
    let mut conns = world.block_on(acquire(&world, 2 * CONNS));
    if matches!(uses, Uses::Some) {
        conns.into_iter().for_each(PooledConn::release);
        conns = world.block_on(acquire(&world, 2 * CONNS));
    }
    let in_use = conns.iter().filter(|conn| conn.address() == "a").count();
    assert_eq!((in_use, world.connector.counts("a").attempts), (CONNS, CONNS as u64));
    world.connector.next_connects("a", [Connect::Refuse]);
    conns.extend(world.block_on(acquire(&world, SPARE)));
    assert_eq!(world.connector.counts("a").attempts, 1 + CONNS as u64, "one more attempt, which was refused");
    for _ in 0..10 {
        world.pass(Duration::from_secs(1), STEP);
        let count = conns.len();
        conns.drain(..).for_each(PooledConn::release);
        conns = world.block_on(acquire(&world, count));
    }
    let counts = world.connector.counts("a");
    counts.connected - u64::from(counts.open)
}

async fn acquire(world: &World, count: usize) -> Vec<PooledConn<ScriptedConnector>> {
    let mut conns = Vec::new();
    for _ in 0..count {
        conns.push(world.pool.acquire_now().await.expect("one of the servers serves"));
    }
    conns
}

#[cfg(test)]
mod tests {
    use super::{Uses, refuses_once, swallows};

    #[test]
    fn black_hole_is_found_and_tried_by_one_attempt_at_a_time() {
        let swallows = swallows(1);
        assert!(swallows.down_after > 0.5 && swallows.attempts == 1, "{} {}", swallows.down_after, swallows.attempts);
    }

    #[test]
    fn refused_connect_closes_no_connection() {
        assert_eq!([Uses::None, Uses::Some].map(|uses| refuses_once(1, uses)), [0, 0]);
    }
}
