//! Nothing takes effect that nobody asked for.

use super::window::Recent;
use super::{Cast, Oracle};
use crate::event::{Event, Fact};
use testudo_core::{Digest, Peer, Slot};

/// So much is said in one generation at most, though no slot goes by.
const MOST: usize = 16 * super::window::REMEMBERED as usize;

/// What a correct replica gives its effect, a client has put on the wire before.
///
/// What was said too long ago is forgotten, and counts as never said. So forgetting makes this rule stricter and never
/// weaker: what takes effect once more after so long is convicted here, though nobody knows any more that it had one
/// before. And it convicts nobody wrongly: a client says again what it waits for, and each effect at one replica has it
/// remembered for those that are behind.
#[derive(Default, Debug)]
pub struct Validity {
    /// What clients have said, by the digests that their signatures cover.
    said: Recent<Digest, ()>,
    /// The newest slot in which anything took effect.
    newest: Slot,
}

impl Validity {
    fn remember(&mut self, request: Digest) {
        self.said.insert(self.newest, request, ());
        // Clients say much that is not ordered, such as what they read by.
        if self.said.young() > MOST {
            self.said.turn(self.newest);
        }
    }
}

impl Oracle for Validity {
    fn name(&self) -> &'static str {
        "validity"
    }

    fn see(&mut self, event: &Event, cast: &Cast) -> Result<(), String> {
        match event {
            Event::Sent(letter)
                if matches!(letter.sender, Peer::Client(_))
                    && cast.peer(letter.from) == Some(letter.sender) =>
            {
                self.remember(letter.digest);
            }
            Event::Told(node, Fact::Applied { slot, request, .. }) if cast.is_correct(*node) => {
                if self.said.get(request).is_none() {
                    let name = cast.name(*node);
                    return Err(format!(
                        "{name} applied {request:?} in {slot:?}: nobody asked for it"
                    ));
                }
                self.newest = self.newest.max(*slot);
                self.remember(*request);
            }
            _ => {}
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.said.len()
    }
}
