//! Clients that lie to the coordination service, by the name that the command knows them under.

use testudo_lab::{Coverage, Due, Rota, conform, faults, subject};
use testudo_pbft::Pbft;
use testudo_sim::conformance::Seeds;

#[test]
fn they_are_asked_for_by_name_lie_and_harm_nobody() {
    let all = Rota::standard().faults();
    let asked = faults::read("lying-client,crash,learner-crash", &all).expect("they have names");
    let rota = Rota::standard().limited_to(&asked);
    let lies =
        |seed: &u64| rota.plan(*seed).is_some_and(|(_, plan)| !plan.lying_clients.is_empty());
    let seeds: Vec<u64> = (0..rota.round()).filter(lies).take(3).collect();
    assert_eq!(seeds.len(), 3);
    let summary = conform(&*subject::<Pbft>(), &rota, &Seeds::these(&seeds));
    summary.assert_clean();
    let asked = faults::read("lying-client", &all).expect("it has a name");
    let coverage = Coverage::of(&summary.counts, &asked, Due::Faults);
    assert!(coverage.missing.is_empty(), "{summary}");
}
