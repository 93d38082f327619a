//! The command-line arguments.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;

use crate::protocol::{Protocol, Template};

/// Sends requests while servers fail: through one connring pool, then through one deadpool pool per server.
#[derive(Debug, Parser)]
#[command(name = "connring-failover")]
pub(crate) struct Args {
    /// Length of each of the two runs, in seconds
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(8..=3_600))]
    pub(crate) seconds: u64,

    /// Number of tasks that send requests, one at a time each
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tasks: u32,

    /// Requests a second in total; 0: each task sends its next request as soon as the last one is answered
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=10_000_000))]
    pub(crate) rps: u32,

    /// Print only one line of JSON to stdout, and everything else to stderr
    #[arg(long)]
    pub(crate) json: bool,

    /// Path of the picture
    #[arg(long, value_name = "PATH", default_value = "failover.svg")]
    pub(crate) picture: PathBuf,

    /// Addresses of real servers, which you stop and start yourself; disables the script and the baseline
    #[arg(long = "server", value_name = "ADDR", num_args = 1.., requires_all = ["send", "expect"])]
    servers: Vec<String>,

    /// Request to a real server; \r \n \t \\ \xNN are escapes, {id} is a new number for each request
    #[arg(long, value_name = "TEXT", requires = "servers", allow_hyphen_values = true)]
    send: Option<Template>,

    /// Start of a correct answer of a real server; the answer ends at the end of that line. One that starts with - is
    /// an error reply: the request fails and is sent again
    #[arg(long, value_name = "PREFIX", requires = "servers", allow_hyphen_values = true)]
    expect: Option<Template>,
}

impl Args {
    /// Returns the addresses and the protocol of the real servers, if any were given.
    pub(crate) fn real_servers(&self) -> Option<(Vec<Arc<str>>, Protocol)> {
        let (Some(send), Some(expect)) = (&self.send, &self.expect) else { return None };
        let addresses = self.servers.iter().map(|address| address.as_str().into()).collect();
        Some((addresses, Protocol { send: send.clone(), expect: expect.clone() }))
    }
}
