//! More is wrong at a time than is promised to be survived: rules may be broken, but never in silence.

use testudo_lab::plans::LIARS;
use testudo_lab::{Rota, conform, subject};
use testudo_pbft::{Message, Pbft, Rules};
use testudo_quorum::Dissemination;
use testudo_sim::conformance::Seeds;
use testudo_sim::report::broken;
use testudo_sim::{Misconduct, Verdict};

/// Seeds of a whole round, so that every plan has its turn.
#[test]
fn nothing_breaks_in_silence() {
    let rota = Rota::beyond();
    let seeds = Seeds::for_tests(rota.round());
    let summary = conform(&*subject::<Pbft>(), &rota, &seeds);
    println!("{summary}{:?}", summary.verdicts);
    summary.assert_clean();
    if (seeds.all().len() as u64) < rota.round() {
        return;
    }
    // Nothing is shown by runs in which nothing broke that could have gone unnoticed. (That liars who are too many mislead
    // clients is nothing to ask for, and whether copies part in decided slots is for the test below.)
    for verdict in [Verdict::Stopped, Verdict::Noticed] {
        assert!(summary.verdicts.contains_key(&verdict), "no run was {verdict:?}\n{summary}");
    }
    for name in ["lies convicted", "alarms raised", &broken("clients"), &broken("liveness")] {
        assert!(summary.count(name) > 0, "no {name}\n{summary}");
    }
}

/// Replicas blame nobody, whatever they see.
#[derive(Clone, Debug)]
enum BlamesNobody {}

impl Rules for BlamesNobody {
    fn convicts(_: &Message, _: &Message) -> Option<&'static str> {
        None
    }
    fn convicts_alone(_: &Dissemination, _: &Message) -> Option<&'static str> {
        None
    }
}

/// Where liars have had correct replicas decide different things, evidence is all that there is to notice it by.
#[test]
fn who_blames_nobody_is_convicted_of_silence() {
    let rota = Rota::beyond();
    let (right, mutant) = (subject::<Pbft>(), subject::<Pbft<BlamesNobody>>());
    let all = rota.seeds_of(LIARS, &Seeds::fixed(500));
    let seeds = all.all().iter().filter_map(|seed| Some((*seed, rota.plan(*seed)?.1)));
    let together =
        seeds.filter(|(_, plan)| matches!(plan.liars.first(), Some(Misconduct::Conspire(_))));
    for (seed, plan) in together {
        let report = mutant.run(seed, &plan);
        if report.verdict() != Verdict::Failed {
            continue;
        }
        assert_eq!(report.evidence, 0, "somebody was blamed\n{report}");
        let report = right.run(seed, &plan);
        assert!(report.verdict() < Verdict::Failed, "the right rules are silent too\n{report}");
        if report.verdict() == Verdict::Noticed && report.count(&broken("agreement")) > 0 {
            println!("seed {seed}: {:?} are convicted", report.convicted);
            return;
        }
    }
    panic!("no seed convicts it");
}
