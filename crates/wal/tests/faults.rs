//! The log against a model, under crashes, torn writes, failed flushes, full disks and rot.
//!
//! The model knows what was appended and what of it a flush has acknowledged. Whatever the disk does short of rot, a log that
//! is opened again holds a beginning of what was appended, all that was acknowledged in it, and reports no damage. With rot,
//! each acknowledged record is there unchanged, or is named as lost.

use proptest::prelude::*;
use testudo_wal::{
    Damage, Disk, DiskErrorKind, DiskFile, Identity, Log, MemoryDisk, OpenError, Options,
    ReadError, Recovered,
};

const IDENTITY: Identity = Identity(*b"the model's own.");
const OPTIONS: Options = Options { segment_bytes: 4096, record_limit: 8192, salt: 77 };

#[derive(Clone, Debug)]
enum Step {
    Append(Payload),
    Flush,
    Prepare,
    /// Power is lost; the seed decides what is left of what was not flushed.
    Crash(u64),
    /// The process ends and another begins; what it wrote is seen, flushed or not.
    Restart,
    /// The change after that many fails.
    FailAfter(u64),
    /// The disk has that much space left.
    Fill(u64),
    /// Forgets that part of the log, in sixteenths.
    Forget(u64),
}

#[derive(Clone, Debug)]
struct Payload {
    kind: u8,
    length: usize,
    seed: u64,
}

impl Payload {
    /// Payloads that are mostly zeros are what a torn write is easily mistaken for.
    fn bytes(&self) -> Vec<u8> {
        let mut random = Random(self.seed);
        let noise = (0..self.length).map(|_| random.next() as u8 | 0x11);
        match self.kind {
            0 => vec![0; self.length],
            1 => vec![0xFF; self.length],
            2 => {
                noise.enumerate().map(|(at, byte)| if at % 1300 < 900 { 0 } else { byte }).collect()
            }
            _ => noise.collect(),
        }
    }
}

/// A small generator, so that one seed decides everything a crash does.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

fn payload() -> impl Strategy<Value = Payload> {
    let length =
        prop_oneof![4 => 0..80usize, 3 => 0..700usize, 2 => 0..3000usize, 1 => 0..8192usize];
    (0..5u8, length, any::<u64>()).prop_map(|(kind, length, seed)| Payload { kind, length, seed })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => payload().prop_map(Step::Append),
        5 => Just(Step::Flush),
        1 => Just(Step::Prepare),
        3 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Restart),
        1 => (0..10u64).prop_map(Step::FailAfter),
        1 => (0..12_000u64).prop_map(Step::Fill),
        1 => (0..17u64).prop_map(Step::Forget),
    ]
}

/// A log and what must be true of it.
struct Model {
    disk: MemoryDisk,
    log: Log<MemoryDisk>,
    /// Everything that was appended, by position. Invariant: `acknowledged <= appended.len()`.
    appended: Vec<Vec<u8>>,
    acknowledged: usize,
}

