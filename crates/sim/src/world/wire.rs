//! What is under way between nodes.

use crate::event::Letter;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use testudo_core::{Membership, Rejection, Signed, Verified};

/// What verification under some membership's keys came to.
pub(crate) type Judgement<M> = (Rc<Membership>, Result<Verified<M>, Rejection>);

/// A frame on the wire, verified once for all who get the same one under the same keys.
pub(crate) struct Frame<M> {
    pub(crate) signed: Signed<M>,
    pub(crate) letter: Letter,
    pub(crate) verified: RefCell<Option<Judgement<M>>>,
    /// How many signatures were checked for that.
    pub(crate) checks: Cell<u32>,
}

/// A message under way.
pub(crate) struct Packet<M> {
    pub(crate) frame: Rc<Frame<M>>,
    pub(crate) letter: Letter,
    /// One's own word to oneself: verified by sealing, and never lost.
    pub(crate) own: Option<Rc<Verified<M>>>,
    /// Whether the network made it, and which of its kind on its link it is.
    pub(crate) ordinal: (bool, u32),
}
