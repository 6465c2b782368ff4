//! The log's promises one by one, on a disk in memory.

use testudo_wal::{
    AppendError, Damage, Disk, DiskErrorKind, Identity, Log, MemoryDisk, OpenError, Options,
    ReadError, Recovered, Scrubbed,
};

const IDENTITY: Identity = Identity(*b"the log of tests");
const OPTIONS: Options = Options { segment_bytes: 4096, record_limit: 16_384, salt: 0xFEED };

fn open(disk: &MemoryDisk) -> (Log<MemoryDisk>, Recovered) {
    Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap()
}

fn record(position: u64) -> Vec<u8> {
    // Lengths from none to more than a segment; contents that no two records share.
    let length = [0, 5, 8, 40, 300, 1200, 64, 5000][position as usize % 8];
    (0..length).map(|index| (position * 31 + index * 7 + 1) as u8).collect()
}

/// What each record is about, for the test.
fn tag(position: u64) -> u64 {
    (7 << 56) + position
}

/// A log of that many records, flushed in batches of one to three.
fn written(records: u64) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for position in 0..records {
        log.append(tag(position), &record(position)).unwrap();
        if position % 6 == 0 || position % 6 == 2 || position % 6 == 5 {
            log.flush().unwrap();
        }
    }
    log.flush().unwrap();
    disk
}

fn lose_all_unflushed(disk: &MemoryDisk) {
    disk.crash(&mut |_| 0);
}

/// Asserts that the log holds exactly these records, but for the lost ones, and that visiting agrees with reading.
fn assert_holds(disk: &MemoryDisk, records: u64, lost: &[u64]) -> Recovered {
    let mut visited = Vec::new();
    let (log, recovered) =
        Log::open_with(disk.clone(), IDENTITY, OPTIONS, &mut |position, payload| {
            visited.push((position, payload.to_vec()));
        })
        .unwrap();
    let expected: Vec<_> =
        (0..records).filter(|at| !lost.contains(at)).map(|at| (at, record(at))).collect();
    assert_eq!(visited, expected);
    for (position, read) in log.records(0).take(records as usize) {
        match read {
            Ok(payload) => assert_eq!(payload, record(position)),
            Err(error) => {
                assert_eq!(error, ReadError::Damaged);
                assert!(lost.contains(&position), "{position} cannot be read");
            }
        }
    }
    recovered
}

fn lost_positions(damaged: &[Damage]) -> Vec<u64> {
    let lost = damaged.iter().filter_map(|damage| Some((damage.position?, damage.records)));
    lost.flat_map(|(position, records)| position..position + records).collect()
}

#[test]
fn records_come_back_after_a_restart() {
    let disk = written(40);
    let recovered = assert_holds(&disk, 40, &[]);
    assert_eq!(recovered, Recovered { fresh: false, first: 0, next: 40, ..Recovered::default() });
    assert!(disk.list().unwrap().len() > 5, "the test should span segments");
}

#[test]
fn a_log_is_fresh_once() {
    let disk = MemoryDisk::new();
    let (mut log, recovered) = open(&disk);
    assert_eq!(recovered, Recovered { fresh: true, ..Recovered::default() });
    assert_eq!(log.flush(), Ok(0));
    assert_eq!(log.append(0, b"x"), Ok(0));
    lose_all_unflushed(&disk);
    assert_eq!(open(&disk).1, Recovered::default(), "a log without records is no lost log");
    // Making the first segment is create, write, flush, rename and flush, after a flush of the directory.
    for failing in 0..6 {
        let disk = MemoryDisk::new();
        disk.fail_after(Some(failing));
        let failed = Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap_err();
        assert!(matches!(failed, OpenError::Disk(_)));
        lose_all_unflushed(&disk);
        assert!(open(&disk).1.fresh);
    }
}

#[test]
fn appending_costs_nothing_and_flushing_one_write_and_one_flush() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    log.append(0, b"the first makes the segment").unwrap();
    log.flush().unwrap();
    let before = disk.changes();
    for _ in 0..20 {
        log.append(0, b"many records").unwrap();
    }
    assert_eq!(disk.changes(), before);
    assert_eq!(log.read(20).unwrap(), b"many records", "readable before it is flushed");
    assert_eq!(log.durable(), 1);
    assert_eq!(log.flush(), Ok(21));
    assert_eq!(disk.changes(), before + 2);
    assert_eq!(log.flush(), Ok(21));
    assert_eq!(disk.changes(), before + 2, "nothing to flush");
}

