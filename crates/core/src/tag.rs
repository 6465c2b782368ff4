//! What a record is about, in eight bytes that outlive it.
//!
//! A log keeps each record's tag beside the record, twice. Where the record itself has rotted, its tag still says what was
//! lost, and so what the node no longer knows of itself: one vote rather than, perhaps, all of them.

use crate::auth::Signed;
use crate::ids::{Position, Slot, View};

/// What a record is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tag {
    /// Something that a layer or protocol knows how to do without, or has no class for.
    Other,
    /// What the node said, or was about to say, on what this slot should hold: a proposal, a vote, a certificate that it
    /// voted on.
    Vote(Slot),
    /// What was decided for this slot.
    Decided(Slot),
    /// The node's own change to this view.
    ViewChange(View),
    /// The beginning of this view, which the node has accepted.
    NewView(View),
    /// A stable checkpoint.
    Stable(Slot),
    /// A checkpoint that the node signed.
    Checkpointed(Slot),
    /// What somebody asked to be ordered.
    Body,
    /// Nothing is executed after this slot.
    Halted(Slot),
}

/// The bits below the class.
const NUMBER: u64 = (1 << 56) - 1;

impl Tag {
    /// As a log keeps it: the class in the high 8 bits, the slot or view in the low 56. Those are never that large; one that
    /// were would be kept as the largest.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let (class, number) = match self {
            Self::Other => (0, 0),
            Self::Vote(slot) => (1, slot.0),
            Self::Decided(slot) => (2, slot.0),
            Self::ViewChange(view) => (3, view.0),
            Self::NewView(view) => (4, view.0),
            Self::Stable(slot) => (5, slot.0),
            Self::Checkpointed(slot) => (6, slot.0),
            Self::Body => (7, 0),
            Self::Halted(slot) => (8, slot.0),
        };
        (class << 56) | if number > NUMBER { NUMBER } else { number }
    }

    /// The tag with these bits. `None` for classes that this version does not know, whose records may be about anything.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Option<Self> {
        let number = bits & NUMBER;
        Some(match (bits >> 56, number) {
            (0, 0) => Self::Other,
            (1, slot) => Self::Vote(Slot(slot)),
            (2, slot) => Self::Decided(Slot(slot)),
            (3, view) => Self::ViewChange(View(view)),
            (4, view) => Self::NewView(View(view)),
            (5, slot) => Self::Stable(Slot(slot)),
            (6, slot) => Self::Checkpointed(Slot(slot)),
            (7, 0) => Self::Body,
            (8, slot) => Self::Halted(Slot(slot)),
            _ => return None,
        })
    }
}

/// A record that says what it is about. Equal records have equal tags.
pub trait Tagged {
    /// What it is about.
    fn tag(&self) -> Tag;
}

/// Bare values are about nothing that a tag could name.
macro_rules! untagged {
    ($($type:ty),*) => {$(
        impl Tagged for $type {
            fn tag(&self) -> Tag {
                Tag::Other
            }
        }
    )*};
}
untagged!((), u8, u64);

impl<M> Tagged for Signed<M> {
    fn tag(&self) -> Tag {
        Tag::Other
    }
}

/// A record that was durable and is not readable any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lost {
    /// Where it was. Where damage hides how many records there were, there may never have been one here.
    pub position: Position,
    /// What it was about; `None` where that is lost, too.
    pub tag: Option<Tag>,
}

/// What has rotted on the disk of a node that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rot {
    /// A record of the log.
    Record(Lost),
    /// The snapshot that the next start would begin with.
    Snapshot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_back_and_others_are_not() {
        let most = Slot(NUMBER);
        let tags = [
            Tag::Other,
            Tag::Vote(Slot(7)),
            Tag::Decided(most),
            Tag::ViewChange(View(1)),
            Tag::NewView(View(NUMBER)),
            Tag::Stable(Slot(256)),
            Tag::Checkpointed(Slot(0)),
            Tag::Body,
            Tag::Halted(Slot(9)),
        ];
        for tag in tags {
            assert_eq!(Tag::from_bits(tag.to_bits()), Some(tag));
        }
        for bits in [1, 7 << 56 | 1, 9 << 56, u64::MAX] {
            assert_eq!(Tag::from_bits(bits), None, "{bits:x}");
        }
    }

    #[test]
    fn a_number_too_large_does_not_change_the_class() {
        let tag = Tag::Vote(Slot(u64::MAX));
        assert_eq!(Tag::from_bits(tag.to_bits()), Some(Tag::Vote(Slot(NUMBER))));
    }
}
