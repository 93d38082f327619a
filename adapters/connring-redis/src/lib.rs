#![doc = include_str!("../README.md")]

mod command;
mod conn;
mod connector;
mod error;

pub use redis;

pub use crate::conn::RedisConn;
pub use crate::connector::RedisConnector;
pub use crate::error::Error;