#[test]
fn one_flush_may_span_segments() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    for position in 0..30 {
        assert_eq!(log.append(0, &record(position)), Ok(position));
        assert_eq!(log.read(position).unwrap(), record(position));
    }
    assert_eq!(log.flush(), Ok(30));
    lose_all_unflushed(&disk);
    assert_eq!(assert_holds(&disk, 30, &[]).next, 30);
}

#[test]
fn appends_go_on_after_reopening() {
    let disk = MemoryDisk::new();
    for position in 0..30 {
        let (mut log, recovered) = open(&disk);
        assert_eq!(recovered.next, position);
        log.append(0, &record(position)).unwrap();
        log.flush().unwrap();
        log.append(0, b"lost").unwrap();
        lose_all_unflushed(&disk);
    }
    assert_holds(&disk, 30, &[]);
}

#[test]
fn a_flipped_bit_is_mended_or_named() {
    // Every bit of a small log, and some of a larger one. The step has no factor in common with 8.
    for (records, step) in [(5, 1), (14, 61)] {
        flip_bits(records, step);
    }
}

fn flip_bits(records: u64, step: usize) {
    let disk = written(records);
    for name in disk.list().unwrap() {
        let bytes = disk.get(&name).unwrap();
        // Segments are mostly zeros; the end of them is tried thinly.
        let written = (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 72) * 8;
        let thinly = (written..bytes.len() * 8).step_by(129);
        for bit in (0..written).step_by(step).chain(thinly) {
            let copy = disk.duplicate();
            if !copy.flip_bit(&name, bit as u64) {
                continue;
            }
            let (mut log, recovered) = open(&copy);
            let lost = lost_positions(&recovered.damaged);
            assert!(lost.len() <= 1 && recovered.next == records, "{name} {bit}: {recovered:?}");
            for damage in &recovered.damaged {
                assert_eq!(damage.segment, name);
                assert!(damage.offset as usize <= bit / 8, "{damage}");
                assert_eq!(damage.tag, damage.position.map(tag), "{damage}");
            }
            for position in 0..records {
                match log.read(position) {
                    Ok(payload) => assert_eq!(payload, record(position)),
                    Err(_) => assert_eq!(lost, [position]),
                }
            }
            // What was mended stays mended, what is lost stays named, and the log goes on.
            assert_eq!(log.append(0, &record(records)), Ok(records));
            log.flush().unwrap();
            lose_all_unflushed(&copy);
            let again = assert_holds(&copy, records + 1, &lost);
            assert_eq!((again.damaged, again.mended, again.torn_bytes), (recovered.damaged, 0, 0));
        }
    }
}

#[test]
fn rot_in_the_payload_of_the_last_record_is_not_torn() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    log.append(0, b"first").unwrap();
    log.flush().unwrap();
    log.append(0, &[7; 100]).unwrap();
    log.flush().unwrap();
    // Headers, first frame, head of the second.
    let payload = 1024 + 88 + 40;
    assert!(disk.rot("log-0000000000000000.segment", payload, &[0; 100]));
    let (_, recovered) = open(&disk);
    assert_eq!(recovered.torn_bytes, 0);
    assert_eq!(lost_positions(&recovered.damaged), [1]);
    assert_eq!(recovered.damaged[0].offset, 1024 + 88);
    assert_eq!(
        recovered.damaged[0].to_string(),
        "record damaged at byte 1112 of log-0000000000000000.segment: record 1 is lost"
    );
}

#[test]
fn zeros_in_place_of_a_record_are_rot_once_a_later_flush_stands_behind_it() {
    let name = "log-0000000000000000.segment";
    for later in [false, true] {
        let disk = MemoryDisk::new();
        let (mut log, _) = open(&disk);
        log.append(0, &[7; 1500]).unwrap();
        log.flush().unwrap();
        if later {
            log.append(0, b"later").unwrap();
            log.flush().unwrap();
        }
        disk.rot(name, 1536, &[0; 512]);
        let (log, recovered) = open(&disk);
        if later {
            assert_eq!(lost_positions(&recovered.damaged), [0]);
            assert_eq!((recovered.torn_bytes, log.read(1).unwrap()), (0, b"later".to_vec()));
        } else {
            // This is what an unfinished write looks like, and nothing on the disk says otherwise.
            assert_eq!((recovered.damaged, recovered.next), (vec![], 0));
            assert!(recovered.torn_bytes > 0);
        }
    }
}

