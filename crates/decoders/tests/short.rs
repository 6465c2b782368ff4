//! A short run of every target: good inputs as they are, with changes, and bytes at random. They are the same each time; and
//! where `TESTUDO_COMMIT` is set there are as many again, drawn from that word, which may be a commit's name.

use testudo_decoders::{TARGETS, Target};
use testudo_sim::conformance::Seeds;
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

/// An input that is being tried: it is told if that panics.
struct Tried<'a>(&'static str, &'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let digits: String = self.1.iter().map(|byte| format!("{byte:02x}")).collect();
            println!("{} does not stand {digits}", self.0);
        }
    }
}

fn run(target: &Target, input: &[u8]) {
    let _tried = Tried(target.name, input);
    (target.run)(input);
}

fn short_run(target: &Target, seed: u64) {
    let good = (target.good)();
    assert!(!good.is_empty(), "{}: nothing good", target.name);
    good.iter().for_each(|input| run(target, input));
    let mut rng = Rng::split(seed, target.name, 0);
    for _ in 0..ROUNDS {
        run(target, &changed(&good, &mut rng));
        let length = rng.below(300);
        let random: Vec<u8> = (0..length).map(|_| rng.next() as u8).collect();
        run(target, &random);
    }
}

#[test]
fn every_target_stands_a_short_run() {
    let mut seeds = Seeds::these(&[1]);
    if let Ok(word) = std::env::var("TESTUDO_COMMIT") {
        seeds = seeds.and_drawn(&word, 1);
    }
    for target in &TARGETS {
        println!("{}: {} good inputs, seeds {:?}", target.name, (target.good)().len(), seeds.all());
        seeds.all().iter().for_each(|seed| short_run(target, *seed));
    }
}

/// The fuzzer has a target for each, and they call each other by the same name.
#[test]
fn the_fuzzer_has_every_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).expect("it is there");
    for Target { name, .. } in &TARGETS {
        let path = format!("{folder}/fuzz_targets/{name}.rs");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(text.contains(&format!("run(\"{name}\", input)")), "{path}");
        assert!(text.contains(&format!("sow(\"{name}\")")), "{path}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
    }
}

/// Every target that there is a file for is built.
#[test]
fn the_fuzzer_builds_every_file() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz");
    let manifest = std::fs::read_to_string(format!("{folder}/Cargo.toml")).expect("it is there");
    let mut names = Vec::new();
    for file in std::fs::read_dir(format!("{folder}/fuzz_targets")).expect("it is there") {
        let path = file.expect("it can be listed").path();
        names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
    }
    assert!(names.contains(&"world".to_owned()) && names.len() > TARGETS.len(), "{names:?}");
    for name in names {
        let lines = format!("name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&lines), "{name} is not in the manifest");
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
