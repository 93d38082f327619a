#![doc = include_str!("../README.md")]

mod body;
mod client;
mod connector;
mod error;

pub use crate::body::ResponseBody;
pub use crate::client::{HttpClient, Verdict};
pub use crate::connector::{HttpConn, HttpConnector};
pub use crate::error::{ConnectError, SendError};
