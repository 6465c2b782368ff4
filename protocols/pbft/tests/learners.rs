//! Learners over the small service, with every kind of liar upstream: what they show, and what they answer.

use testudo_pbft::Pbft;
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::replicated::{Lore, Replicated};
use testudo_sim::{Misconduct, Plan, Trouble};

/// Two clients that keep nothing, two learners, and a liar whom both learners hear first.
fn plans() -> Vec<Plan> {
    let troubles =
        vec![Trouble::Crash, Trouble::Partition, Trouble::OneWay, Trouble::Clock, Trouble::Learner];
    let of = |liar: Misconduct| {
        let plan = Plan { clients: 2, learners: 2, troubles: troubles.clone(), ..Plan::default() };
        plan.with_liar(liar)
    };
    Misconduct::ALL.into_iter().map(of).collect()
}

#[test]
fn learners_show_what_replicas_hold() {
    let summary = conform(Replicated::<Pbft, Lore>::default, &Seeds::for_tests(20), &plans());
    println!("{summary}");
    summary.assert_clean();
    for name in ["copies compared", "states shown by learners", "trouble: learner crash"] {
        assert!(summary.count(name) > 0, "{name} never happened\n{summary}");
    }
}
