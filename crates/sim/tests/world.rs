//! The world keeps its promises: same seed, same run; durable before visible; faults within their budget.

extern crate alloc;

mod common;

use common::{Ask, Register};
use std::time::Duration;
use testudo_sim::{Climate, Misconduct, NodeId, Rng, Seeded, Shape, Trouble, World};

fn storm(seed: u64, liar: Option<Misconduct>) -> (String, u64, usize) {
    let mut shape = Shape::byzantine(1, 3);
    if liar == Some(Misconduct::Twins) {
        shape.twins.push(testudo_core::ReplicaId(2));
    }
    let world = World::new(Register::default(), &shape, seed);
    let mut rng = Rng::split(seed, "climate", 0);
    let climate = Climate::drawn(&[Trouble::Crash, Trouble::Partition, Trouble::OneWay], &mut rng);
    let mut seeded = Seeded::new(world, seed, climate, 1, false);
    if let Some(liar) = liar {
        seeded.corrupt(NodeId(2), liar);
    }
    for id in 0..60 {
        let write = (id % 2 == 0).then(|| format!("text {id}"));
        let ask = Ask { id, key: format!("k{}", id % 4), write };
        seeded.world.ask_client(id as usize % 3, ask);
    }
    let mut answers = 0;
    seeded.run_until(Duration::from_secs(10), |world| {
        answers += usize::from(world.take_answer().is_some());
        answers == 60
    });
    seeded.heal();
    seeded.run_until(Duration::from_secs(100), |world| {
        answers += usize::from(world.take_answer().is_some());
        answers == 60
    });
    (seeded.world.audit_hash().hex(), seeded.world.steps(), answers)
}

#[test]
fn one_seed_is_one_run() {
    for liar in Misconduct::ALL {
        for seed in 0..3 {
            let (first, second) = (storm(seed, Some(liar)), storm(seed, Some(liar)));
            assert_eq!(first, second, "{liar:?} seed {seed}");
            assert_ne!(first.0, storm(seed + 100, Some(liar)).0, "{liar:?} seed {seed}");
        }
    }
}

#[test]
fn everything_is_answered_after_the_storm() {
    for seed in 0..50 {
        let (_, steps, answers) = storm(seed, None);
        assert_eq!(answers, 60, "seed {seed}");
        assert!(steps > 500, "seed {seed}: {steps} steps");
    }
}
