//! Which seed runs under which plan, and what is left of the plans when only some faults are asked for.

use std::collections::BTreeSet;
use testudo_contracts::{Profile, Tactic};
use testudo_core::fault::FaultKind;
use testudo_lab::coverage::NOTICED;
use testudo_lab::plans::{HARMS, LIARS};
use testudo_lab::{Coverage, Due, Fault, Group, Rota, faults, subject};
use testudo_pbft::Pbft;
use testudo_sim::conformance::Seeds;
use testudo_sim::{Disks, Harm, Misconduct, Plan, Signatures, Trouble, Verdict, Weather};

fn all() -> BTreeSet<Fault> {
    Rota::standard().faults()
}

fn limited(list: &str) -> Rota {
    let faults = faults::read(list, &all()).expect("the names are known");
    Rota::standard().limited_to(&faults)
}

#[test]
fn seeds_take_turns() {
    let rota = Rota::standard();
    let series: Vec<&str> =
        (0..4).map(|seed| rota.plan(seed).expect("there is a plan").0).collect();
    assert_eq!(series, [LIARS, HARMS, LIARS, HARMS]);
    let plan = |seed: u64| format!("{:?}", rota.plan(seed));
    let plans: BTreeSet<String> = (0..rota.round()).map(plan).collect();
    assert!(plans.len() > 90, "a round has every plan: {}", plans.len());
    assert_eq!(plan(7), plan(7));
    assert_ne!(plan(0), plan(2));
    let mine = rota.seeds_of(LIARS, &Seeds::fixed(10));
    assert_eq!(mine.all(), [0, 2, 4, 6, 8]);
    assert_eq!(Rota::new(Vec::new()).plan(3).map(|(name, _)| name), None);
}

#[test]
fn every_fault_has_a_name_and_a_group_of_its_own() {
    let all = all();
    let names: BTreeSet<String> = all.iter().map(|fault| fault.name()).collect();
    assert_eq!(names.len(), all.len());
    assert!(names.iter().all(|name| !name.contains([' ', ','])), "{names:?}");
    assert!(Harm::ALL.iter().all(|harm| all.contains(&Fault::Trouble(Trouble::Harm(*harm)))));
    for group in Group::ALL {
        assert!(all.iter().any(|fault| fault.group() == group), "{group:?}");
        assert!(!names.contains(group.name()));
    }
    for fault in &all {
        assert_eq!(faults::read(&fault.name(), &all), Ok(BTreeSet::from([*fault])));
    }
    assert_eq!(faults::read("all", &all), Ok(all.clone()));
    assert_eq!(faults::read("none", &all), Ok(BTreeSet::new()));
    assert_eq!(faults::read("crash,crsh", &all), Err("crsh".into()));
    assert_eq!(faults::read("", &all), Err(String::new()));
    let both = faults::read("crash, twins", &all).expect("both are known");
    assert_eq!(both.len(), 2);
}

#[test]
fn what_is_not_asked_for_is_left_out() {
    let rota = limited("crash,twins,loss");
    assert_eq!(rota.faults().len(), 3);
    for seed in 0..300 {
        let (_, plan) = rota.plan(seed).expect("there is a plan");
        assert!(plan.liars.iter().all(|liar| *liar == Misconduct::Twins), "{plan:?}");
        let climate = plan.climate.expect("it is drawn already");
        assert!(climate.troubles.iter().all(|(trouble, _)| *trouble == Trouble::Crash));
        let Weather { doubled_per_mille, delayed_per_mille, slowest_link, .. } = climate.weather;
        assert_eq!((doubled_per_mille, delayed_per_mille, slowest_link), (0, 0, 1));
    }
    let has = |what: fn(&testudo_sim::Plan) -> bool| {
        (0..300).filter_map(|seed| rota.plan(seed)).any(|(_, plan)| what(&plan))
    };
    assert!(has(|plan| plan.liars == [Misconduct::Twins]));
    assert!(has(|plan| plan.climate.as_ref().is_some_and(|it| it.weather.lost_per_mille > 0)));
    assert!(has(|plan| plan.climate.as_ref().is_some_and(|it| !it.troubles.is_empty())));
}

#[test]
fn without_faults_nothing_goes_wrong() {
    let rota = limited("none");
    assert!(rota.faults().is_empty());
    for seed in 0..50 {
        let (_, plan) = rota.plan(seed).expect("there is a plan");
        let climate = plan.climate.expect("it is drawn already");
        assert!(plan.liars.is_empty() && climate.troubles.is_empty());
        assert_eq!(climate.weather.lost_per_mille + climate.weather.doubled_per_mille, 0);
    }
}

/// A count that is above zero where nothing goes wrong would prove nothing where something should.
#[test]
fn where_nothing_goes_wrong_no_fault_has_bitten() {
    let (rota, subject) = (limited("none"), subject::<Pbft>());
    for (seed, disks) in [(0, Disks::Books), (1, Disks::Logs)] {
        let (_, plan) = rota.plan(seed).expect("there is a plan");
        let report = subject.run(seed, &Plan { operations: 60, disks, ..plan });
        assert!(report.is_clean() && report.answered >= 60, "{report}");
        let counts = report.counts.clone().into_iter().collect();
        let coverage = Coverage::of(&counts, &all(), Due::Effects);
        assert_eq!(coverage.faults.values().map(Vec::len).sum::<usize>(), all().len());
        for (name, bites) in coverage.faults.values().flatten() {
            assert_eq!(*bites, 0, "{name} bit where nothing went wrong");
        }
        for effect in ["lies told", "trouble: slow links", "losses found at starts"] {
            assert!(coverage.missing.contains(&effect.to_owned()), "{effect}");
        }
    }
}

