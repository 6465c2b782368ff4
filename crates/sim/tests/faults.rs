//! Each kind of trouble with network and nodes bites, is counted when it does, and leaves a correct core clean.

extern crate alloc;

mod common;

use common::{Ask, Register};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use testudo_sim::conformance::{Seeds, conform};
use testudo_sim::lateness::Bound;
use testudo_sim::replay::{record, replay};
use testudo_sim::weather::{Courier, Ploy, Spread, Stabilisation};
use testudo_sim::{
    Climate, Event, Misconduct, NodeId, Observer, Plan, Seeded, Shape, Signatures, Summary,
    Trouble, Weather, World,
};

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A few seeds of the toy under one climate. They must be clean, and what was asked for must have happened.
fn survives(climate: Climate, names: &[&str]) -> Summary {
    let plan = Plan { climate: Some(climate), operations: 150, ..Plan::default() };
    let summary = conform(Register::default, &Seeds::fixed(4), &[plan]);
    summary.assert_clean();
    for name in names {
        assert!(summary.count(name) > 0, "{name} never happened\n{summary}");
    }
    summary
}

fn under(weather: Weather) -> Climate {
    Climate { weather, troubles: Vec::new() }
}

#[test]
fn every_trouble_bites_and_is_survived() {
    for trouble in Trouble::STANDARD {
        let weather = Weather { lost_per_mille: 20, ..Weather::calm() };
        let climate = Climate { weather, troubles: vec![(trouble, millis(400))] };
        survives(climate, &[&format!("trouble: {}", trouble.name())]);
    }
}

#[test]
fn every_shape_of_delay_is_survived() {
    for spread in Spread::ALL {
        let weather = Weather { spread, jitter: millis(4), ..Weather::calm() };
        let summary = survives(under(weather), &[]);
        let name = format!("trouble: {}", spread.name());
        assert_eq!(summary.count(&name) > 0, spread != Spread::Hump, "{name}");
    }
}

#[test]
fn messages_overtake_each_other_but_where_links_keep_their_order() {
    let reorders = Weather { reordered_per_mille: 200, ..Weather::calm() };
    survives(under(reorders), &["messages overtaken", "trouble: reordering"]);
    let ordered = Weather { keeps_order: true, jitter: millis(20), ..reorders };
    let summary = survives(under(ordered), &[]);
    assert_eq!(summary.count("messages overtaken"), 0);
    assert_eq!(summary.count("trouble: reordering"), 0);
    let delays = Weather { delayed_per_mille: 100, delay: millis(300), ..Weather::calm() };
    let summary = survives(under(delays), &["messages overtaken", "trouble: delay"]);
    assert_eq!(summary.count("trouble: reordering"), 0);
    let slow = Weather { slowest_link: 30, ..Weather::calm() };
    survives(under(slow), &["trouble: slow links"]);
}

#[test]
fn an_adversary_that_picks_deliveries_is_fair_in_the_end() {
    for ploy in Ploy::ALL {
        let courier = Some(Courier { ploy, patience: millis(500) });
        let weather = Weather { courier, ..Weather::calm() };
        survives(under(weather), &[&format!("trouble: {}", ploy.name())]);
    }
}

#[test]
fn a_quorum_is_withheld_for_as_long_as_patience_lasts() {
    let time = |courier| {
        let world = World::new(Register::default(), &Shape::byzantine(1, 1), 3);
        let weather = Weather { courier, ..Weather::calm() };
        let mut seeded = Seeded::new(world, 3, under(weather), 1, false);
        seeded.world.ask_client(0, Ask { id: 1, key: "k".into(), write: Some("text".into()) });
        let answered =
            seeded.run_until(Duration::from_secs(60), |world| world.take_answer().is_some());
        assert!(answered);
        seeded.world.now()
    };
    let patience = millis(2_000);
    assert!(time(None) < millis(100));
    // Answers to a question and words of thanks are alike; two of them get through in each of two rounds.
    let ploy = Ploy::Quorums;
    assert!(time(Some(Courier { ploy, patience })) > patience);
}

#[test]
fn divided_replicas_hear_their_own_camp_first() {
    let climate = |ploy| {
        under(Weather { courier: Some(Courier { ploy, patience: millis(900) }), ..Weather::calm() })
    };
    let starved = survives(climate(Ploy::Primary), &[]);
    let divided = survives(climate(Ploy::Camps), &[]);
    assert_ne!(starved.steps, divided.steps);
}

#[test]
fn after_stabilisation_every_message_is_in_time() {
    let bound = millis(40);
    for seed in 0..3 {
        let wild = Weather {
            delayed_per_mille: 300,
            delay: Duration::from_secs(20),
            lost_per_mille: 200,
            slowest_link: 40,
            stabilises: Some(Stabilisation { at: millis(2_000), bound }),
            courier: Some(Courier { ploy: Ploy::Camps, patience: millis(1_500) }),
            ..Weather::calm()
        };
        let troubles = vec![
            (Trouble::Partition, millis(300)),
            (Trouble::Flapping, millis(300)),
            (Trouble::Partial, millis(300)),
            (Trouble::Crash, millis(700)),
            (Trouble::Pause, millis(700)),
        ];
        let world = World::new(Register::default(), &Shape::byzantine(1, 2), seed);
        let climate = Climate { weather: wild, troubles };
        let mut seeded = Seeded::new(world, seed, climate, 1, false);
        let before = seeded.monitor(Bound::Transit(bound));
        let ask = |seeded: &mut Seeded<Register>, id: u64| {
            let write = Some(format!("text {id}"));
            let key = format!("k{}", id % 3);
            seeded.world.ask_client(id as usize % 2, Ask { id, key, write });
        };
        (0..400).for_each(|id| ask(&mut seeded, id));
        seeded.run_until(millis(2_001), |_| false);
        assert!(!before.borrow().held(), "seed {seed}: before that moment there is no bound");
        // What was under way arrives within the bound too, but nobody promised it when it was sent.
        let after = seeded.monitor(Bound::Transit(bound));
        let crashes = Rc::new(RefCell::new(Crashes(0)));
        seeded.world.watch(crashes.clone());
        (400..2_000).for_each(|id| ask(&mut seeded, id));
        seeded.run_until(millis(12_000), |_| false);
        assert!(after.borrow().held(), "seed {seed}: {:?}", after.borrow_mut().take_findings());
        assert!(crashes.borrow().0 > 0, "seed {seed}: other trouble goes on");
        assert_eq!(seeded.befallen().get("stabilisation"), Some(&1));
    }
}

