//! Whether a caller with a wish may use a server.

use crate::acquire_options::Wish;
use crate::connector::Connector;
use crate::server::ServerEntry;
use crate::servers::List;

/// Whether a caller avoids a server now: its wish names the server, and another one that it does not name serves.
pub(crate) fn avoids<C: Connector>(list: &List<C>, wish: &Wish, server: &ServerEntry<C>) -> bool {
    let is_named = |server: &ServerEntry<C>| wish.avoid.iter().any(|name| **name == *server.config().name());
    // Of the servers that serve no more are looked at than it names, and one.
    is_named(server)
        && list.up.iter_from(0).any(|number| list.entry(number).is_some_and(|entry| !is_named(entry.server())))
}

/// Whether a waiter does not accept an idle connection of a server now.
pub(crate) fn refuses_idle<C: Connector>(list: &List<C>, wish: Option<&Wish>, server: &ServerEntry<C>) -> bool {
    wish.is_some_and(|wish| wish.fresh || avoids(list, wish, server))
}
