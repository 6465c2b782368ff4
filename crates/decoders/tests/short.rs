//! A short run of every target, the same each time: good inputs as they are, with changes, and bytes at random.

use testudo_decoders::{TARGETS, Target};
use testudo_sim::{Chance, Rng};

/// Inputs of each kind for each target.
const ROUNDS: u64 = 400;

/// A good input with a few changes: bytes that are others, lengths that are wild, pieces that are missing or double, and the
/// end of another one.
fn changed(good: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let pick = |rng: &mut Rng| good[rng.below(good.len() as u64) as usize].clone();
    let mut bytes = pick(rng);
    for _ in 0..rng.between(1, 4) {
        let at = rng.below(bytes.len() as u64 + 1) as usize;
        match rng.below(6) {
            0 => bytes.truncate(at),
            1 => bytes.extend(pick(rng).into_iter().skip(at)),
            2 if at + 4 <= bytes.len() => {
                let wild = [u32::MAX, 1 << 31, 1 << 20, 1024, 0, rng.next() as u32];
                let length = wild[rng.below(wild.len() as u64) as usize];
                bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
            }
            3 => {
                let end = bytes.len().min(at + rng.below(40) as usize);
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ if at < bytes.len() => bytes[at] = rng.next() as u8,
            _ => bytes.push(rng.next() as u8),
        }
    }
    bytes
}

fn short_run(target: &Target) {
    let good = (target.good)();
    assert!(!good.is_empty(), "{}: nothing good", target.name);
    good.iter().for_each(|input| (target.run)(input));
    let mut rng = Rng::split(1, target.name, 0);
    for _ in 0..ROUNDS {
        (target.run)(&changed(&good, &mut rng));
        let length = rng.below(300);
        let random: Vec<u8> = (0..length).map(|_| rng.next() as u8).collect();
        (target.run)(&random);
    }
}

#[test]
fn every_target_stands_a_short_run() {
    for target in &TARGETS {
        println!("{}: {} good inputs", target.name, (target.good)().len());
        short_run(target);
    }
}

/// The fuzzer has a target for each, and they call each other by the same name.
#[test]
fn the_fuzzer_has_every_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).expect("it is there");
    for Target { name, .. } in TARGETS {
        let path = format!("{folder}/fuzz_targets/{name}.rs");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains(&format!("run(\"{name}\", input)")), "{path}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}

/// Whoever speaks is heard: the frames that good inputs are made of are of almost every kind that there is.
#[test]
fn good_messages_are_of_many_kinds() {
    let target = TARGETS.iter().find(|target| target.name == "message").expect("it is there");
    let mut kinds: Vec<[u8; 2]> =
        (target.good)().iter().filter_map(|input| input.first_chunk().copied()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert!(kinds.len() >= 24, "{} kinds: {kinds:?}", kinds.len());
}
