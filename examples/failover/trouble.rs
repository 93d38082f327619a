//! The script: which server gets into which trouble when.

use std::future::pending;
use std::io;
use std::time::Duration;

use connring::{Pool, TcpConnector};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::now;
use crate::record::name;
use crate::servers::OwnServer;

/// How many servers the script needs, and how many of them are in the pool at first.
pub(crate) const SERVERS: usize = 5;
pub(crate) const AT_FIRST: usize = 4;

/// Something was done to a server.
#[derive(Debug)]
pub(crate) struct Event {
    /// Which one, by its place in the roster.
    pub(crate) server: usize,
    /// For the picture.
    pub(crate) label: String,
    /// For the reader of the table.
    pub(crate) line: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Kill,
    Swallow,
    ComeBack,
    Remove,
    Add,
}

/// How long after its moment a step is done, so that the table of that second comes before it.
const AFTER_TABLE: Duration = Duration::from_millis(10);

const B: usize = 1;
const C: usize = 2;
const D: usize = 3;
const E: usize = 4;

/// When, as a share of the whole run in per cent; whom; what.
const SCRIPT: [(u32, usize, Act); 6] = [
    (10, B, Act::Kill),
    (30, B, Act::ComeBack),
    (40, C, Act::Swallow),
    (60, C, Act::ComeBack),
    (70, D, Act::Remove),
    (80, E, Act::Add),
];

/// Plays the script, telling each step when it is done. It comes to no end by itself.
///
/// # Errors
///
/// When a server or the pool does not do what the script says.
pub(crate) async fn play(
    mut servers: Vec<OwnServer>,
    pool: Pool<TcpConnector>,
    total: Duration,
    tell: mpsc::Sender<Event>,
) -> io::Result<()> {
    let began = now();
    servers[E].kill().await;
    for (percent, whom, act) in SCRIPT {
        sleep((total * percent / 100 + AFTER_TABLE).saturating_sub(began.elapsed())).await;
        let server = &mut servers[whom];
        let (label, line) = match act {
            Act::Kill => {
                server.kill().await;
                ("killed", "is killed: its port refuses, its connections are closed")
            }
            Act::Swallow => {
                server.swallow().await?;
                ("swallows", "swallows: a connect to it hangs, its connections are closed")
            }
            Act::ComeBack => {
                server.come_back().await?;
                ("back", "is back; the pool will see it when it next tries")
            }
            Act::Remove => {
                pool.deregister(&server.address()).map_err(io::Error::other)?;
                ("removed", "is taken out of the pool")
            }
            Act::Add => {
                server.come_back().await?;
                pool.register(&*server.address()).map_err(io::Error::other)?;
                ("added", "is started and put into the pool")
            }
        };
        let event = Event { server: whom, label: format!("{} {label}", name(whom)), line };
        // That nobody listens any more is no error: the run is about to end.
        let _ = tell.send(event).await;
    }
    // The servers serve until this is aborted.
    pending().await
}