impl Model {
    fn new() -> Self {
        let disk = MemoryDisk::new();
        let (log, _) = Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap();
        Model { disk, log, appended: Vec::new(), acknowledged: 0 }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Append(payload) => {
                let bytes = payload.bytes();
                if let Ok(position) = self.log.append(0, &bytes) {
                    assert_eq!(position, self.appended.len() as u64);
                    assert_eq!(self.log.read(position).as_ref(), Ok(&bytes));
                    self.appended.push(bytes);
                } else {
                    assert!(self.log.poison().is_some());
                }
            }
            Step::Flush => {
                let poisoned = self.log.poison().is_some();
                match self.log.flush() {
                    Ok(durable) => {
                        assert!(!poisoned, "a poisoned log must not succeed");
                        assert_eq!(durable, self.appended.len() as u64);
                    }
                    Err(_) => assert!(self.log.poison().is_some()),
                }
                self.acknowledged = self.log.durable() as usize;
            }
            Step::Prepare => assert_eq!(self.log.prepare().is_err(), self.log.poison().is_some()),
            Step::Crash(seed) => {
                self.power_loss(*seed);
                self.reopen();
            }
            Step::Restart => drop(self.reopen()),
            Step::FailAfter(changes) => self.disk.fail_after(Some(*changes)),
            Step::Fill(left) => {
                let names = self.disk.list().unwrap();
                let used: usize = names.iter().map(|name| self.disk.get(name).unwrap().len()).sum();
                self.disk.limit(Some(used as u64 + left));
            }
            Step::Forget(sixteenths) => {
                let position = self.log.durable() * sixteenths / 16;
                let _ = self.log.truncate_before(position);
                assert!(self.log.first() <= position.max(self.log.first()));
            }
        }
    }

    fn power_loss(&mut self, seed: u64) {
        let mut random = Random(seed);
        self.disk.crash(&mut |bound| random.next() % bound);
    }

    /// Opens the log again and holds it against the model. What was not acknowledged may be gone.
    fn reopen(&mut self) -> Recovered {
        self.disk.fail_after(None);
        self.disk.limit(None);
        let mut visited = Vec::new();
        let visit = &mut |position, payload: &[u8]| visited.push((position, payload.to_vec()));
        let (log, recovered) = Log::open_with(self.disk.clone(), IDENTITY, OPTIONS, visit).unwrap();
        assert_eq!(recovered.damaged, [], "nothing rots here");
        assert!(recovered.next >= self.acknowledged as u64, "acknowledged records are gone");
        assert!(recovered.next <= self.appended.len() as u64);
        let held = recovered.first..recovered.next;
        assert_eq!(visited.len() as u64, held.end - held.start);
        for (position, payload) in visited {
            assert!(held.contains(&position));
            assert_eq!(payload, self.appended[position as usize], "record {position} changed");
        }
        for (position, read) in log.records(0) {
            assert_eq!(read.as_ref(), Ok(&self.appended[position as usize]));
        }
        self.appended.truncate(recovered.next as usize);
        self.acknowledged = self.appended.len();
        self.log = log;
        recovered
    }
}

fn lost(damaged: &[Damage], position: u64) -> bool {
    damaged.iter().any(|damage| {
        damage.position.is_some_and(|from| position >= from && position - from < damage.records)
    })
}

/// Holds a log that may have rotted against the model: each acknowledged record is as it was, or named.
fn check_rotten(model: &Model) -> Vec<Damage> {
    let (mut log, recovered) = Log::open(model.disk.clone(), IDENTITY, OPTIONS).unwrap();
    for position in recovered.first..model.acknowledged as u64 {
        match log.read(position) {
            Ok(payload) => {
                assert_eq!(payload, model.appended[position as usize], "record {position} changed");
            }
            Err(error) => {
                assert_eq!(error, ReadError::Damaged, "record {position} is gone: {recovered:?}");
                assert!(lost(&recovered.damaged, position), "record {position} is not named");
            }
        }
    }
    // A scrub finds nothing that opening has not told or mended.
    let scrubbed = log.scrub(0, u64::MAX).unwrap();
    assert_eq!((scrubbed.next, scrubbed.mended, scrubbed.damaged), (None, 0, vec![]));
    // The log goes on, and says the same the next time.
    let next = log.append(0, b"after the rot").unwrap();
    assert!(next >= model.acknowledged as u64);
    log.flush().unwrap();
    model.disk.crash(&mut |_| 0);
    let (log, again) = Log::open(model.disk.clone(), IDENTITY, OPTIONS).unwrap();
    assert_eq!(log.read(next).as_deref(), Ok(&b"after the rot"[..]));
    for position in recovered.first..model.acknowledged as u64 {
        assert_eq!(lost(&recovered.damaged, position), lost(&again.damaged, position));
    }
    assert_eq!((again.torn_bytes, again.mended), (0, 0));
    recovered.damaged
}