#[test]
fn a_write_torn_at_any_byte_is_cut() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    log.append(0, b"acknowledged").unwrap();
    log.flush().unwrap();
    let name = "log-0000000000000000.segment";
    let before = disk.duplicate();
    for payload in [&b"not"[..], b"", &[0xAB; 112]] {
        log.append(0, payload).unwrap();
    }
    log.flush().unwrap();
    let whole = disk.get(name).unwrap();
    let begin = 1024 + 80 + 16;
    let mut complete = [0; 4];
    for kept in 0..=(80 + 8) + 80 + (80 + 112) {
        let copy = before.duplicate();
        copy.rot(name, begin as u64, &whole[begin..begin + kept]);
        let (mut log, recovered) = open(&copy);
        assert_eq!(recovered.damaged, [], "torn after {kept} bytes");
        assert_eq!(log.read(0).unwrap(), b"acknowledged");
        assert!((1..=4).contains(&recovered.next));
        complete[recovered.next as usize - 1] += 1;
        log.append(0, b"goes on").unwrap();
        log.flush().unwrap();
        lose_all_unflushed(&copy);
        let (log, again) = open(&copy);
        assert_eq!((again.torn_bytes, again.mended, again.next), (0, 0, recovered.next + 1));
        assert_eq!(log.read(recovered.next).unwrap(), b"goes on");
    }
    assert!(complete.iter().all(|count| *count > 0), "each number of whole records was seen");
}

#[test]
fn any_failure_poisons_the_log() {
    // A flush that makes a segment does seven things: create, write, flush, rename, flush, write, flush.
    for failing in 0..7 {
        let disk = MemoryDisk::new();
        let (mut log, _) = open(&disk);
        log.append(0, &[1; 2000]).unwrap();
        log.flush().unwrap();
        log.append(0, &[2; 2000]).unwrap();
        disk.fail_after(Some(failing));
        let error = log.flush().unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Failed);
        assert_eq!(log.poison(), Some(&error));
        assert_eq!(log.append(0, b"more"), Err(AppendError::Poisoned(error.clone())));
        assert_eq!(log.read(0), Err(ReadError::Disk(error)));
        let changes = disk.changes();
        log.flush().unwrap_err();
        log.truncate_before(1).unwrap_err();
        log.prepare().unwrap_err();
        assert_eq!(disk.changes(), changes, "nothing is tried again");
        assert_eq!(log.durable(), 1);
    }
}

#[test]
fn what_a_failed_flush_left_in_memory_is_made_durable_by_opening() {
    let disk = written(3);
    let (mut log, _) = open(&disk);
    log.append(0, &record(3)).unwrap();
    disk.fail_after(Some(1));
    log.flush().unwrap_err();
    // The process restarts, the machine does not: the record is seen, though the disk does not have it.
    assert_eq!(open(&disk).1.next, 4);
    lose_all_unflushed(&disk);
    assert_eq!(assert_holds(&disk, 4, &[]).next, 4);
}

#[test]
fn a_full_disk_is_said_to_be_full() {
    let disk = written(3);
    let (mut log, _) = open(&disk);
    disk.limit(Some(4096 * 2));
    let full = loop {
        log.append(0, &record(3)).unwrap();
        if let Err(error) = log.flush() {
            break error;
        }
    };
    assert_eq!(full.kind, DiskErrorKind::Full);
    let durable = log.durable();
    lose_all_unflushed(&disk);
    assert!(open(&disk).1.next >= durable);
}

#[test]
fn a_record_over_the_limit_is_refused_and_harms_nothing() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let limit = OPTIONS.record_limit;
    let too_large = AppendError::TooLarge { length: limit as usize + 1, limit };
    assert_eq!(log.append(0, &vec![1; limit as usize + 1]), Err(too_large));
    let largest = vec![1; limit as usize];
    assert_eq!(log.append(0, &largest), Ok(0));
    assert_eq!(log.append(0, b"small"), Ok(1));
    assert_eq!(log.flush(), Ok(2));
    assert_eq!(open(&disk).0.read(0).unwrap(), largest);
}

