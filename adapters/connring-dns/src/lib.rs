#![doc = include_str!("../README.md")]

mod dns;
mod endpoints;
mod policy;
mod question;
mod resolver;
mod sets;

pub use crate::dns::{AddressFamily, Dns, DnsError};
pub use crate::sets::ServerSets;

/// The key of a server's [tag](connring::Server::tag_value) with the name that its TLS certificate is checked against:
/// the target of the SRV record, or the name that was looked up.
pub const TLS_SERVER_NAME: &str = "tls_server_name";