/// A place in the written part of one of the files. Rot elsewhere is found, too, but seldom tells anything.
fn somewhere(disk: &MemoryDisk, random: &mut Random) -> Option<(String, u64)> {
    let names = disk.list().unwrap();
    let name = names.get(random.next() as usize % names.len().max(1))?;
    let bytes = disk.get(name).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0)? as u64 + 1;
    Some((name.clone(), random.next() % written))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_acknowledged_is_lost(steps in prop::collection::vec(step(), 0..60), seed: u64) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.power_loss(seed);
        model.reopen();
        let again = model.reopen();
        prop_assert_eq!((again.torn_bytes, again.mended), (0, 0), "what was mended stays so");
    }

    /// Disks mostly report a bad sector instead of giving out what is wrong.
    #[test]
    fn what_cannot_be_read_is_named_and_no_more(
        steps in prop::collection::vec(step(), 10..60), seed: u64, pages in 1..4_u32,
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.power_loss(seed);
        let mut random = Random(seed);
        for _ in 0..pages {
            if let Some((name, byte)) = somewhere(&model.disk, &mut random) {
                prop_assert!(model.disk.fail_reads(&name, byte));
            }
        }
        model.disk.limit(None);
        model.disk.fail_after(None);
        check_rotten(&model);
    }

    #[test]
    fn a_crash_while_recovering_changes_nothing(
        steps in prop::collection::vec(step(), 0..40), seed: u64, failing in 0..8u64,
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        let acknowledged = model.acknowledged;
        for round in 0..4 {
            model.power_loss(seed ^ round);
            model.disk.limit(None);
            model.disk.fail_after(Some(failing));
            match Log::open(model.disk.clone(), IDENTITY, OPTIONS) {
                Ok((_, recovered)) => prop_assert_eq!(recovered.damaged, []),
                Err(error) => prop_assert!(matches!(error, OpenError::Disk(_))),
            }
        }
        model.power_loss(seed);
        prop_assert!(model.reopen().next >= acknowledged as u64);
    }

    #[test]
    fn one_flipped_bit_is_mended_or_named(
        payloads in prop::collection::vec((payload(), any::<bool>()), 1..20), seed: u64,
    ) {
        let mut model = Model::new();
        for (payload, flush) in &payloads {
            model.step(&Step::Append(payload.clone()));
            if *flush {
                model.step(&Step::Flush);
            }
        }
        model.step(&Step::Flush);
        let mut random = Random(seed);
        if let Some((name, byte)) = somewhere(&model.disk, &mut random) {
            model.disk.flip_bit(&name, byte * 8 + random.next() % 8);
        }
        let damaged = check_rotten(&model);
        let records: u64 = damaged.iter().map(|damage| damage.records).sum();
        prop_assert!(records <= 1, "one bit is in one record: {:?}", damaged);
    }

    #[test]
    fn a_flipped_bit_and_a_torn_write_are_told_apart(
        payloads in prop::collection::vec((payload(), any::<bool>()), 1..20),
        unflushed in prop::collection::vec(payload(), 1..5), seed: u64,
    ) {
        let mut model = Model::new();
        for (payload, flush) in &payloads {
            model.step(&Step::Append(payload.clone()));
            if *flush {
                model.step(&Step::Flush);
            }
        }
        model.step(&Step::Flush);
        let mut random = Random(seed);
        let place = somewhere(&model.disk, &mut random);
        for payload in &unflushed {
            model.step(&Step::Append(payload.clone()));
        }
        // The write, or its flush, fails with the power.
        let intact = model.acknowledged;
        model.disk.fail_after(Some(random.next() % 2));
        model.step(&Step::Flush);
        model.disk.fail_after(None);
        model.acknowledged = intact.max(model.log.durable() as usize);
        model.power_loss(random.next());
        if let Some((name, byte)) = place {
            model.disk.flip_bit(&name, byte * 8 + random.next() % 8);
        }
        check_rotten(&model);
    }

    #[test]
    fn a_stretch_of_rot_is_never_silent(
        payloads in prop::collection::vec((payload(), any::<bool>()), 1..20),
        length in 1..300usize, seed: u64,
    ) {
        let mut model = Model::new();
        for (payload, flush) in &payloads {
            model.step(&Step::Append(payload.clone()));
            if *flush {
                model.step(&Step::Flush);
            }
        }
        model.step(&Step::Flush);
        let mut random = Random(seed);
        if let Some((name, byte)) = somewhere(&model.disk, &mut random) {
            let rot: Vec<u8> = (0..length).map(|_| random.next() as u8 | 1).collect();
            model.disk.rot(&name, byte, &rot);
        }
        check_rotten(&model);
    }
}