#[test]
fn an_empty_last_segment_gives_way_to_a_larger_one() {
    let disk = MemoryDisk::new();
    drop(open(&disk));
    let (mut log, recovered) = open(&disk);
    assert_eq!((recovered.fresh, recovered.next), (false, 0));
    log.append(0, &[2; 9000]).unwrap();
    log.flush().unwrap();
    lose_all_unflushed(&disk);
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.next, recovered.damaged), (1, vec![]));
    assert_eq!(log.read(0).unwrap(), [2; 9000]);
    assert_eq!(disk.list().unwrap().len(), 1);
}

#[test]
fn another_identity_and_another_version_are_refused() {
    let disk = written(10);
    let other = Identity(*b"the log of other");
    let changes = disk.changes();
    let refused = Log::open(disk.clone(), other, OPTIONS).unwrap_err();
    assert!(matches!(refused, OpenError::OtherIdentity { found: IDENTITY, .. }), "{refused}");
    let name = "log-0000000000000000.segment";
    disk.rot(name, 8, &[9]);
    disk.rot(name, 520, &[9]);
    let refused = Log::open(disk.clone(), IDENTITY, OPTIONS).unwrap_err();
    assert_eq!(refused, OpenError::UnknownVersion { segment: name.into(), version: 9 });
    assert!(refused.to_string().contains("format version 9"));
    assert_eq!(disk.changes(), changes, "nothing is touched");
    for bad in [
        Options { segment_bytes: 100, ..OPTIONS },
        Options { segment_bytes: 1 << 40, ..OPTIONS },
        Options { record_limit: u32::MAX, ..OPTIONS },
    ] {
        assert!(matches!(Log::open(disk.clone(), IDENTITY, bad), Err(OpenError::Options(_))));
    }
}

#[test]
fn the_salt_stays_what_it_was() {
    let disk = written(10);
    let options = Options { salt: 1, segment_bytes: 8192, ..OPTIONS };
    let (mut log, recovered) = Log::open(disk.clone(), IDENTITY, options).unwrap();
    assert_eq!((recovered.next, recovered.damaged), (10, vec![]));
    for position in 10..30 {
        log.append(0, &record(position)).unwrap();
    }
    log.flush().unwrap();
    assert_holds(&disk, 30, &[]);
}

#[test]
fn whole_segments_are_forgotten() {
    let disk = written(40);
    let (mut log, _) = open(&disk);
    log.truncate_before(17).unwrap();
    let first = log.first();
    assert!((10..=17).contains(&first), "{first}");
    assert_eq!(log.read(first - 1), Err(ReadError::Forgotten { first }));
    assert_eq!(log.read(40), Err(ReadError::NotYet { next: 40 }));
    lose_all_unflushed(&disk);
    let (mut log, recovered) = open(&disk);
    assert_eq!((recovered.first, recovered.next, recovered.damaged), (first, 40, vec![]));
    for (position, read) in log.records(0) {
        assert_eq!(read.unwrap(), record(position));
    }
    log.truncate_before(u64::MAX).unwrap();
    assert_eq!(disk.list().unwrap().len(), 1, "the last segment stays");
    assert_eq!(log.append(0, &record(40)), Ok(40));
    log.flush().unwrap();
    assert_eq!(open(&disk).1.next, 41);
}

#[test]
fn the_only_durable_segment_is_not_forgotten_for_a_planned_one() {
    let disk = written(3);
    let (mut log, _) = open(&disk);
    log.append(0, &[3; 4000]).unwrap();
    log.truncate_before(3).unwrap();
    lose_all_unflushed(&disk);
    let (_, recovered) = open(&disk);
    assert_eq!((recovered.fresh, recovered.next), (false, 3));
}

#[test]
fn a_crash_while_forgetting_leaves_no_gap() {
    let full = written(40);
    for failing in 0..12 {
        let disk = full.duplicate();
        let (mut log, _) = open(&disk);
        disk.fail_after(Some(failing));
        let _ = log.truncate_before(30);
        disk.fail_after(None);
        let mut seed = failing;
        disk.crash(&mut |bound| {
            seed += 1;
            seed % bound
        });
        let (log, recovered) = open(&disk);
        assert_eq!((recovered.next, recovered.damaged), (40, vec![]));
        assert!(log.records(30).all(|(position, read)| read == Ok(record(position))));
    }
}

