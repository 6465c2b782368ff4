//! What a replica that starts asks the others: what have I said?
//!
//! A disk that gives back an old image of itself looks healthy to its owner. But what the owner signed since then is
//! with those it was said to. So a replica that starts asks all for its own latest statements ([`Inquiry`]), and they
//! answer with them ([`Testimony`]). Nobody's word is taken for anything here: each statement bears the asker's own
//! signature, and that the answer came at all counts only as one of a quorum of answers.

use crate::message::{Attested, Commit, PrePrepare, Prepare, ViewChange, require};
use alloc::vec::Vec;
use core::fmt;
use testudo_contracts::Checkpoint;
use testudo_core::{Context, Invalid, ReplicaId, Slot, Statement, limits, wire_struct, wire_tuple};

/// A number that is new at each start, so that answers to an earlier life's question are told from this one's.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Nonce(pub u64);
wire_tuple!(Nonce);

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0 as u32)
    }
}

/// "I have started. What did I sign last?"
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// Repeated in the answer.
    pub nonce: Nonce,
}
wire_struct!(Inquiry { nonce });

/// "This is what I have of yours": the asker's own statements, the latest of each kind above the answerer's stable
/// checkpoint, and what else of them is at hand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Testimony {
    /// Whose statements these are: the asker.
    pub of: ReplicaId,
    /// What it asked with.
    pub nonce: Nonce,
    /// Its proposals, in ascending order of slots.
    pub proposals: Vec<Attested<PrePrepare>>,
    /// Its votes, in ascending order of slots.
    pub prepares: Vec<Attested<Prepare>>,
    /// Its commits, in ascending order of slots.
    pub commits: Vec<Attested<Commit>>,
    /// Its view change to the highest view.
    pub change: Option<Attested<ViewChange>>,
    /// The last stable checkpoint, if it is among those who signed it.
    pub checkpoint: Option<Attested<Checkpoint>>,
}
wire_struct!(Testimony { of, nonce, proposals, prepares, commits, change, checkpoint });

/// Statements of one kind: those of a window, and one from below it.
const STATEMENTS: usize = limits::WINDOW as usize + 1;

impl Testimony {
    /// Whether every statement is in form and really the asker's own.
    ///
    /// # Errors
    /// When one is not.
    pub fn validate(&self, context: &Context<'_>) -> Result<(), Invalid> {
        require(context.membership.member(self.of).is_some(), "a testimony is of a stranger")?;
        self.check(&self.proposals, |body| body.slot, context)?;
        self.check(&self.prepares, |body| body.slot, context)?;
        self.check(&self.commits, |body| body.slot, context)?;
        for proposal in &self.proposals {
            proposal.statement.validate(proposal.signer, context.membership)?;
        }
        if let Some(change) = &self.change {
            self.check(core::slice::from_ref(change), |_| Slot(0), context)?;
        }
        if let Some(checkpoint) = &self.checkpoint {
            self.check(core::slice::from_ref(checkpoint), |_| Slot(0), context)?;
        }
        Ok(())
    }

    fn check<T: Statement>(
        &self,
        statements: &[Attested<T>],
        slot: impl Fn(&T) -> Slot,
        context: &Context<'_>,
    ) -> Result<(), Invalid> {
        require(statements.len() <= STATEMENTS, "a testimony is too long")?;
        let slot = |attested: &Attested<T>| slot(&attested.statement);
        require(statements.is_sorted_by(|a, b| slot(a) < slot(b)), "a testimony is unordered")?;
        statements.iter().try_for_each(|statement| {
            require(statement.signer == self.of, "a testimony holds another's statement")?;
            statement.check(context)
        })
    }
}
