//! Servers that connect and fail at their requests, and clients that leave.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use connring::test_util::{RoundTrip, ScriptedConn};

use super::super::world::{Draws, World, sleep};

const SERVERS: [&str; 4] = ["a", "b", "c", "d"];
/// The one that fails.
const SICK: &str = "a";
/// How long an answer takes.
const ANSWER: Duration = Duration::from_millis(10);
const STEP: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

pub struct FailsHalf {
    /// Of its share of the requests.
    pub kept_percent: f64,
    pub ejections_a_minute: f64,
}

/// One of four servers fails half of its requests at once; the callers report it.
pub fn fails_half(seed: u64, minutes: u32) -> FailsHalf {
    const RPS: u32 = 400;
    let world = World::new(seed, &SERVERS, |builder| builder);
    let (draws, met, all) = (Arc::new(Draws::new(seed)), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let step = Duration::from_secs(1) / RPS;
    world.load(MINUTE * minutes, step, RPS, || {
        let (pool, clock, draws) = (world.pool.clone(), world.clock.clone(), Arc::clone(&draws));
        let (met, all) = (Arc::clone(&met), Arc::clone(&all));
        async move {
            let conn = pool.acquire().await.expect("three servers are well");
            all.fetch_add(1, Ordering::Relaxed);
            if is_sick(&conn) {
                met.fetch_add(1, Ordering::Relaxed);
                if draws.happens(0.5) {
                    return conn.fail("internal error");
                }
            }
            sleep(&clock, ANSWER).await;
            conn.release();
        }
    });
    let share = all.load(Ordering::Relaxed) as f64 / SERVERS.len() as f64;
    let ejections = world.changes().iter().filter(|change| change.state == "ejected").count();
    FailsHalf {
        kept_percent: 100.0 * met.load(Ordering::Relaxed) as f64 / share,
        ejections_a_minute: ejections as f64 / f64::from(minutes),
    }
}

/// Four servers are well, and a fifth of all requests is dropped by the client after a second. Returns how often a
/// server was taken out of use.
pub fn clients_leave(seed: u64) -> usize {
    const RPS: u32 = 4_000;
    let world = World::new(seed, &SERVERS, |builder| builder.max_conns_per_server(400));
    let draws = Arc::new(Draws::new(seed));
    world.load(MINUTE, STEP, RPS, || {
        let (pool, clock, draws) = (world.pool.clone(), world.clock.clone(), Arc::clone(&draws));
        async move {
            let conn = pool.acquire().await.expect("all servers are well");
            if draws.happens(0.2) {
                sleep(&clock, Duration::from_secs(1)).await;
                return drop(conn);
            }
            sleep(&clock, ANSWER).await;
            conn.release();
        }
    });
    let opened = world.connector.total_counts().connected;
    assert!(opened > u64::from(RPS), "a dropped connection is closed, and another one opened: {opened}");
    world.outages()
}

pub struct Hangs {
    /// From its last answer until it is ejected; not a number if it never is.
    pub ejected_after: f64,
    /// Of the requests from then on.
    pub met_percent: f64,
}

/// One of three servers accepts connections and answers nothing from some time on. The callers' timeout of a second
/// lies outside: the future of the whole request is dropped. `check` tells how the check of a probe ends there.
pub fn hangs(seed: u64, check: RoundTrip) -> Hangs {
    const RPS: u32 = 2_000;
    const CALLERS_TIMEOUT: Duration = Duration::from_secs(1);
    let world = World::new(seed, &SERVERS[..3], |builder| builder.max_conns_per_server(64));
    let (hung, met) = (Arc::<AtomicBool>::default(), Arc::<Mutex<Vec<Duration>>>::default());
    let request = || {
        let (pool, clock, hung) = (world.pool.clone(), world.clock.clone(), Arc::clone(&hung));
        let met = Arc::clone(&met);
        async move {
            let whole = async {
                let conn = pool.acquire().await.expect("two servers are well");
                if is_sick(&conn) {
                    met.lock().unwrap_or_else(PoisonError::into_inner).push(clock.now());
                }
                sleep(&clock, ANSWER).await;
                if is_sick(&conn) && hung.load(Ordering::Relaxed) {
                    pending::<()>().await;
                }
                conn.release();
            };
            tokio::select! {
                biased;
                () = whole => {}
                () = sleep(&clock, CALLERS_TIMEOUT) => {}
            }
        }
    };
    world.load(Duration::from_secs(5), STEP, RPS, request);
    hung.store(true, Ordering::Relaxed);
    world.connector.set_check(SICK, check);
    let began = world.clock.now();
    world.load(MINUTE, STEP, RPS, request);
    let Some(ejected) = world.first(SICK, "ejected") else {
        return Hangs { ejected_after: f64::NAN, met_percent: f64::NAN };
    };
    let later = met.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|&&at| at > ejected).count();
    let requests = (world.clock.now() - ejected).as_secs_f64() * f64::from(RPS);
    Hangs { ejected_after: (ejected - began).as_secs_f64(), met_percent: 100.0 * later as f64 / requests }
}

fn is_sick(conn: &ScriptedConn) -> bool {
    conn.address() == SICK
}

#[cfg(test)]
mod tests {
    use connring::test_util::RoundTrip;

    use super::{clients_leave, fails_half, hangs};

    #[test]
    fn server_that_fails_half_is_ejected_again_and_again() {
        let half = fails_half(1, 1);
        assert!(half.kept_percent < 20.0 && half.ejections_a_minute > 2.0, "{} %", half.kept_percent);
    }

    #[test]
    fn clients_that_leave_eject_no_server() {
        assert_eq!(clients_leave(1), 0);
    }

    #[test]
    fn server_that_hangs_is_found_without_a_report() {
        let hangs = hangs(1, RoundTrip::Ok);
        assert!(hangs.ejected_after > 0.3 && hangs.ejected_after < 3.0, "after {} s", hangs.ejected_after);
        assert!(hangs.met_percent < 0.5, "{} %", hangs.met_percent);
    }
}
