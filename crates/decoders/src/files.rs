//! Files of fixed form: evidence, keys, the superblock, and snapshots as they lie on the disk.

use crate::heard::HEARD;
use crate::one_form;
use testudo_core::{Encode, Evidence, ProtocolId, ReplicaId, limits};
use testudo_keys::{NodeKey, SigningKey};
use testudo_runtime::parse_evidence;
use testudo_wal::{Disk, Identity, Loaded, MemoryDisk, SUPERBLOCK_MAX, Snapshots, Superblock};

const IDENTITY: Identity = Identity(*b"fuzzed file.....");

pub(crate) fn evidence(input: &[u8]) {
    let kept = parse_evidence(input);
    if let Some((&limits::FORMAT_VERSION, rest)) = input.split_first() {
        let alone = one_form::<Evidence>(rest);
        assert!(alone.is_none() || kept.is_ok(), "evidence is refused in a file");
    }
}

pub(crate) fn key_file(input: &[u8]) {
    if let Ok(key) = NodeKey::parse(input) {
        let member = key.member();
        assert_eq!(NodeKey::parse(input).expect("it was read before").member(), member);
    }
    if let Ok((node, key)) = testudo_keys::parse_voting_key(input) {
        let again = testudo_keys::parse_voting_key(input).expect("it was read before");
        assert_eq!((node, key.public()), (again.0, again.1.public()));
    }
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(key) = testudo_keys::parse_public_key(text.trim())
    {
        assert_eq!(testudo_keys::parse_public_key(&key.to_string()).ok(), Some(key));
    }
}

/// What is written of a good disk by the input: which file, where, how many bytes, and those bytes.
fn garbled(disk: &MemoryDisk, mut bytes: &[u8]) {
    let names = disk.list().expect("a disk in memory lists its files");
    while let Some((&[file, low, high, length], rest)) = bytes.split_first_chunk() {
        let Some(name) = names.get(usize::from(file) % names.len().max(1)) else { return };
        let (rot, rest) = rest.split_at(usize::from(length).min(rest.len()));
        disk.rot(name, u64::from(u16::from_le_bytes([low, high])), rot);
        bytes = rest;
    }
}

/// Both copies of a superblock: made of the input alone, or good ones with the input written over them. What is opened is
/// the same when it is opened again, and holds what is stored.
pub(crate) fn superblock(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    let disk = MemoryDisk::new();
    if kind & 1 == 0 {
        let (one, other) = bytes.split_at(bytes.len() / 2);
        disk.put("promise.a", one);
        disk.put("promise.b", other);
    } else {
        let (mut block, _) = Superblock::open(disk.clone(), "promise", IDENTITY).expect("empty");
        block.store(b"a promise").expect("a disk in memory");
        block.store(b"another one").expect("a disk in memory");
        garbled(&disk, bytes);
    }
    let Ok((_, first)) = Superblock::open(disk.clone(), "promise", IDENTITY) else { return };
    let (mut block, second) =
        Superblock::open(disk.clone(), "promise", IDENTITY).expect("it was opened before");
    let value = |loaded: &Loaded| match loaded {
        Loaded::Present { value, .. } => Some(value.clone()),
        _ => None,
    };
    assert_eq!(value(&first), value(&second), "opening has changed it");
    assert!(value(&first).is_none_or(|value| value.len() <= SUPERBLOCK_MAX));
    if block.store(b"a new one").is_ok() {
        let (_, third) = Superblock::open(disk, "promise", IDENTITY).expect("it was stored");
        assert_eq!(value(&third).as_deref(), Some(&b"a new one"[..]));
    }
}

/// A snapshot's file: made of the input alone, or a good one with the input written over it. What is read to its end without
/// an error is what was written.
pub(crate) fn snapshot_file(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    let disk = MemoryDisk::new();
    let snapshots = Snapshots::new(disk.clone(), "state", IDENTITY);
    let chunks: [&[u8]; 3] = [b"one", &[7; 3000], b""];
    snapshots.write(5, chunks).expect("a disk in memory");
    let names = disk.list().expect("a disk in memory lists its files");
    let is_made_up = kind & 1 == 0;
    if is_made_up {
        names.iter().for_each(|name| disk.put(name, bytes));
    } else {
        garbled(&disk, bytes);
    }
    for position in snapshots.list().unwrap_or_default() {
        let Ok(mut reader) = snapshots.read(position) else { continue };
        let mut read = Vec::new();
        loop {
            match reader.next_chunk() {
                Ok(Some(chunk)) => read.push(chunk),
                Ok(None) => break,
                Err(_) => return,
            }
        }
        assert!(is_made_up || read == chunks, "a snapshot that was changed is taken for whole");
    }
}

pub(crate) fn good_evidence() -> Vec<Vec<u8>> {
    let statements = HEARD.iter().take(2).map(Encode::to_bytes).collect();
    let evidence = Evidence {
        accused: ReplicaId(2),
        protocol: ProtocolId(1),
        offence: "equivocation".into(),
        statements,
    };
    let bare = [&[limits::FORMAT_VERSION][..], &evidence.to_bytes()].concat();
    let lineage = vec![1_u8, 2, 3].to_bytes();
    vec![bare.clone(), [bare, lineage].concat()]
}

pub(crate) fn good_key_files() -> Vec<Vec<u8>> {
    let secret = |digit: &str| digit.repeat(64);
    let text = format!(
        "# Testudo key file. Keep it secret.\nversion = 1\nincarnation = 0\nidentity = \"{}\"\nvoting = \"{}\"\n",
        secret("1"),
        secret("2"),
    );
    let digits =
        |bytes: &[u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let voting = SigningKey::from_secret(&[0x22; 32]);
    let voting = format!(
        "# A voting key.\nversion = 1\nnode = \"{}\"\npublic = \"{}\"\nvoting = \"{}\"\n",
        secret("1"),
        digits(&voting.public().0),
        secret("2"),
    );
    assert!(testudo_keys::parse_voting_key(voting.as_bytes()).is_ok(), "it is written otherwise");
    vec![text.into_bytes(), voting.into_bytes(), secret("a").into_bytes()]
}

pub(crate) fn good_superblocks() -> Vec<Vec<u8>> {
    vec![vec![1], vec![1, 0, 80, 0, 2, 9, 9], vec![1, 1, 40, 0, 3, 1, 2, 3], vec![0, 1, 2, 3, 4]]
}

pub(crate) fn good_snapshot_files() -> Vec<Vec<u8>> {
    vec![vec![1], vec![1, 0, 90, 0, 2, 9, 9], vec![0, 1, 2, 3]]
}
