//! What it takes to break a rule, in words.
//!
//! The judgement is the protocol's (`safety::is_convicted`); the words explain it to whoever reads it.

/// Why no correct replica makes the statements that this offence is proved by.
pub(super) fn why(offence: &str) -> &'static str {
    match offence {
        "equivocation" => {
            "it voted for two different batches in one slot of one view; a correct replica is bound to one before its \
             vote leaves, as what it accepts is on its disk first and is taken up again by a restart"
        }
        "two-view-changes" => {
            "it sent two different view changes for one view; a correct replica has its view change on disk before it \
             leaves, and repeats it from there, also after a restart"
        }
        "two-new-views" => {
            "it began one view in two ways; a correct primary begins a view once, and gives it up when it restarts"
        }
        "unfounded-new-view" => {
            "it began a view with what does not follow from the view changes that it names; a correct primary computes \
             the one from the other, as everybody can"
        }
        "amnesia" => {
            "it said that it holds the proof for a batch, and left that proof out of a later view change; a correct \
             replica has the proof on disk before it says so, keeps it until a stable checkpoint covers the slot, and \
             names it in every view change unless it says that its disk has lost it"
        }
        _ => {
            "the protocol's rules say that no correct replica makes these statements, whatever others do"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testudo_catalog::testudo_pbft::safety;

    #[test]
    fn every_offence_of_the_protocol_is_explained() {
        let other = why("");
        for offence in [
            safety::EQUIVOCATION,
            safety::TWO_VIEW_CHANGES,
            safety::TWO_NEW_VIEWS,
            safety::UNFOUNDED_NEW_VIEW,
            safety::AMNESIA,
        ] {
            assert_ne!(why(offence), other, "{offence}");
        }
    }
}
