//! What a replica has computed off its thread.

use crate::executor::Replicated;
use crate::feed::Head;

/// Computation that a replica asks for.
#[derive(Clone, Debug)]
pub enum Work<W> {
    /// The ordering's own.
    Order(W),
    /// The digests of a state that a checkpoint is to sign.
    Digest(Replicated),
    /// The entries of a state that is wrong, in maps whose digests are what they hold.
    MakeAnew(Replicated),
}

/// What it comes to.
#[derive(Clone, Debug)]
pub enum Worked<W> {
    /// The ordering's own.
    Order(W),
    /// The state's head.
    Digest(Head),
    /// The state.
    MadeAnew(Replicated),
}

impl<W: testudo_core::Work> testudo_core::Work for Work<W> {
    type Output = Worked<W::Output>;

    fn run(self) -> Self::Output {
        match self {
            Self::Order(work) => Worked::Order(work.run()),
            Self::Digest(state) => Worked::Digest(state.head()),
            Self::MakeAnew(state) => Worked::MadeAnew(state.made_anew()),
        }
    }
}
