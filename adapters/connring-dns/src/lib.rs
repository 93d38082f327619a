#![doc = include_str!("../README.md")]

mod dns;
mod endpoints;
mod policy;
mod question;
mod resolver;
mod sets;

pub use crate::dns::{AddressFamily, Dns, DnsError};
pub use crate::sets::ServerSets;
