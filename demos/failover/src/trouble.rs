//! The script: which server fails how, and when.

use std::io;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::now;
use crate::pools::Contestant;
use crate::record::name;
use crate::servers::OwnServer;

/// How many servers the script needs, and how many of them are in the pool at first.
pub(crate) const SERVERS: usize = 5;
pub(crate) const AT_FIRST: usize = 4;

/// Something that happened to a server.
#[derive(Debug)]
pub(crate) struct Event {
    /// The server's place in the roster.
    pub(crate) server: usize,
    /// For the picture.
    pub(crate) label: String,
    /// For the screen.
    pub(crate) line: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Kill,
    Hang,
    ComeBack,
    Remove,
    Add,
}

/// The delay of each step, so that the table of that second is printed before it.
const AFTER_TABLE: Duration = Duration::from_millis(10);

const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;

/// The moment in per cent of the run, the server, the act.
const SCRIPT: [(u32, usize, Act); 6] = [
    (10, B, Act::Kill),
    (30, B, Act::ComeBack),
    (40, C, Act::Hang),
    (60, C, Act::ComeBack),
    (70, D, Act::Remove),
    (80, E, Act::Add),
];

/// Plays the script and reports each step when it is done. Then the servers go on until `stopped`, and are returned
/// with all of them answering.
///
/// # Errors
///
/// When a server or the contestant refuses a step.
pub(crate) async fn play<P: Contestant>(
    mut servers: Vec<OwnServer>,
    pool: P,
    total: Duration,
    tell: mpsc::Sender<Event>,
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
                ("hangs", "hangs: a connect to it gets no answer, its connections are closed")
            }
            Act::ComeBack => {
                server.come_back().await?;
                ("back", "is back")
            }
            Act::Remove => {
                pool.remove(&server.address())?;
                ("removed", "is removed from the pool")
            }
            Act::Add => {
                server.come_back().await?;
                pool.add(&server.address())?;
                ("added", "starts and is added to the pool")
            }
        };
        let event = Event { server: place, label: format!("{} {label}", name(place)), line };
        // A closed channel is no error: the run is about to end.
        let _ = tell.send(event).await;
    }
    let _ = stopped.await;
    Ok(servers)
}