#[test]
fn a_missing_or_shortened_segment_is_named() {
    let disk = written(40);
    let names = disk.list().unwrap();
    let gone = disk.duplicate();
    gone.remove(&names[2]).unwrap();
    let (log, recovered) = open(&gone);
    let lost = lost_positions(&recovered.damaged);
    let first_of = |name: &str| u64::from_str_radix(&name[4..20], 16).unwrap();
    assert_eq!(lost, (first_of(&names[2])..first_of(&names[3])).collect::<Vec<_>>());
    assert_eq!(log.read(lost[0]), Err(ReadError::Damaged));
    assert_holds(&gone, 40, &lost);

    for name in [&names[2], &names[names.len() - 1]] {
        let bytes = disk.get(name).unwrap();
        for length in [0, 100, 600, 1024, 1100, 1500, bytes.len() - 8] {
            let short = disk.duplicate();
            short.put(name, &bytes[..length]);
            let (mut log, recovered) = open(&short);
            assert!(!recovered.damaged.is_empty(), "{name} of {length} bytes");
            let lost = lost_positions(&recovered.damaged);
            assert!((0..40).all(|at| lost.contains(&at) || log.read(at) == Ok(record(at))));
            // Positions are not used twice, and the loss stays known.
            let next = log.append(0, b"after").unwrap();
            assert!(next >= 40, "{name} of {length} bytes: {next}");
            log.flush().unwrap();
            let (log, again) = open(&short);
            assert_eq!(log.read(next).unwrap(), b"after");
            let still = lost_positions(&again.damaged);
            assert!((0..40).all(|at| still.contains(&at) || log.read(at) == Ok(record(at))));
        }
    }
}

#[test]
fn without_its_header_a_segment_is_never_taken_for_torn() {
    for records in [1, 2, 40] {
        let disk = written(records);
        let name = disk.list().unwrap().pop().unwrap();
        // A blank sector among the records is a trace of an unfinished write, where there is one.
        disk.rot(&name, 1536, &[0; 512]);
        disk.rot(&name, 0, &[0; 1024]);
        let before = disk.get(&name).unwrap();
        let (log, recovered) = open(&disk);
        assert_eq!(recovered.torn_bytes, 0);
        assert!(!recovered.damaged.is_empty());
        assert_eq!(disk.get(&name).unwrap(), before, "the evidence stays");
        let lost = lost_positions(&recovered.damaged);
        for position in 0..records {
            assert!(lost.contains(&position) || log.read(position) == Ok(record(position)));
        }
    }
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    log.append(0, &[0; 2000]).unwrap();
    log.flush().unwrap();
    disk.rot("log-0000000000000000.segment", 0, &[0; 1024]);
    // With the header the salt is gone, where the caller does not keep it: nothing can be verified, nothing is removed.
    let options = Options { salt: 0, ..OPTIONS };
    let (_, recovered) = Log::open(disk.clone(), IDENTITY, options).unwrap();
    assert_eq!((recovered.torn_bytes, recovered.damaged.len()), (0, 2), "{recovered:?}");
    assert_eq!(open(&disk).0.read(0), Ok(vec![0; 2000]), "with the salt it is all there");
}

#[test]
fn a_frame_inside_a_payload_is_not_a_record() {
    // A client that does not know the salt hides the frame of a later record in its payload.
    let forger = MemoryDisk::new();
    let options = Options { salt: 5, ..OPTIONS };
    let (mut forged, _) = Log::open(forger.clone(), IDENTITY, options).unwrap();
    for _ in 0..2 {
        forged.append(0, b"forged").unwrap();
    }
    forged.flush().unwrap();
    let frames = forger.get("log-0000000000000000.segment").unwrap()[1024..1300].to_vec();

    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    log.append(0, &frames).unwrap();
    log.flush().unwrap();
    // Head and tail of the record that carries it are destroyed.
    disk.rot("log-0000000000000000.segment", 1024, &[0x55; 32]);
    disk.rot("log-0000000000000000.segment", 1024 + 32 + 280, &[0x55; 32]);
    let (log, recovered) = open(&disk);
    assert_eq!(recovered.damaged.len(), 1);
    assert_eq!(recovered.damaged[0].position, Some(0));
    assert!(log.records(0).all(|(_, read)| read == Err(ReadError::Damaged)));
}

