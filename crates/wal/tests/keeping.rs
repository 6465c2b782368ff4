//! The superblock and the snapshot files: what is kept, what is found damaged, what is refused.

use testudo_wal::{
    Disk, DiskErrorKind, DiskFile, Identity, Loaded, MemoryDisk, SUPERBLOCK_MAX, SnapshotError,
    Snapshots, Superblock, SuperblockError,
};

const IDENTITY: Identity = Identity(*b"what is kept....");
const OTHER: Identity = Identity(*b"what is others'.");

fn load(disk: &MemoryDisk) -> Loaded {
    Superblock::open(disk.clone(), "promise", IDENTITY).unwrap().1
}

fn present(value: &[u8], damaged: bool) -> Loaded {
    Loaded::Present { value: value.to_vec(), damaged }
}

/// A disk on which this value is stored, after another.
fn stored(value: &[u8]) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let (mut block, loaded) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
    assert_eq!(loaded, Loaded::Absent);
    block.store(b"before").unwrap();
    block.store(value).unwrap();
    disk.crash(&mut |_| 0);
    disk
}

#[test]
fn the_newest_value_is_loaded() {
    for length in [0, 1, 100, SUPERBLOCK_MAX] {
        let value = vec![0x5A; length];
        let disk = stored(&value);
        assert_eq!(load(&disk), present(&value, false));
        let (mut block, _) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
        let too_large = vec![0; SUPERBLOCK_MAX + 1];
        let error = block.store(&too_large).unwrap_err();
        assert_eq!(error, SuperblockError::TooLarge(SUPERBLOCK_MAX + 1));
        block.store(b"after").unwrap();
        assert_eq!(load(&disk), present(b"after", false));
    }
}

#[test]
fn any_flipped_bit_in_one_copy_is_mended() {
    let disk = stored(b"view 7");
    for name in ["promise.a", "promise.b"] {
        for bit in 0..80 * 8 {
            let copy = disk.duplicate();
            assert!(copy.flip_bit(name, bit));
            let Loaded::Present { value, damaged } = load(&copy) else {
                panic!("bit {bit} of {name} lost the value");
            };
            // The value is 6 bytes at 72; what is after it belongs to no value.
            assert_eq!((&value[..], damaged), (&b"view 7"[..], bit < 78 * 8));
            copy.crash(&mut |_| 0);
            assert_eq!(load(&copy), present(b"view 7", false), "mended");
        }
    }
}

#[test]
fn two_damaged_copies_are_a_loss_and_not_an_absence() {
    let disk = stored(b"view 7");
    disk.flip_bit("promise.a", 73 * 8);
    disk.flip_bit("promise.b", 33 * 8);
    assert_eq!(load(&disk), Loaded::Lost);
    assert_eq!(load(&disk), Loaded::Lost, "and stay one");
    let (mut block, _) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
    block.store(b"a new life").unwrap();
    assert_eq!(load(&disk), present(b"a new life", false));
    // One file gone and the other damaged is no absence either.
    disk.remove("promise.a").unwrap();
    disk.rot("promise.b", 0, b"rotten");
    assert_eq!(load(&disk), Loaded::Lost);
}

#[test]
fn a_store_survives_any_crash_as_old_or_new() {
    for failing in 0..4 {
        for seed in 0..400_u64 {
            let disk = stored(&[1; 3000]);
            let (mut block, _) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
            disk.fail_after(Some(failing));
            let error = block.store(&[2; 3500]).unwrap_err();
            assert!(matches!(error, SuperblockError::Disk(_)));
            let again = block.store(&[3; 10]).unwrap_err();
            assert!(again.to_string().contains("failed before"), "{again}");
            let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
            disk.crash(&mut |bound| {
                random = random.rotate_left(13).wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 77;
                (random >> 11) % bound
            });
            let Loaded::Present { value, .. } = load(&disk) else {
                panic!("lost");
            };
            assert!(value == [1; 3000] || value == [2; 3500]);
            assert!(failing < 2 || value == [2; 3500], "the first copy was durable");
            disk.crash(&mut |_| 0);
            assert_eq!(load(&disk), present(&value, false), "what was loaded is durable");
        }
    }
}

