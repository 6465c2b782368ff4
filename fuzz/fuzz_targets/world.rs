//! A whole cluster under PBFT, in which the input decides what happens next: what arrives, what is lost, who crashes, what
//! clients ask for, and when. The first byte also says what kind of liar there is, if any.
//!
//! Whatever the input, no rule may be broken: agreement, exactly once, linearizable answers, and an answer to everything
//! once the trouble is over.

#![no_main]

use libfuzzer_sys::fuzz_target;
use testudo_core::{Context, Evidence};
use testudo_pbft::{Message, Pbft, safety};
use testudo_sim::bytes::run_bytes;
use testudo_sim::replicated::{Knowledge, Replicated};
use testudo_sim::{Chance, Misconduct, Plan};

/// Liars change bytes that they know nothing of.
enum Blind {}

impl Knowledge<Pbft> for Blind {
    fn corrupt(_: &Message, _: &mut dyn Chance) -> Option<Message> {
        None
    }
    fn convicts(evidence: &Evidence, context: &Context<'_>) -> bool {
        safety::is_convicted(evidence, context)
    }
}

const LIARS: [Option<Misconduct>; 8] = [
    None,
    Some(Misconduct::Silent),
    Some(Misconduct::Selective),
    Some(Misconduct::Replay),
    Some(Misconduct::Corrupt),
    Some(Misconduct::Equivocate),
    Some(Misconduct::Stale),
    Some(Misconduct::Random),
];

fuzz_target!(|input: &[u8]| {
    let kind = LIARS[usize::from(input.first().copied().unwrap_or_default()) / 4 % LIARS.len()];
    let plan = Plan {
        clients: 2,
        operations: 8,
        keys: 2,
        liars: kind.into_iter().collect(),
        // Disks are good, so any number of replicas may be down where nobody lies.
        beyond: kind.is_none(),
        ..Plan::default()
    };
    let report = run_bytes(Replicated::<Pbft, Blind>::default, input, &plan);
    assert!(report.is_clean(), "{report}");
});
