//! The script of server failures.

use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::now;
use crate::pools::Contestant;
use crate::record::name;
use crate::servers::OwnServer;

/// The number of servers in the script, and how many of them are in the pool at the start.
pub(crate) const SERVERS: usize = 5;
pub(crate) const INITIAL_SERVERS: usize = 4;

/// A change of a server.
#[derive(Debug)]
pub(crate) struct Event {
    /// The server's place in the roster.
    pub(crate) server: usize,
    /// The label in the picture.
    pub(crate) label: String,
    /// The predicate in the text output.
    pub(crate) line: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Kill,
    Hang,
    Restart,
    Remove,
    Add,
}

/// The delay of each step, so that the table of its second is printed first.
const AFTER_TABLE: Duration = Duration::from_millis(10);

const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;

/// The steps: time in percent of the run, server, action.
const SCRIPT: [(u32, usize, Act); 6] = [
    (10, B, Act::Kill),
    (30, B, Act::Restart),
    (40, C, Act::Hang),
    (60, C, Act::Restart),
    (70, D, Act::Remove),
    (80, E, Act::Add),
];

/// Runs the script and sends an event after each step. Keeps the servers running until `stopped`, then returns them,
/// all of them serving.
///
/// # Errors
///
/// Returns an error if a server or the contestant fails a step.
pub(crate) async fn play<P: Contestant>(
    mut servers: Vec<OwnServer>,
    pool: P,
    total: Duration,
    events: mpsc::Sender<Event>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<Vec<OwnServer>> {
    let began = now();
    servers[E].kill().await;
    for (percent, place, act) in SCRIPT {
        sleep((total * percent / 100 + AFTER_TABLE).saturating_sub(began.elapsed())).await;
        let server = &mut servers[place];
        let (label, line) = match act {
            Act::Kill => {
                server.kill().await;
                ("killed", "is killed: its port refuses, its connections are closed")
            }
            Act::Hang => {
                server.hang().await?;
                ("hangs", "hangs: connect attempts get no answer, its connections are closed")
            }
            Act::Restart => {
                server.restart().await?;
                ("back", "restarts")
            }
            Act::Remove => {
                pool.remove(&server.address())?;
                ("removed", "is removed from the pool")
            }
            Act::Add => {
                server.restart().await?;
                pool.add(&server.address())?;
                ("added", "starts and is added to the pool")
            }
        };
        let event = Event { server: place, label: format!("{} {label}", name(place)), line };
        // A closed channel means that the run is about to end.
        let _ = events.send(event).await;
    }
    let _ = stopped.await;
    Ok(servers)
}
