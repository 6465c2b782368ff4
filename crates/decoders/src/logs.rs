//! Opens logs whose files hold arbitrary bytes.

use testudo_wal::{Disk, Identity, Log, MemoryDisk, Options, Recovered};

const IDENTITY: Identity = Identity(*b"fuzzed log......");
const OPTIONS: Options = Options { segment_bytes: 4096, record_limit: 4096, salt: 0 };

/// The first byte of the input says whether the files are made of the input alone, or are those of a good log with the input
/// written over them. Whatever is on the disk, opening must not panic, must find the same when done again, must read every
/// record that it does not report as lost, must leave nothing to a scrub, and a log that takes records.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    let disk = if kind & 1 == 0 { arbitrary_files(bytes) } else { damaged_log(bytes) };
    let Ok((mut log, first)) = Log::open(disk.clone(), IDENTITY, OPTIONS) else {
        return;
    };
    readable_but_for_losses(&log, &first);
    // What opening believed a scrub finds, too; what it lost is known, and told by nobody again.
    let found = log.scrub(0, u64::MAX).expect("a disk in memory");
    assert_eq!((found.next, found.mended, found.damaged), (None, 0, vec![]));
    let next = log.next();
    assert_eq!(log.append(0, b"goes on"), Ok(next));
    assert_eq!(log.flush(), Ok(next + 1));
    disk.crash(&mut |_| 0);
    let (log, second) = Log::open(disk, IDENTITY, OPTIONS).expect("it was opened before");
    readable_but_for_losses(&log, &second);
    assert_eq!(log.read(next).as_deref(), Ok(&b"goes on"[..]));
    assert_eq!((second.torn_bytes, second.mended), (0, 0), "what was mended stays so");
    assert!(first.damaged.iter().all(|damage| {
        damage.records == 0 || second.damaged.iter().any(|again| again.position == damage.position)
    }));
}

/// Segments of arbitrary lengths and contents, with or without a good header.
fn arbitrary_files(mut bytes: &[u8]) -> MemoryDisk {
    let good = good_log();
    let header = good.get("log-0000000000000000.segment").expect("made with it")[..1024].to_vec();
    let disk = MemoryDisk::new();
    for index in 0..3_u64 {
        let Some((&[flags, first, length, more], rest)) = bytes.split_first_chunk() else {
            break;
        };
        let length = usize::from(u16::from_le_bytes([length, more])) % 6000;
        let (content, rest) = rest.split_at(length.min(rest.len()));
        let mut content = content.to_vec();
        if flags & 1 == 1 {
            content.splice(..content.len().min(1024), header.iter().copied());
        }
        if flags & 2 == 2 {
            content.resize(4096, 0);
        }
        let position = if flags & 4 == 4 { 0 } else { index * 8 + u64::from(first) };
        disk.put(&format!("log-{position:016x}.segment"), &content);
        bytes = rest;
    }
    disk
}

/// A good log with pieces of the input written over it.
fn damaged_log(mut bytes: &[u8]) -> MemoryDisk {
    let disk = good_log();
    let names = disk.list().expect("a disk in memory lists its files");
    while let Some((&[file, low, high, length], rest)) = bytes.split_first_chunk() {
        let name = &names[usize::from(file) % names.len()];
        let offset = u64::from(u16::from_le_bytes([low, high])) % 4096;
        let (rot, rest) = rest.split_at(usize::from(length).min(rest.len()));
        disk.rot(name, offset, rot);
        bytes = rest;
    }
    disk
}

fn good_log() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut log, _) = Log::open(disk.clone(), IDENTITY, OPTIONS).expect("an empty disk");
    for index in 0..24_u8 {
        log.append(0, &vec![index; usize::from(index) * 29]).expect("within the limit");
        if index % 3 == 0 {
            log.flush().expect("a disk in memory");
        }
    }
    log.flush().expect("a disk in memory");
    disk
}

fn readable_but_for_losses(log: &Log<MemoryDisk>, recovered: &Recovered) {
    for (position, read) in log.records(0).take(10_000) {
        let lost = recovered.damaged.iter().any(|damage| {
            damage.position.is_some_and(|from| position >= from && position - from < damage.records)
        });
        assert_eq!(read.is_err(), lost, "record {position}: {recovered:?}");
    }
}

/// An empty log, a good one, and one with rot in it.
pub(crate) fn good() -> Vec<Vec<u8>> {
    let empty = vec![0, 1, 0, 0, 1];
    vec![empty, vec![1], vec![1, 0, 40, 4, 3, 7, 7, 7, 1, 0, 0, 2, 9, 9]]
}
