use super::*;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

fn models(f: u16) -> Vec<FaultModel> {
    let mut models = Vec::new();
    for timing in [Synchronous, PartiallySynchronous, Asynchronous] {
        for kind in [FailStop, Crash, Omission, Byzantine] {
            for authentication in [Channels, Signatures] {
                models.push(FaultModel { timing, kind, authentication, f });
            }
        }
    }
    models
}

fn questions(f: u16) -> impl Iterator<Item = (Problem, FaultModel)> {
    Problem::ALL
        .into_iter()
        .flat_map(move |problem| models(f).into_iter().map(move |model| (problem, model)))
}

/// The least n, counting an impossibility as more than any.
fn least(problem: Problem, model: &FaultModel) -> usize {
    minimum(problem, model).ok().and_then(|bound| bound.minimum(model.f)).unwrap_or(usize::MAX)
}

#[test]
fn every_question_has_exactly_one_row() {
    for (problem, model) in questions(1) {
        let rows = TABLE.iter().filter(|bound| bound.covers(problem, &model)).count();
        assert_eq!(rows, 1, "{problem} under {model:?}");
    }
}

#[test]
fn every_row_is_cited_and_says_what_it_counts() {
    for bound in TABLE {
        let year = bound.source.rsplit(' ').next().and_then(|year| year.parse::<u16>().ok());
        assert!(year.is_some_and(|year| (1978..2030).contains(&year)), "{bound:?}");
        let written = match bound.size {
            None => String::from("none"),
            Some(Size { times, plus }) => {
                let times = if times == 1 { String::new() } else { times.to_string() };
                let sign = if plus < 0 { '−' } else { '+' };
                format!("n ≥ {times}f{sign}{}", plus.abs())
            }
        };
        assert_eq!(bound.formula, written);
        assert!(!bound.timing.is_empty() && !bound.kinds.is_empty());
        assert!(!bound.authentication.is_empty());
    }
}

#[test]
fn more_faults_take_more_replicas() {
    for (problem, model) in questions(0) {
        assert_eq!(least(problem, &model), 1, "nothing to survive");
        for f in 1..200 {
            let (fewer, more) = (FaultModel { f: f - 1, ..model }, FaultModel { f, ..model });
            let (fewer, more) = (least(problem, &fewer), least(problem, &more));
            assert!(fewer < more || more == usize::MAX, "{problem} under {model:?}");
        }
    }
}

#[test]
fn weaker_assumptions_take_no_fewer_replicas() {
    for f in [1, 2, 5] {
        for (problem, model) in questions(f) {
            for (_, weaker) in questions(f).filter(|(other, _)| *other == problem) {
                if weaker.timing >= model.timing
                    && weaker.kind >= model.kind
                    && weaker.authentication <= model.authentication
                {
                    assert!(
                        least(problem, &model) <= least(problem, &weaker),
                        "{problem} under {model:?} and {weaker:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn replication_is_never_had_with_one_more_than_the_faults() {
    for f in 1..10 {
        for model in models(f) {
            for problem in [Problem::StateMachineReplication, Problem::TwoStepReplication] {
                assert!(least(problem, &model) > 2 * usize::from(f));
            }
        }
    }
}

#[test]
fn the_most_faults_are_those_that_pass_the_check() {
    for (problem, model) in questions(0) {
        for n in 1..60 {
            let f = most_faults(problem, &model, n);
            assert!(check(problem, &FaultModel { f, ..model }, n).is_ok());
            assert!(check(problem, &FaultModel { f: f + 1, ..model }, n).is_err());
        }
        assert_eq!(most_faults(problem, &model, 0), 0);
        let possible = minimum(problem, &FaultModel { f: 1, ..model }).is_ok();
        let most = if possible { u16::MAX } else { 0 };
        assert_eq!(most_faults(problem, &model, usize::MAX), most);
    }
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    let all = FaultModel::byzantine(u16::MAX);
    assert_eq!(least(Problem::StateMachineReplication, &all), 196_606);
    assert_eq!(least(Problem::TwoStepReplication, &all), 327_674);
    assert!(check(Problem::StateMachineReplication, &all, usize::MAX).is_ok());
}

#[test]
fn known_sizes() {
    let smr = Problem::StateMachineReplication;
    for (f, liars, crashes) in [(1, 4, 3), (2, 7, 5), (3, 10, 7), (10, 31, 21)] {
        assert_eq!(least(smr, &FaultModel::byzantine(f)), liars);
        assert_eq!(least(smr, &FaultModel::crash(f)), crashes);
    }
    assert_eq!(most_faults(smr, &FaultModel::byzantine(0), 6), 1);
    assert_eq!(most_faults(smr, &FaultModel::byzantine(0), 7), 2);
    assert_eq!(most_faults(smr, &FaultModel::crash(0), 4), 1);
    // Four replicas are fast and survive one liar: not six, as was believed for long.
    assert_eq!(least(Problem::TwoStepReplication, &FaultModel::byzantine(1)), 4);
    let generals =
        FaultModel { timing: Synchronous, kind: Byzantine, authentication: Channels, f: 1 };
    assert_eq!(least(Problem::Broadcast, &generals), 4);
    let signed = FaultModel { authentication: Signatures, ..generals };
    assert_eq!(least(Problem::Broadcast, &signed), 3);
    assert_eq!(least(Problem::ClockSynchronisation, &generals), 4);
    assert_eq!(least(Problem::ClockSynchronisation, &signed), 3);
}

fn refusal(model: FaultModel, n: usize) -> String {
    check(Problem::StateMachineReplication, &model, n).expect_err("refused").to_string()
}

#[test]
fn refusals_name_the_bound_and_its_source() {
    assert_eq!(
        refusal(FaultModel::byzantine(1), 3),
        "4 replicas are needed to survive 1 Byzantine fault under partial synchrony (n ≥ 3f+1, Dwork, Lynch and Stockmeyer 1988); 3 given"
    );
    assert_eq!(
        refusal(FaultModel::byzantine(2), 6),
        "7 replicas are needed to survive 2 Byzantine faults under partial synchrony (n ≥ 3f+1, Dwork, Lynch and Stockmeyer 1988); 6 given"
    );
    assert_eq!(
        refusal(FaultModel::crash(1), 2),
        "3 replicas are needed to survive 1 crash fault under partial synchrony (n ≥ 2f+1, Dwork, Lynch and Stockmeyer 1988); 2 given"
    );
    assert!(
        refusal(FaultModel::crash(0), 0)
            .starts_with("1 replica is needed to survive 0 crash faults")
    );
    let asynchronous = FaultModel { timing: Asynchronous, ..FaultModel::crash(1) };
    assert_eq!(
        refusal(asynchronous, 1000),
        "no deterministic protocol achieves state machine replication under asynchrony once a single crash fault may occur, with however many replicas (Fischer, Lynch and Paterson 1985)"
    );
    let impossible = minimum(Problem::Consensus, &asynchronous).expect_err("impossible");
    assert!(impossible.to_string().contains("achieves consensus under asynchrony"));
}
