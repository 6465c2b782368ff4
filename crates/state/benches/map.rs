//! What the map costs at a million keys with values of 256 bytes.
//!
//! `put/shared` is what a replica does: it keeps a clone of its last checkpoint, and asks for the digest at each one. All
//! its costs are in it: copies of nodes, hashing, and the end of the clone before.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;
use testudo_contracts::Reading;
use testudo_core::Digest;
use testudo_state::{Import, Map};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u64 = 1_000_000;
/// Puts between two checkpoints: 256 slots of 64 operations.
const INTERVAL: u64 = 256 * 64;

/// Numbers that look random.
struct Chance(u64);

impl Chance {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Keys without order, as names and hashes are.
fn scattered(number: u64) -> Vec<u8> {
    let digest = Digest::of(&number.to_le_bytes());
    [&b"k/registry/"[..], &digest.0[..12]].concat()
}

/// Keys in a row, as counters are.
fn dense(number: u64) -> Vec<u8> {
    format!("k/registry/{number:012}").into_bytes()
}

fn value(number: u64) -> Arc<[u8]> {
    [number.to_le_bytes(); 32].concat().into()
}

fn filled(key: fn(u64) -> Vec<u8>) -> Map {
    let mut map = Map::new();
    (0..KEYS).for_each(|number| drop(map.insert(key(number), value(number))));
    map
}

fn measure(c: &mut Criterion, name: &str, key: fn(u64) -> Vec<u8>) {
    let keys: Vec<Vec<u8>> = (0..KEYS).map(key).collect();
    let mut map = filled(key);
    let _ = map.digest();
    println!("{name}: {:?}", map.statistics());
    let mut chance = Chance(1);
    let mut put = |map: &mut Map| {
        let number = chance.next();
        map.insert(&keys[(number % KEYS) as usize], value(number));
    };
    let mut group = c.benchmark_group(name);
    group.sample_size(20).throughput(Throughput::Elements(INTERVAL));
    group.bench_function("put/unshared", |b| {
        b.iter(|| (0..INTERVAL).for_each(|_| put(&mut map)));
    });
    group.bench_function("put/shared", |b| {
        let mut checkpoint = map.clone();
        b.iter(|| {
            (0..INTERVAL).for_each(|_| put(&mut map));
            checkpoint = map.clone();
            checkpoint.digest()
        });
    });
    group.bench_function("digest", |b| {
        b.iter_custom(|rounds| {
            (0..rounds)
                .map(|_| {
                    (0..INTERVAL).for_each(|_| put(&mut map));
                    let start = std::time::Instant::now();
                    black_box(map.digest());
                    start.elapsed()
                })
                .sum()
        });
    });
    let mut chance = Chance(2);
    group.bench_function("get", |b| {
        b.iter(|| {
            (0..INTERVAL)
                .filter_map(|_| map.get(&keys[(chance.next() % KEYS) as usize]))
                .map(|value| value.len())
                .sum::<usize>()
        });
    });
    group.bench_function("put and remove a new key", |b| {
        b.iter(|| {
            for _ in 0..INTERVAL {
                let key = key(KEYS + chance.next() % KEYS);
                map.insert(&key, value(1));
                black_box(map.remove(&key));
            }
        });
    });
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    group.bench_function("scan", |b| {
        b.iter(|| {
            let mut bytes = 0;
            map.scan(Bound::Unbounded, Bound::Unbounded, false, &mut |key, value| {
                bytes += key.len() + value.len();
                true
            });
            bytes
        });
    });
    group.finish();
}

fn scattered_keys(c: &mut Criterion) {
    measure(c, "scattered", scattered);
}

fn dense_keys(c: &mut Criterion) {
    measure(c, "dense", dense);
}

/// A map of a hundred thousand keys goes over in chunks, as to a gateway that starts.
fn transfer(c: &mut Criterion) {
    const MOVED: u64 = 100_000;
    let mut map = Map::new();
    (0..MOVED).for_each(|number| drop(map.insert(scattered(number), value(number))));
    let root = map.digest();
    let mut group = c.benchmark_group("transfer");
    group.sample_size(10).throughput(Throughput::Elements(MOVED));
    group.bench_function("chunk, verify, import, digest", |b| {
        b.iter(|| {
            let (mut import, mut after) = (Import::new(), None);
            loop {
                let chunk = map.chunk(after.as_deref(), 1 << 20);
                let part = chunk.verify(&root, after.as_deref()).expect("it is true");
                let is_last = part.is_last();
                for (key, value) in part.into_entries() {
                    after = Some(key.clone());
                    import.push(key, value);
                }
                if is_last {
                    break import.finish().digest();
                }
            }
        });
    });
    group.finish();
}

criterion_group!(benches, scattered_keys, dense_keys, transfer);
criterion_main!(benches);
