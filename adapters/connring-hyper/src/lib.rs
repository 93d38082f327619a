#![doc = include_str!("../README.md")]

mod body;
mod client;
mod connector;
mod error;
mod exchange;
mod progress;
mod request_body;
mod stream;

pub use hyper;

pub use crate::body::ResponseBody;
pub use crate::client::{HttpClient, Verdict};
pub use crate::connector::{HttpConn, HttpConnector};
pub use crate::error::{BodyError, ConnectError, SendError};