/// A disk that keeps sectors in any order must not make an honest crash look like rot: replicas would give up their keys over
/// a power failure. All choices of sectors of one write are tried.
#[test]
fn every_choice_of_sectors_is_told_to_be_torn() {
    let half_blank = [vec![0; 700], vec![5; 300]].concat();
    every_choice(b"acknowledged", &[vec![1; 500], vec![0; 1100], vec![2; 5], half_blank]);
    // The first head lies across two sectors, and so does the first tail.
    every_choice(&[9; 424], &[vec![1; 928], vec![2; 600], vec![3; 300]]);
    every_choice(&[9; 424], &[vec![1; 600], vec![2; 600], vec![3; 600]]);
}

fn every_choice(acknowledged: &[u8], payloads: &[Vec<u8>]) {
    let disk = MemoryDisk::new();
    let (mut log, _) = Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap();
    log.append(0, acknowledged).unwrap();
    log.flush().unwrap();
    let before = disk.get("log-0000000000000000.segment").unwrap();
    for payload in payloads {
        log.append(0, payload).unwrap();
    }
    log.flush().unwrap();
    assert_eq!(disk.list().unwrap().len(), 1, "one write wrote them all");
    let after = disk.get("log-0000000000000000.segment").unwrap();
    let written = after.iter().rposition(|byte| *byte != 0).unwrap();
    let sectors: Vec<usize> = (1024 / 512..=written / 512).collect();
    assert!(sectors.len() >= 5, "{sectors:?}");
    for choice in 0..1_u32 << sectors.len() {
        let mut bytes = before.clone();
        for (index, at) in sectors.iter().enumerate() {
            if choice >> index & 1 == 1 {
                bytes[at * 512..(at + 1) * 512].copy_from_slice(&after[at * 512..(at + 1) * 512]);
            }
        }
        let torn = MemoryDisk::new();
        torn.put("log-0000000000000000.segment", &bytes);
        let (log, recovered) = Log::open(torn, IDENTITY, OPTIONS).unwrap();
        assert_eq!(recovered.damaged, [], "sectors {choice:b}");
        assert_eq!(log.read(0).as_deref(), Ok(acknowledged));
        for (position, read) in log.records(1) {
            assert_eq!(read.as_ref(), Ok(&payloads[position as usize - 1]));
        }
    }
}

#[test]
fn the_disk_in_memory_fails_as_it_is_told() {
    let disk = MemoryDisk::new();
    disk.limit(Some(10));
    assert_eq!(disk.create("large", 11).unwrap_err().kind, DiskErrorKind::Full);
    assert_eq!(disk.open("large").unwrap_err().kind, DiskErrorKind::NotFound);
    let Err(OpenError::Disk(full)) = Log::open(disk.clone(), IDENTITY, OPTIONS) else {
        panic!("there is no room for a segment");
    };
    assert_eq!(full.kind, DiskErrorKind::Full);
    assert!(!disk.flip_bit("nothing", 0) && !disk.rot("nothing", 0, &[1]));
}

