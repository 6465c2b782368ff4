//! `testudo recover`: what people do when no quorum can be had any more.
//!
//! More replicas have lost their promises than the cluster survives, so that no quorum is left that knows what it has signed; or
//! so many have lost what they held on the same slot; or they have halted, as no digest of their state can reach a quorum. Then
//! none may order anything, and the cluster has stopped. It is for people to say with which state it goes on, and they do so with the long-lived keys of a quorum of the replicas: they
//! sign a decree ([`testudo_replication::decree`]). Here is what lets them decide, and what carries it out:
//!
//! - [`crew`] finds the key files and folders of the replicas, and holds what an `up` would hold.
//! - [`survey`] looks into each folder, without changing anything: what its replica knows, and what it would go on from.
//! - [`verdict`] says whether anything is to be done at all, with whose state, and what that costs. [`stop`] says why the cluster
//!   cannot go on by itself. [`words`] says it to people.
//! - [`carry`] makes the keys of those who come back, signs, and lets the chosen replica begin the next epoch, by itself and
//!   without a network. The others learn of it when all are started again.
//!
//! Only the last of these writes, and it writes to the chosen replica's folder as that replica does when it starts, beside keys
//! that nobody has signed with. So it can be ended at any point, and run again: either the next epoch is in that folder, and
//! then nothing more is to be done, or it is not.

mod carry;
mod crew;
mod stop;
mod survey;
mod verdict;
mod words;

use crate::cli;
use crate::failure::Outcome;
use crate::protocols::{self, Runnable, Visit};
use crate::say;
pub(crate) use crew::Given;

use crew::Crew;
use survey::Findings;
use verdict::{Advice, Verdict};

/// Explains, and proposes; carries it out if that was said.
pub(crate) fn run(flags: &cli::Recover) -> Outcome {
    let crew = Crew::gather(flags)?;
    let protocol = crew.cluster.protocol.clone();
    protocols::visit(&protocol, Run { flags, crew })?
}

struct Run<'a> {
    flags: &'a cli::Recover,
    crew: Crew,
}

impl Visit for Run<'_> {
    type Output = Outcome;

    fn visit<O: Runnable>(self) -> Outcome {
        let Self { flags, crew } = self;
        let Findings { findings, membership, holds } = survey::survey::<O>(&crew)?;
        let verdict = Verdict::on(&crew.cluster, findings, &membership)?;
        say::out(format_args!("{}\n", words::table(&verdict)));
        let proposal = match verdict.advise(flags.from) {
            Ok(Advice::Proposal(proposal)) => proposal,
            Ok(Advice::Nothing(why)) | Err(why) => return Err(why),
        };
        say::out(format_args!("{}\n", words::explain(&verdict, &proposal)));
        if !flags.yes {
            say::out(format_args!("{}", words::how(flags, &proposal)));
            return Ok(());
        }
        let decreed = carry::out::<O>(&crew, &membership, &verdict, &proposal, holds)?;
        say::out(format_args!("{}", words::done(flags, &verdict, &proposal, &decreed)));
        Ok(())
    }
}