struct Crashes(u32);

impl Observer for Crashes {
    fn observe(&mut self, _: Duration, event: &Event) {
        self.0 += u32::from(matches!(event, Event::Crashed { .. }));
    }
}

#[test]
fn what_is_late_for_a_round_becomes_an_event() {
    struct Late(u64);
    impl Observer for Late {
        fn observe(&mut self, _: Duration, event: &Event) {
            self.0 += u64::from(matches!(event, Event::Untimely(..)));
        }
    }
    let world = World::new(Register::default(), &Shape::byzantine(1, 1), 1);
    let weather = Weather { latency: millis(7), ..Weather::calm() };
    let mut seeded = Seeded::new(world, 1, under(weather), 1, false);
    let late = Rc::new(RefCell::new(Late(0)));
    seeded.world.watch(late.clone());
    let lateness = seeded.monitor(Bound::Round(millis(5)));
    seeded.world.ask_client(0, Ask { id: 1, key: "k".into(), write: None });
    seeded.run_until(millis(50), |_| false);
    assert!(!lateness.borrow().held());
    // Each was missed at the end of its round, and came late.
    assert_eq!(late.borrow().0, 2 * lateness.borrow().breaches());
}

#[test]
fn a_bound_that_only_the_run_knows_holds_to_the_end() {
    let stabilises = Some(Stabilisation { at: millis(1_000), bound: millis(120) });
    let weather = Weather { stabilises, lost_per_mille: 300, ..Weather::calm() };
    let climate = Climate { weather, troubles: vec![(Trouble::Crash, millis(900))] };
    let summary = survives(climate, &["trouble: stabilisation"]);
    assert_eq!(summary.count("trouble: stabilisation"), 4);
}

#[test]
fn pauses_may_befall_all_at_once_and_clocks_no_more_than_f() {
    let world = World::new(Register::default(), &Shape::byzantine(1, 1), 2);
    let troubles = [Trouble::Pause, Trouble::Jumps, Trouble::Drift, Trouble::Clock];
    let troubles = troubles.map(|trouble| (trouble, millis(40))).to_vec();
    let climate = Climate { weather: Weather::calm(), troubles };
    let mut seeded = Seeded::new(world, 2, climate, 1, false);
    let (mut most_paused, mut most_wrong) = (0, 0);
    let bound = testudo_core::limits::CLOCK_BOUND.as_millis() as i64;
    seeded.run_until(Duration::from_secs(20), |world| {
        let count = |is: &dyn Fn(NodeId) -> bool| world.replicas().filter(|node| is(*node)).count();
        most_paused = most_paused.max(count(&|node| world.is_paused(node)));
        most_wrong = most_wrong.max(count(&|node| world.clock_error(node).abs() > bound));
        false
    });
    assert_eq!(most_paused, 4);
    assert_eq!(most_wrong, 1);
    seeded.heal();
    for node in seeded.world.all() {
        assert!(!seeded.world.is_paused(node));
        seeded.world.advance_to(Duration::from_secs(4_000));
        assert!(seeded.world.clock_error(node).abs() <= 10, "it keeps time again");
    }
}

#[test]
fn what_befell_network_and_nodes_is_played_again_to_the_last_event() {
    let stabilises = Some(Stabilisation { at: millis(2_500), bound: millis(30) });
    let courier = Some(Courier { ploy: Ploy::Camps, patience: millis(300) });
    let weather = Weather { stabilises, courier, lost_per_mille: 30, ..Weather::calm() };
    // Replicas whose clocks are wrong count to the end: they must not use up what may befall others.
    let mean = |trouble| match trouble {
        Trouble::Clock | Trouble::Jumps => millis(9_000),
        Trouble::Drift => millis(1_200),
        _ => millis(300),
    };
    let troubles = Trouble::STANDARD.map(|trouble| (trouble, mean(trouble))).to_vec();
    let climate = Some(Climate { weather, troubles });
    for signatures in [Signatures::Hashed, Signatures::Ed25519] {
        let signatures = Some(signatures);
        let climate = climate.clone();
        let plan = Plan { f: 3, climate, operations: 300, signatures, ..Plan::default() };
        let run = record(Register::default, 5, &plan.with_liar(Misconduct::Conspire(None)));
        assert!(run.report.is_clean(), "{}", run.report);
        for step in ["pause", "resume", "doom", "rate", "clock", "join", "timely", "corrupt"] {
            let is_it = |line: &testudo_sim::Step| line.to_string().starts_with(step);
            assert!(
                run.steps.iter().any(is_it),
                "{step} is no step of the run: {:?}",
                run.report.counts
            );
        }
        let again = replay(Register::default, &run);
        assert!(again.is_clean(), "{again}");
        assert_eq!(again.audit, run.report.audit);
        assert_eq!(again.steps, run.report.steps);
    }
}
