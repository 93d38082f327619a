//! The command line.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;

use crate::protocol::{Protocol, Template};

/// Shows what requests see while servers fail: one connring pool, beside one deadpool pool per server.
#[derive(Debug, Parser)]
#[command(name = "connring-failover")]
pub(crate) struct Args {
    /// How long each of the two runs takes
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(8..=3_600))]
    pub(crate) seconds: u64,

    /// How many tasks send requests; each has one request under way at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tasks: u32,

    /// Requests a second in all; 0: each task sends its next request when the last one is answered
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub(crate) rps: u32,

    /// Print one line of JSON to stdout at the end; everything else goes to stderr
    #[arg(long)]
    pub(crate) json: bool,

    /// Where to write the picture
    #[arg(long, value_name = "PATH", default_value = "failover.svg")]
    pub(crate) picture: PathBuf,

    /// Real servers to use, without the script and the baseline: you stop and start the servers yourself
    #[arg(long = "server", value_name = "ADDR", num_args = 1.., requires_all = ["send", "expect"])]
    servers: Vec<String>,

    /// A request to a real server; \r \n \t \\ \xNN are escapes, {id} is a new number for each request
    #[arg(long, value_name = "TEXT", requires = "servers", allow_hyphen_values = true)]
    send: Option<Template>,

    /// The start of the right answer of a real server; the answer ends where that line ends
    #[arg(long, value_name = "PREFIX", requires = "servers", allow_hyphen_values = true)]
    expect: Option<Template>,
}

impl Args {
    /// The real servers and their protocol, if any were given.
    pub(crate) fn real_servers(&self) -> Option<(Vec<Arc<str>>, Protocol)> {
        let (Some(send), Some(expect)) = (&self.send, &self.expect) else { return None };
        let addresses = self.servers.iter().map(|address| address.as_str().into()).collect();
        Some((addresses, Protocol { send: send.clone(), expect: expect.clone() }))
    }
}