/// Where a few pages of a large segment cannot be read, all else of it can.
#[test]
fn a_bad_page_costs_what_stood_there() {
    let options = Options { segment_bytes: 256 << 10, ..OPTIONS };
    let disk = MemoryDisk::new();
    let (mut log, _) = Log::open(disk.clone(), IDENTITY, options).unwrap();
    let record = |position: u64| [position as u8 | 1; 300];
    for position in 0..400 {
        assert_eq!(log.append(7, &record(position)), Ok(position));
        log.flush().unwrap();
    }
    let places: Vec<_> = (0..400).map(|position| log.whereabouts(position).unwrap()).collect();
    let name = places[0].segment.clone();
    assert!(places.iter().all(|place| place.segment == name), "there is one segment");
    drop(log);
    let bad = |page: u64| page * 4096..(page + 1) * 4096;
    for page in [3, 9] {
        assert!(disk.fail_reads(&name, bad(page).start));
    }
    let file = disk.open(&name).unwrap();
    assert_eq!(file.read_at(4 * 4096 - 1, &mut [0]).unwrap_err().kind, DiskErrorKind::Failed);
    assert_eq!(file.read_at(4 * 4096, &mut [0]), Ok(()));
    assert_eq!(file.write_at(4 * 4096 - 1, &[1]).unwrap_err().kind, DiskErrorKind::Failed);
    let hit = |position: usize| {
        let frame = &places[position].frame;
        [3, 9].map(bad).iter().any(|page| frame.start < page.end && page.start < frame.end)
    };
    for _ in 0..2 {
        let (log, recovered) = Log::open(disk.clone(), IDENTITY, options).unwrap();
        for position in 0..400 {
            let read = log.read(position as u64);
            assert!(hit(position) || read.as_deref() == Ok(&record(position as u64)[..]));
            assert_eq!(read.is_err(), lost(&recovered.damaged, position as u64), "{position}");
        }
        assert!((15..30).contains(&recovered.damaged.iter().map(|one| one.records).sum::<u64>()));
    }
    // A disk of which nothing can be read has lost nothing yet.
    assert!((0..64).all(|page| disk.fail_reads(&name, bad(page).start)));
    let before = disk.get(&name);
    assert!(matches!(Log::open(disk.clone(), IDENTITY, options), Err(OpenError::Disk(_))));
    assert_eq!(disk.get(&name), before);
}

#[test]
fn what_has_no_name_and_no_reader_takes_no_room() {
    let disk = MemoryDisk::new();
    let file = disk.create("one", 100).unwrap();
    file.write_at(0, &[7; 50]).unwrap();
    disk.flush().unwrap();
    disk.create("two", 30).unwrap();
    assert_eq!(disk.used(), 130);
    disk.remove("one").unwrap();
    assert_eq!(disk.used(), 30);
    // The name was durable, and power fails before its removal is.
    file.flush().unwrap();
    disk.crash(&mut |_| 0);
    assert_eq!(disk.get("one").unwrap()[..51], [&[7; 50][..], &[0]].concat());
    assert_eq!(disk.used(), 100, "the second name was not durable");
    // A full disk takes what needs no room.
    disk.limit(Some(0));
    file.write_at(10, &[8]).unwrap();
    assert_eq!(file.write_at(100, &[8]).unwrap_err().kind, DiskErrorKind::Full);
}

/// Whoever looks at the bytes is told where to look.
#[test]
fn a_record_is_where_the_log_says() {
    let mut model = Model::new();
    for seed in 0..30 {
        model.step(&Step::Append(Payload { kind: 3, length: 200, seed }));
        model.step(&Step::Flush);
    }
    for (position, record) in model.appended.iter().enumerate() {
        let place = model.log.whereabouts(position as u64).unwrap();
        let bytes = model.disk.get(&place.segment).unwrap();
        let begin = place.payload as usize;
        assert_eq!(bytes[begin..begin + record.len()], record[..]);
        assert!(place.frame.start < place.payload && place.payload + 200 < place.frame.end);
    }
    assert_eq!(model.log.whereabouts(30), None);
}
