//! What happens to servers that are not ours, as far as the pool sees it.

use connring::{PoolStatus, ServerState};

use crate::record::{Roster, name};
use crate::trouble::Event;

/// Remembers which servers were up.
pub(crate) struct StateWatch {
    roster: Roster,
    up: Vec<bool>,
}

impl StateWatch {
    pub(crate) fn new(roster: Roster) -> Self {
        let up = vec![true; roster.addresses().len()];
        Self { roster, up }
    }

    /// What changed since the last call.
    pub(crate) fn changes(&mut self, status: &PoolStatus) -> Vec<Event> {
        let mut events = Vec::new();
        for server in &status.servers {
            let place = self.roster.place(&server.address);
            let up = matches!(server.state, ServerState::Up | ServerState::Recovering { .. });
            if self.up[place] != up {
                self.up[place] = up;
                let (label, line) = if up { ("up", "is up again") } else { ("down", "is down") };
                events.push(Event { server: place, label: format!("{} {label}", name(place)), line });
            }
        }
        events
    }
}
