//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;

use crate::protocol::{Protocol, Template};

/// One pool over many servers, while the servers fail.
#[derive(Debug, Parser)]
#[command(name = "failover")]
pub(crate) struct Args {
    /// How long to run
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(8..=3_600))]
    pub(crate) seconds: u64,

    /// How many tasks send requests, one at a time each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tasks: u32,

    /// Requests a second, in all; 0: each task sends its next request when the last one is answered
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub(crate) rps: u32,

    /// End with one line of JSON on stdout; everything else goes to stderr
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to write the picture
    #[arg(long, value_name = "PATH", default_value = "failover.svg")]
    pub(crate) picture: PathBuf,

    /// Real servers to use; the trouble is then up to you
    #[arg(long = "server", value_name = "ADDR", num_args = 1.., requires_all = ["send", "expect"])]
    servers: Vec<String>,

    /// A request to a real server; takes \r \n \t \\ \xNN, and {id} for a number that is new each time
    #[arg(long, value_name = "TEXT", requires = "servers", allow_hyphen_values = true)]
    send: Option<Template>,

    /// What the answer of a real server starts with; the answer ends with that line
    #[arg(long, value_name = "PREFIX", requires = "servers", allow_hyphen_values = true)]
    expect: Option<Template>,
}

impl Args {
    /// The real servers and how to talk to them, if there are any.
    pub(crate) fn real_servers(&self) -> Option<(Vec<Arc<str>>, Protocol)> {
        let (Some(send), Some(expect)) = (&self.send, &self.expect) else { return None };
        let addresses = self.servers.iter().map(|address| address.as_str().into()).collect();
        Some((addresses, Protocol { send: send.clone(), expect: expect.clone() }))
    }
}