#[test]
fn an_interrupted_first_store_is_absent_or_whole() {
    // Each copy is made by create, write, flush, rename and flush.
    for failing in 0..10 {
        let disk = MemoryDisk::new();
        let (mut block, _) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
        disk.fail_after(Some(failing));
        block.store(b"first").unwrap_err();
        disk.crash(&mut |_| 0);
        let expected = if failing < 5 { Loaded::Absent } else { present(b"first", false) };
        assert_eq!(load(&disk), expected, "failing after {failing}");
    }
}

#[test]
fn a_superblock_of_another_identity_or_version_is_refused() {
    let disk = stored(b"view 7");
    let refused = Superblock::open(disk.clone(), "promise", OTHER).unwrap_err();
    assert!(matches!(refused, SuperblockError::OtherIdentity { found: IDENTITY, .. }));
    disk.rot("promise.a", 8, &[4]);
    disk.rot("promise.b", 8, &[4]);
    let refused = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap_err();
    assert!(matches!(refused, SuperblockError::UnknownVersion { version: 4, .. }), "{refused}");
    let (_, loaded) = Superblock::open(disk, "another", IDENTITY).unwrap();
    assert_eq!(loaded, Loaded::Absent, "names do not share values");
}

fn chunks() -> Vec<Vec<u8>> {
    vec![vec![1; 300], vec![], (0..=255).collect(), vec![0; 1000]]
}

fn read(snapshots: &Snapshots<MemoryDisk>, position: u64) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let mut reader = snapshots.read(position)?;
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        chunks.push(chunk);
    }
    assert_eq!(reader.next_chunk(), Ok(None));
    Ok(chunks)
}

fn snapshots(disk: &MemoryDisk) -> Snapshots<MemoryDisk> {
    Snapshots::new(disk.clone(), "state", IDENTITY)
}

#[test]
fn snapshots_are_written_listed_read_and_removed() {
    let disk = MemoryDisk::new();
    let snapshots = snapshots(&disk);
    assert_eq!(snapshots.latest(), Ok(None));
    assert_eq!(read(&snapshots, 5), Err(SnapshotError::Absent(5)));
    let digest = snapshots.write(5, chunks()).unwrap();
    assert_ne!(snapshots.write(90, chunks()).unwrap(), digest, "the position is in the digest");
    snapshots.write(u64::MAX, [[]; 0]).unwrap();
    disk.crash(&mut |_| 0);
    assert_eq!(snapshots.list(), Ok(vec![5, 90, u64::MAX]));
    assert_eq!(read(&snapshots, 5), Ok(chunks()));
    assert_eq!(read(&snapshots, u64::MAX), Ok(vec![]));
    assert_eq!(snapshots.write(5, chunks()).unwrap(), digest, "the same again");
    Snapshots::new(disk.clone(), "state-of-others", IDENTITY).write(1, chunks()).unwrap();
    snapshots.remove_before(90).unwrap();
    disk.crash(&mut |_| 0);
    assert_eq!(snapshots.list(), Ok(vec![90, u64::MAX]));
    assert_eq!(snapshots.latest(), Ok(Some(u64::MAX)));
    assert_eq!(disk.list().unwrap().len(), 3);
}

#[test]
fn any_flipped_bit_of_a_snapshot_is_found() {
    let disk = MemoryDisk::new();
    snapshots(&disk).write(5, chunks()).unwrap();
    let name = disk.list().unwrap().pop().unwrap();
    let bits = disk.get(&name).unwrap().len() as u64 * 8;
    for bit in 0..bits {
        disk.flip_bit(&name, bit);
        let damaged = read(&snapshots(&disk), 5).unwrap_err();
        assert!(matches!(damaged, SnapshotError::Damaged { .. }), "bit {bit}: {damaged}");
        disk.flip_bit(&name, bit);
    }
    assert_eq!(read(&snapshots(&disk), 5), Ok(chunks()));
}

#[test]
fn a_snapshot_cut_or_continued_is_found() {
    let disk = MemoryDisk::new();
    snapshots(&disk).write(5, chunks()).unwrap();
    let name = disk.list().unwrap().pop().unwrap();
    let bytes = disk.get(&name).unwrap();
    for length in 0..bytes.len() {
        disk.put(&name, &bytes[..length]);
        read(&snapshots(&disk), 5).unwrap_err();
    }
    disk.put(&name, &[&bytes[..], b"x"].concat());
    let damaged = read(&snapshots(&disk), 5).unwrap_err();
    assert!(damaged.to_string().contains("something follows"), "{damaged}");
    // A snapshot under another's name is not that other's.
    disk.put("state-0000000000000006.snapshot", &bytes);
    assert!(matches!(read(&snapshots(&disk), 6), Err(SnapshotError::Damaged { .. })));
    let other = Snapshots::new(disk, "state", OTHER);
    assert_eq!(read(&other, 5), Err(SnapshotError::OtherIdentity(IDENTITY)));
}

