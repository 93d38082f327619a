//! The calls that change the set of servers, with their expected results.

use std::task::Poll;

use connring::ServerError;

use super::model::server;
use super::rig::{Rig, poll_once};
use super::{Limits, NAMES, names};

impl Rig {
    pub(super) fn register(&mut self, name: &'static str, limits: Limits) {
        let result = self.pool.register(server(name, limits));
        if self.closed {
            return assert_eq!(result, Err(ServerError::Closed));
        }
        if self.listed.contains(&name) {
            return assert_eq!(result, Err(ServerError::Duplicate { name: name.into() }));
        }
        assert_eq!(result, Ok(()));
        self.listed.push(name);
        self.apply(name, limits);
    }

    pub(super) fn deregister(&mut self, name: &'static str) {
        let result = self.pool.deregister(name);
        if let Some(index) = self.place(name, result) {
            self.listed.remove(index);
            self.model(name).remove();
        }
    }

    pub(super) fn update(&mut self, name: &'static str, limits: Limits) {
        let result = self.pool.update(server(name, limits));
        if self.place(name, result).is_some() {
            self.apply(name, limits);
        }
    }

    pub(super) fn reset_server(&mut self, name: &'static str) {
        let result = self.pool.reset_server(name);
        if self.place(name, result).is_some() {
            self.was_reset(name);
        }
    }

    pub(super) fn reset(&mut self) {
        self.pool.reset();
        let listed = self.listed.clone();
        listed.into_iter().for_each(|name| self.was_reset(name));
    }

    fn was_reset(&mut self, name: &'static str) {
        self.model(name).retire_connections();
        let status = self.pool.status();
        let server = status.servers.iter().find(|server| *server.name == *name).expect("it is listed");
        assert_eq!(server.idle, 0, "idle connections close at once");
    }

    /// Checks the result of a call that needs a registered server. Returns its place in the list if it succeeded.
    fn place(&self, name: &str, result: Result<(), ServerError>) -> Option<usize> {
        let place = self.listed.iter().position(|listed| *listed == name);
        let expected = match place {
            _ if self.closed => Err(ServerError::Closed),
            None => Err(ServerError::Unknown { name: name.into() }),
            Some(_) => Ok(()),
        };
        assert_eq!(result, expected);
        place.filter(|_| result.is_ok())
    }

    pub(super) fn set_servers(&mut self, mask: u8, limits: Limits) {
        let wanted = names(mask);
        if mask & 0x80 != 0 {
            // A list with a duplicate is refused as a whole.
            if let (Some(first), false) = (wanted.first(), self.closed) {
                let twice = wanted.iter().chain([first]).map(|name| server(name, limits));
                let name = (*first).into();
                return assert_eq!(self.pool.set_servers(twice), Err(ServerError::Duplicate { name }));
            }
        }
        let result = self.pool.set_servers(wanted.iter().map(|name| server(name, limits)));
        if self.closed {
            return assert_eq!(result, Err(ServerError::Closed));
        }
        assert_eq!(result, Ok(()));
        self.listed = wanted;
        for name in NAMES {
            if self.listed.contains(&name) { self.apply(name, limits) } else { self.model(name).remove() }
        }
    }

    pub(super) fn close_pool(&mut self) {
        let close = self.pool.clone();
        let mut close = Box::pin(async move { close.close().await });
        let is_closed = poll_once(close.as_mut());
        self.closed = true;
        self.listed.clear();
        NAMES.into_iter().for_each(|name| self.model(name).remove());
        let out: u32 = self.pool.status().servers.iter().map(|server| server.open).sum();
        assert_eq!(is_closed == Poll::Ready(()), out == 0, "`close` waits exactly for open connections");
    }

    fn apply(&mut self, name: &str, limits: Limits) {
        let step = self.step_number();
        self.model(name).apply(limits, step);
    }
}
