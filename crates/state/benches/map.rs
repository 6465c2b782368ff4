//! What the map costs at a million keys with values of 256 bytes.
//!
//! Figures are for 16,384 operations at a time, values made and dropped included. `put/shared` is what a put costs a
//! replica, which holds a clone of its last checkpoint; `put and checkpoint` has all that follows from it, too: the
//! digest, which is work for another thread, and the end of the clone before.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testudo_contracts::Reading;
use testudo_core::{Decode, Encode};
use testudo_state::sync::{Node, Sync};
use testudo_state::{Import, Map};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

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
fn scattered(number: u64) -> [u8; 23] {
    let mut key = *b"k/registry/            ";
    key[11..19].copy_from_slice(&Chance(number).next().to_be_bytes());
    key[19..].copy_from_slice(&(number as u32).to_be_bytes());
    key
}

/// Keys in a row, as counters are.
fn dense(number: u64) -> [u8; 23] {
    let mut key = *b"k/registry/000000000000";
    let (mut rest, mut at) = (number, key.len());
    while rest > 0 {
        at -= 1;
        key[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn value(number: u64) -> Arc<[u8]> {
    [number.to_le_bytes(); 32].concat().into()
}

fn filled(entries: u64, key: fn(u64) -> [u8; 23]) -> Map {
    let mut map = Map::new();
    (0..entries).for_each(|number| drop(map.insert(key(number), value(number))));
    let _ = map.digest();
    map
}

fn measure(c: &mut Criterion, name: &str, key: fn(u64) -> [u8; 23]) {
    let mut map = filled(KEYS, key);
    println!("{name}: {:?}", map.statistics());
    let mut group = c.benchmark_group(name);
    group.sample_size(20).throughput(Throughput::Elements(INTERVAL));
    measure_puts(&mut group, &mut map, key);
    measure_others(&mut group, &mut map, key);
    group.finish();
}

fn measure_puts(group: &mut Group<'_>, map: &mut Map, key: fn(u64) -> [u8; 23]) {
    let mut chance = Chance(1);
    let mut puts = |map: &mut Map| {
        for _ in 0..INTERVAL {
            let number = chance.next();
            map.insert(key(number % KEYS), value(number));
        }
    };
    group.bench_function("put/unshared", |b| b.iter(|| puts(map)));
    group.bench_function("put/shared", |b| {
        let mut checkpoint = map.clone();
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                puts(map);
                spent += start.elapsed();
                checkpoint = map.clone();
                black_box(checkpoint.digest());
            }
            spent
        });
    });
    group.bench_function("put and checkpoint", |b| {
        let mut checkpoint = map.clone();
        b.iter(|| {
            puts(map);
            checkpoint = map.clone();
            checkpoint.digest()
        });
    });
    group.bench_function("digest", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                puts(map);
                let start = Instant::now();
                black_box(map.digest());
                spent += start.elapsed();
            }
            spent
        });
    });
}

fn measure_others(group: &mut Group<'_>, map: &mut Map, key: fn(u64) -> [u8; 23]) {
    let mut chance = Chance(2);
    group.bench_function("get", |b| {
        b.iter(|| {
            (0..INTERVAL)
                .filter_map(|_| map.get(&key(chance.next() % KEYS)))
                .map(|value| value.len())
                .sum::<usize>()
        });
    });
    group.bench_function("put and remove a new key", |b| {
        b.iter(|| {
            for _ in 0..INTERVAL {
                let key = key(KEYS + chance.next() % KEYS);
                map.insert(key, value(1));
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
    let map = filled(MOVED, scattered);
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

/// The same map goes over node by node: all of it, and what changed of it.
fn synchronise(c: &mut Criterion) {
    const MOVED: u64 = 100_000;
    let map = filled(MOVED, scattered);
    let mut changed = map.clone();
    for number in 0..100 {
        changed.insert(scattered(number * 997), value(number));
    }
    let _ = changed.digest();
    let run = |local: &Map, target: &Map| {
        let mut sync = Sync::new(target.digest(), local.clone());
        sync.take_summary(&target.summary()).expect("it is the target's");
        loop {
            let places = sync.wants(64);
            if places.is_empty() {
                break (sync.finish().expect("nothing is missing"), sync.progress());
            }
            for node in target.nodes(&places, usize::MAX) {
                let node = Node::from_bytes(&node.to_bytes()).expect("what was encoded decodes");
                sync.take(&node).expect("it is true");
            }
        }
    };
    println!("all: {:?}", run(&Map::new(), &map).1);
    println!("100 keys: {:?}", run(&map, &changed).1);
    let mut group = c.benchmark_group("synchronise");
    group.sample_size(10).throughput(Throughput::Elements(MOVED));
    group.bench_function("all: nodes, encode, decode, take", |b| b.iter(|| run(&Map::new(), &map)));
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 keys of them: the same", |b| b.iter(|| run(&map, &changed)));
    group.throughput(Throughput::Bytes(map.bytes()));
    group.bench_function("scrub", |b| b.iter(|| map.scrub(None, usize::MAX).bytes));
    group.finish();
}

criterion_group!(benches, scattered_keys, dense_keys, transfer, synchronise);
criterion_main!(benches);