#[test]
fn a_segment_made_ahead_of_time_is_used() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk);
    let spare = || disk.list().unwrap().iter().any(|name| name == "log-spare.tmp");
    log.append(0, &[1; 100]).unwrap();
    log.flush().unwrap();
    log.prepare().unwrap();
    assert!(!spare(), "too early");
    log.append(0, &[2; 2000]).unwrap();
    log.flush().unwrap();
    log.prepare().unwrap();
    assert!(spare());
    log.append(0, &[3; 2000]).unwrap();
    let before = disk.changes();
    log.flush().unwrap();
    assert_eq!(disk.changes() - before, 6, "the header, the name and the record; no creation");
    assert!(!spare());
    log.append(0, &[4; 2000]).unwrap();
    log.flush().unwrap();
    log.prepare().unwrap();
    lose_all_unflushed(&disk);
    let (log, recovered) = open(&disk);
    assert_eq!((recovered.next, recovered.damaged), (4, vec![]));
    assert!(!spare(), "leftovers are removed");
    assert_eq!(log.read(2).unwrap(), [3; 2000]);
}

#[test]
fn rot_while_running_is_found_by_reading() {
    let disk = written(5);
    let (log, _) = open(&disk);
    let name = "log-0000000000000000.segment";
    // A bit of the first record's tail, and of the payload of the second.
    disk.flip_bit(name, (1024 + 50) * 8);
    disk.flip_bit(name, (1024 + 80 + 41) * 8);
    assert_eq!(log.read(0), Ok(record(0)));
    assert_eq!(log.read(1), Err(ReadError::Damaged));
    assert_eq!(log.read(2), Ok(record(2)));
}

#[test]
fn a_scrub_mends_edges_and_headers_and_names_what_is_lost_once() {
    let disk = written(40);
    let (mut log, _) = open(&disk);
    let passes = |log: &mut Log<MemoryDisk>| {
        let (mut from, mut all, mut slices) = (0, Scrubbed::default(), 0);
        loop {
            let found = log.scrub(from, 1000).unwrap();
            all.bytes += found.bytes;
            all.mended += found.mended;
            all.damaged.extend(found.damaged);
            slices += 1;
            match found.next {
                Some(next) => from = next,
                None => return (all, slices),
            }
        }
    };
    let (clean, slices) = passes(&mut log);
    assert_eq!((clean.mended, &clean.damaged), (0, &vec![]));
    assert!(clean.bytes > 40_000 && slices > 5, "{clean:?}");

    let name = "log-0000000000000000.segment";
    // One copy of the header, a head, a tail, and the payload of the second record.
    disk.flip_bit(name, 20 * 8);
    disk.flip_bit(name, (1024 + 20) * 8);
    disk.flip_bit(name, (1024 + 80 + 60 + 10) * 8);
    disk.flip_bit(name, (1024 + 80 + 41) * 8);
    let (found, _) = passes(&mut log);
    let places: Vec<_> = found.damaged.iter().map(|lost| (lost.position, lost.tag)).collect();
    assert_eq!(places, [(Some(1), Some(tag(1)))]);
    assert_eq!(found.mended, 2, "the second record's tail has no whole payload to be told from");
    assert_eq!(log.read(1), Err(ReadError::Damaged));
    assert_eq!(passes(&mut log).0.damaged, [], "told once");
    lose_all_unflushed(&disk);
    let (_, recovered) = open(&disk);
    assert_eq!((lost_positions(&recovered.damaged), recovered.mended), (vec![1], 0));
}

#[test]
fn a_scrub_leaves_alone_what_is_not_durable_and_survives_forgetting() {
    let disk = written(40);
    let (mut log, _) = open(&disk);
    log.append(7, b"in memory").unwrap();
    let found = log.scrub(39, u64::MAX).unwrap();
    assert_eq!((found.next, found.damaged.len()), (None, 0));
    log.truncate_before(30).unwrap();
    let found = log.scrub(0, 1).unwrap();
    assert_eq!(found.next, Some(log.first() + 1), "it begins with what is there");
    disk.fail_after(Some(0));
    disk.flip_bit("log-0000000000000000.segment", 0);
    let first = log.first();
    disk.flip_bit(&format!("log-{first:016x}.segment"), 20 * 8);
    assert!(log.scrub(0, 1).is_err(), "writing again failed");
    assert!(log.poison().is_some());
}