#[test]
fn an_interrupted_snapshot_leaves_the_older_one() {
    // Creation comes first. Small chunks are written at once, large ones one by one, and then the end; then come a flush,
    // the new name, and another flush.
    for (newer, steps) in [(chunks(), 6), (vec![vec![7; 300 << 10]; 3], 8)] {
        for failing in 0..steps {
            let disk = MemoryDisk::new();
            let snapshots = snapshots(&disk);
            snapshots.write(5, chunks()).unwrap();
            disk.fail_after(Some(failing));
            assert!(matches!(snapshots.write(8, &newer), Err(SnapshotError::Disk(_))));
            disk.crash(&mut |_| 0);
            assert_eq!(snapshots.latest(), Ok(Some(5)), "failing after {failing}");
            assert_eq!(read(&snapshots, 5), Ok(chunks()));
            assert_eq!(disk.list().unwrap().len(), 1);
        }
        let disk = MemoryDisk::new();
        snapshots(&disk).write(8, &newer).unwrap();
        assert_eq!(disk.changes(), steps, "and there are no others");
    }
}

#[test]
fn leftovers_are_cleaned_and_a_full_disk_is_said() {
    let disk = MemoryDisk::new();
    let snapshots = snapshots(&disk);
    disk.put("state-0000000000000008.snapshot.tmp", b"left over");
    disk.put("state-of-others.tmp", b"not ours");
    snapshots.clean().unwrap();
    assert_eq!(disk.list().unwrap(), ["state-of-others.tmp"]);
    disk.limit(Some(500));
    let Err(SnapshotError::Disk(full)) = snapshots.write(8, chunks()) else {
        panic!("the disk is full");
    };
    assert_eq!(full.kind, DiskErrorKind::Full);
    assert_eq!(disk.list().unwrap().len(), 1, "the part that was written is gone");
    let file = disk.open("state-of-others.tmp").unwrap();
    file.truncate(3).unwrap();
    assert_eq!(file.size(), Ok(3));
}

/// While one copy is written the other is all that there is, whatever has become of either since the last store.
#[test]
fn a_copy_that_rots_while_the_superblock_is_open_is_written_first() {
    for rotten in ["promise.a", "promise.b"] {
        for (failing, noise) in
            (0..4).flat_map(|failing| (0..40).map(move |noise| (failing, noise)))
        {
            let disk = stored(b"view 7");
            let (mut block, _) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
            assert!(disk.rot(rotten, 0, &[1; 64]));
            // Power fails while the next value is stored.
            disk.fail_after(Some(failing));
            block.store(b"view 8").unwrap_err();
            let mut random = noise;
            disk.crash(&mut |bound| {
                random = (random * 31 + 7) % 1_009;
                random % bound
            });
            let Loaded::Present { value, .. } = load(&disk) else {
                panic!("{rotten} had rotted, and the value is lost after {failing} changes");
            };
            assert!(value == b"view 7" || value == b"view 8");
        }
    }
}

#[test]
fn one_copy_of_a_superblock_that_cannot_be_read_is_enough() {
    for (index, name) in ["promise.a", "promise.b"].into_iter().enumerate() {
        let disk = MemoryDisk::new();
        let (mut block, _) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
        block.store(b"kept").unwrap();
        drop(block);
        assert!(disk.fail_reads(name, 0));
        let (mut block, loaded) = Superblock::open(disk.clone(), "promise", IDENTITY).unwrap();
        assert_eq!(loaded, Loaded::Present { value: b"kept".to_vec(), damaged: true });
        block.store(b"newer").unwrap();
        drop(block);
        let whole = Loaded::Present { value: b"newer".to_vec(), damaged: false };
        assert_eq!(load(&disk), whole, "it was written anew");
        // What may be given back tomorrow is not lost.
        for name in ["promise.a", "promise.b"] {
            assert!(disk.fail_reads(name, 0));
        }
        let failed = Superblock::open(disk.clone(), "promise", IDENTITY).map(drop);
        assert!(matches!(failed, Err(SuperblockError::Disk(_))), "{index}");
    }
}
