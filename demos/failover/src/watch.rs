//! Events of real servers: changes of their state according to the pool.

use crate::pools::{PoolView, Tone};
use crate::record::{Roster, name};
use crate::script::Event;

/// Detects changes by comparing with the last state of each server.
pub(crate) struct StateWatch {
    roster: Roster,
    up: Vec<bool>,
}

impl StateWatch {
    pub(crate) fn new(roster: Roster) -> Self {
        let up = vec![true; roster.addresses().len()];
        Self { roster, up }
    }

    /// Returns the changes since the last call.
    pub(crate) fn changes(&mut self, view: &PoolView) -> Vec<Event> {
        let mut events = Vec::new();
        for server in &view.servers {
            let place = self.roster.place(&server.address);
            let up = server.tone != Tone::Bad;
            if self.up[place] != up {
                self.up[place] = up;
                let (label, line) = if up { ("up", "is up again") } else { ("down", "is down") };
                events.push(Event { server: place, label: format!("{} {label}", name(place)), line });
            }
        }
        events
    }
}
