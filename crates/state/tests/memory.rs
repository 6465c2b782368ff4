//! What entries take in memory, in all: measured at the process, with the allocator that the command has.
#![cfg(target_os = "linux")]

use std::sync::Arc;
use testudo_core::Digest;
use testudo_state::Map;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PAGE: usize = 4096;

fn resident() -> usize {
    let statm =
        std::fs::read_to_string("/proc/self/statm").expect("Linux says what a process takes");
    let pages = statm.split(' ').nth(1).expect("the second field is what is resident");
    pages.parse::<usize>().expect("it is a number") * PAGE
}

/// A map of so many entries, with its digests worked out, and bytes per entry.
fn filled(entries: usize, entry: impl Fn(usize) -> (Vec<u8>, Arc<[u8]>)) -> (Map, usize) {
    let before = resident();
    let mut map = Map::new();
    for number in 0..entries {
        let (key, value) = entry(number);
        map.insert(key, value);
    }
    let _ = map.digest();
    assert_eq!(map.len(), entries);
    (map, (resident() - before) / entries)
}

fn scattered(number: usize) -> Vec<u8> {
    let digest = Digest::of(&number.to_le_bytes());
    [&b"k/registry/pods/"[..], &digest.0[..16]].concat()
}

/// One test, as what is measured is the process; so all maps are kept to its end.
#[test]
fn entries_take_what_they_may() {
    let value = |_| Arc::from(&[7; 256][..]);
    // 24 entries for each place of four levels: nearly all nodes there part once more, into blocks of one or two.
    let thin = filled(24 << 12, |number| (scattered(number), value(number)));
    assert!(thin.1 <= 600, "{} bytes for a key of 32 bytes and a value of 256", thin.1);
    // Numbers in a row, ten to a block.
    let dense = filled(100_000, |number| (format!("k{number:09}").into_bytes(), value(number)));
    assert!(dense.1 <= 500, "{} bytes for a key of 10 bytes and a value of 256", dense.1);
    // Chains: a node for nearly every entry.
    let chains = filled(100_000, |number| {
        (format!("k{:04}{}", number / 200, "-".repeat(number % 200)).into_bytes(), value(number))
    });
    assert!(chains.1 <= 600, "{} bytes for a chained key and a value of 256", chains.1);

    let one: Arc<[u8]> = Arc::from(&[7; 256][..]);
    let shared = filled(24 << 12, |number| (scattered(number), one.clone()));
    assert!(shared.1 <= 240, "{} bytes for a key of 32 bytes and a shared value", shared.1);
    let empty = filled(24 << 12, |number| (scattered(number), Arc::from(&[][..])));
    assert!(empty.1 <= 240, "{} bytes for a key of 32 bytes and an empty value", empty.1);
    let maps = [
        ("thin", thin),
        ("dense", dense),
        ("chains", chains),
        ("shared", shared),
        ("empty", empty),
    ];
    for (name, (map, bytes)) in maps {
        println!("{name}: {bytes} bytes for each of {} entries", map.len());
    }
}
