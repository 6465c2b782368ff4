//! Liars in all their kinds. Nearly each run has one, which every learner hears first; watches and leases go on all the while.

use std::time::Duration;
use testudo_contracts::Tactic;
use testudo_sim::conspiracy::Scheme;
use testudo_sim::upstream::Strategy;
use testudo_sim::{Climate, Harm, Misconduct, Plan, Trouble, Weather};

/// Every kind of liar among four replicas, and each again among five, where a quorum is four and not 2f+1.
pub(super) fn plans() -> Vec<Plan> {
    let liars = [
        Misconduct::Equivocate,
        Misconduct::Silent,
        Misconduct::Twins,
        Misconduct::Corrupt,
        Misconduct::Selective,
        Misconduct::Random,
        Misconduct::Stale,
        Misconduct::Slow,
        Misconduct::Replay,
        Misconduct::Upstream(None),
    ];
    // In the order in which they came to be known, as that is the order in which they are drawn.
    let troubles =
        [Trouble::Crash, Trouble::Partition, Trouble::OneWay, Trouble::Clock, Trouble::Learner];
    let newer = [
        Trouble::Partial,
        Trouble::Flapping,
        Trouble::Jumps,
        Trouble::Drift,
        Trouble::Pause,
        Trouble::Midway,
    ];
    let troubles: Vec<Trouble> = troubles.into_iter().chain(newer).collect();
    let of = |liar: &Misconduct| {
        let plan = Plan { operations: 210, clients: 2, learners: 2, ..Plan::default() };
        let plan = Plan { most_records: Some(super::MOST_RECORDS), ..plan };
        Plan { troubles: troubles.clone(), ..plan }.with_liar(*liar)
    };
    let four = liars.iter().map(of);
    let five = liars.iter().map(|liar| Plan { replicas: Some(5), ..of(liar) });
    // Correct replicas with intact disks may be down in any number for a while: nothing may be lost by it.
    let crashing = liars.iter().map(|liar| of(liar).beyond());
    // Two faults of seven: a liar, and besides it a clock that is years off, a crash, or rot in a log.
    let rotten = [Trouble::Clock, Trouble::Harm(Harm::Record), Trouble::Crash, Trouble::Learner];
    let rotten: Vec<Trouble> = rotten.into_iter().chain(newer).collect();
    let two = |liar: &Misconduct| Plan { f: 2, troubles: rotten.clone(), ..of(liar) };
    let seven = liars.iter().map(two);
    let plans = four.zip(five).zip(crashing).zip(seven);
    let plans = plans.flat_map(|(((four, five), crashing), seven)| [four, crashing, five, seven]);
    // Every way of lying to learners, each by itself, while replicas start from snapshots again and again.
    let alone = |strategy| Misconduct::Upstream(Some(strategy));
    let upstream = Strategy::ALL
        .map(|strategy| Plan { climate: Some(restless()), ..of(&alone(strategy)).beyond() });
    // Two of seven that act together, in each way by itself and in all in turn.
    let schemes = Scheme::ALL.map(Some).into_iter().chain([None]);
    let conspiring = schemes.map(|scheme| {
        let liar = Misconduct::Conspire(scheme);
        Plan { f: 2, liars: vec![liar; 2], ..of(&liar) }
    });
    // Where nobody lies, whoever may be faulty may be so in other ways.
    let honest = Plan { liars: Vec::new(), ..of(&Misconduct::Silent) };
    let plans =
        plans.chain(upstream).chain(conspiring).chain([honest.clone(), honest.clone().beyond()]);
    // What the protocol itself knows how to misuse, by one of four and by two of seven.
    let tactics = Tactic::ALL.map(Misconduct::Tactic);
    let tactics = tactics.map(|liar| [of(&liar), Plan { liars: vec![liar; 2], ..two(&liar) }]);
    plans.chain(beside_lying_clients(&honest)).chain(tactics.into_iter().flatten()).collect()
}

/// Clients that lie, alone and beside a replica that does, in whom they find a primary to their taste.
fn beside_lying_clients(honest: &Plan) -> Vec<Plan> {
    let one = Plan { lying_clients: vec![None], ..honest.clone() };
    let two = Plan { lying_clients: vec![None; 2], ..honest.clone() };
    let beside = [Misconduct::Replay, Misconduct::Selective, Misconduct::Corrupt];
    let beside = beside.map(|liar| one.clone().with_liar(liar));
    [two.clone(), two.beyond()].into_iter().chain(beside).collect()
}

/// Replicas and learners come and go, and the network does little else.
fn restless() -> Climate {
    let weather = Weather { lost_per_mille: 20, doubled_per_mille: 20, ..Weather::calm() };
    let every = Duration::from_millis;
    let troubles = vec![
        (Trouble::Blackout, every(3_000)),
        (Trouble::Crash, every(2_000)),
        (Trouble::Learner, every(1_500)),
        (Trouble::OneWay, every(5_000)),
    ];
    Climate { weather, troubles }
}
