//! Nothing takes effect that nobody asked for.

use super::{Cast, Oracle};
use crate::event::{Event, Fact};
use std::collections::BTreeSet;
use testudo_core::{Digest, Peer};

/// What a correct replica gives its effect, a client has put on the wire before.
#[derive(Default, Debug)]
pub struct Validity {
    /// What clients have said, by the digests that their signatures cover.
    said: BTreeSet<Digest>,
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
                self.said.insert(letter.digest);
            }
            Event::Told(node, Fact::Applied { slot, request, .. })
                if cast.is_correct(*node) && !self.said.contains(request) =>
            {
                let name = cast.name(*node);
                return Err(format!("{name} applied {request:?} in {slot:?}: nobody asked for it"));
            }
            _ => {}
        }
        Ok(())
    }
}