/// One seed alone means the same run, whoever else is asked for beside it.
#[test]
fn a_limit_that_limits_nothing_changes_no_run() {
    let (free, limited) = (Rota::standard(), Rota::standard().limited_to(&all()));
    assert_eq!(free.round(), limited.round());
    for seed in 0..free.round() {
        let (free, limited) = (free.plan(seed), limited.plan(seed));
        let (free, limited) = (free.expect("a plan"), limited.expect("a plan"));
        assert_eq!(free.0, limited.0);
        let liars =
            |plan: &testudo_sim::Plan| (plan.liars.clone(), plan.n(), plan.troubles.clone());
        assert_eq!(liars(&free.1), liars(&limited.1));
    }
}

#[test]
fn what_never_bit_is_missing() {
    let asked = faults::read("crash,partition,twins", &all()).expect("they are known");
    let counts = [("trouble: crash", 3), ("trouble: twins", 0), ("messages lost", 9)];
    let counts = counts.map(|(name, count)| (name.to_owned(), count)).into();
    let coverage = Coverage::of(&counts, &asked, Due::Faults);
    assert_eq!(coverage.missing, ["partition", "twins"]);
    assert_eq!(coverage.faults[&Group::Nodes], [("crash".to_owned(), 3)]);
    let everything = Coverage::of(&counts, &asked, Due::Effects);
    assert!(everything.missing.contains(&"view changes".to_owned()));
    let beyond = Coverage::of(&counts, &asked, Due::Notice);
    assert_eq!(beyond.missing[2..], NOTICED, "nothing broke that somebody could have noticed");
}

/// A protocol that survives crashes alone, with two replicas for each and one more.
#[test]
fn nobody_lies_where_lies_are_not_survived() {
    let pbft = subject::<Pbft>().profile();
    let crashes = Profile { faults: FaultKind::Crash, replicas: |f| 2 * f + 1, ..pbft };
    let rota = Rota::standard().for_protocol(&crashes);
    assert!(rota.faults().iter().all(|fault| fault.group() != Group::Liars));
    let (_, plan) = rota.plan(0).expect("there is a plan");
    assert_eq!((plan.n(), plan.kind), (3, FaultKind::Crash));
    let same = Rota::standard().for_protocol(&pbft);
    assert_eq!(same.faults(), all());
    for seed in 0..same.round() {
        let n = |rota: &Rota| rota.plan(seed).map(|(_, plan)| plan.n());
        assert_eq!(n(&same), n(&Rota::standard()));
    }
}

#[test]
fn a_protocol_is_put_to_the_tactics_that_it_knows() {
    let pbft = subject::<Pbft>();
    assert_eq!(Rota::standard().knowing(pbft.tactics()).faults(), all());
    let of = |tactic: Tactic| Fault::Liar(Misconduct::Tactic(tactic));
    let slow = Rota::standard().knowing(&[Tactic::SlowPrimary]).faults();
    let known: Vec<Tactic> = Tactic::ALL.into_iter().filter(|it| slow.contains(&of(*it))).collect();
    assert_eq!(known, [Tactic::SlowPrimary]);
    assert!(all().is_superset(&slow) && all().contains(&of(Tactic::LeftOut)));
}

#[test]
fn beyond_means_one_fault_too_many() {
    let rota = Rota::beyond();
    for seed in 0..rota.round() {
        let (_, plan) = rota.plan(seed).expect("there is a plan");
        assert!(plan.exceeds && plan.budget() == plan.f + 1);
        assert!(plan.liars.len() <= usize::from(plan.budget()));
    }
    assert!(Verdict::Failed > Verdict::Misled && Verdict::Clean < Verdict::Stopped);
}

/// Who asks, and for how many keys, varies.
#[test]
fn people_are_drawn_in_some_runs() {
    let rota = Rota::standard();
    let round = rota.round();
    let plans = || (0..round).filter_map(|seed| rota.plan(seed));
    let people: BTreeSet<_> =
        plans().map(|(_, plan)| (plan.clients, plan.learners, plan.keys)).collect();
    assert!(people.len() > 15, "{people:?}");
    assert!(people.iter().any(|(clients, learners, _)| clients < learners));
    for (_, plan) in plans() {
        assert!((1..=6).contains(&plan.clients) && (1..=4).contains(&plan.learners), "{plan:?}");
    }
    let usual = plans().filter(|(_, plan)| plan.keys == Plan::default().keys).count() as u64;
    assert!((round / 2..round).contains(&usual), "most runs are as their plans say: {usual}");
}

/// Production's signatures are drawn, so every kind of plan meets them sooner or later.
#[test]
fn real_signatures_meet_every_series_and_every_liar() {
    let rota = Rota::standard();
    let real = |seeds: std::ops::Range<u64>| {
        seeds
            .filter(|seed| Signatures::of(*seed) == Signatures::Ed25519)
            .filter_map(|seed| rota.plan(seed))
            .collect::<Vec<_>>()
    };
    for series in [LIARS, HARMS] {
        assert!(real(0..1_000).iter().any(|(name, _)| *name == series), "{series}");
    }
    let long = real(0..200_000);
    let liars: BTreeSet<_> = long.iter().flat_map(|(_, plan)| plan.liars.clone()).collect();
    let all = rota.faults().into_iter();
    for fault in all.filter(|fault| fault.group() == Group::Liars) {
        let is_met = match fault {
            Fault::LyingClient => long.iter().any(|(_, plan)| !plan.lying_clients.is_empty()),
            _ => liars.iter().any(|liar| Fault::Liar(*liar) == fault),
        };
        assert!(is_met, "{fault}");
    }
    for n in [4, 5, 7] {
        assert!(long.iter().any(|(_, plan)| plan.n() == n), "{n} replicas");
    }
}
