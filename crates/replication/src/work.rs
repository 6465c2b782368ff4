//! What a replica has computed off its thread.
//!
//! While a checkpoint's state is hashed, a stretch of what was hashed before is hashed again: digests that are kept do not
//! show what the memory has garbled since. Stretch by stretch all of it is looked through.

use crate::executor::Replicated;
use crate::feed::{Head, Tree};
use alloc::sync::Arc;

/// Bytes that are looked through at a checkpoint.
const STRETCH: usize = 4 << 20;

/// Where the next stretch begins: in which map, and after which key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stretch {
    tree: Tree,
    after: Option<Arc<[u8]>>,
}

impl Default for Stretch {
    fn default() -> Self {
        Self { tree: Tree::System, after: None }
    }
}

impl Stretch {
    /// Looks a stretch through. Whether all of it is what its digests say, and where the next one begins.
    fn look_through(self, state: &Replicated) -> (bool, Self) {
        let (map, other) = match self.tree {
            Tree::System => (state.system.map(), Tree::Service),
            Tree::Service => (&state.map, Tree::System),
        };
        let scrubbed = map.scrub(self.after.as_deref(), STRETCH);
        let tree = if scrubbed.next.is_some() { self.tree } else { other };
        (scrubbed.damage.is_empty(), Self { tree, after: scrubbed.next })
    }
}

/// Computation that a replica asks for.
#[derive(Clone, Debug)]
pub enum Work<W> {
    /// The ordering's own.
    Order(W),
    /// The digests of a state that a checkpoint is to sign.
    Digest(Replicated, Stretch),
    /// The entries of a state that is wrong, in maps whose digests are what they hold.
    MakeAnew(Replicated),
}

/// What it comes to.
#[derive(Clone, Debug)]
pub enum Worked<W> {
    /// The ordering's own.
    Order(W),
    /// The state's head; whether the stretch that was looked through is whole; and where the next one begins.
    Digest(Head, bool, Stretch),
    /// The state.
    MadeAnew(Replicated),
}

impl<W: testudo_core::Work> testudo_core::Work for Work<W> {
    type Output = Worked<W::Output>;

    fn run(self) -> Self::Output {
        match self {
            Self::Order(work) => Worked::Order(work.run()),
            Self::Digest(state, stretch) => {
                let head = state.head();
                let (is_whole, next) = stretch.look_through(&state);
                Worked::Digest(head, is_whole, next)
            }
            Self::MakeAnew(state) => Worked::MadeAnew(state.made_anew()),
        }
    }
}
