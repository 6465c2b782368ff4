//! Opens all that a replica keeps on its disk, with a superblock that holds arbitrary bytes.

use testudo_core::{Epoch, Incarnation, Position, Promise, Slot, Tag, View};
use testudo_wal::store::{Asked, Found, Owner};
use testudo_wal::{Identity, Loaded, MemoryDisk, Options, SUPERBLOCK_MAX, Store, Superblock};

const OPTIONS: Options = Options { segment_bytes: 4096, record_limit: 4096, salt: 0 };
const OWNER: Owner =
    Owner { identity: Identity(*b"fuzzed store...."), had_data: true, last: Incarnation(3) };
const SUPERBLOCK: &str = "superblock";

/// A disk on which somebody has kept a few records, and a promise.
fn used() -> MemoryDisk {
    let disk = MemoryDisk::new();
    let fresh = Owner { had_data: false, ..OWNER };
    let (mut store, _) = Store::open(disk.clone(), fresh, OPTIONS).expect("an empty disk");
    let promise = Promise { epoch: Epoch(1), view: View(7), incarnation: Incarnation(3) };
    store.promise(promise).expect("a disk in memory");
    for position in 0..9 {
        store
            .append(Position(position), Tag::Vote(Slot(position)), b"a record")
            .expect("a disk in memory");
    }
    store.flush().expect("a disk in memory");
    disk
}

/// The first byte of the input says whether there is a log, and the others are what the superblock holds. Nothing of that
/// makes opening panic; what is found is found again; what a replica promises then is there at its next start; and what it
/// has forgotten stays so until it promises under a voting key with which it has said nothing.
pub(crate) fn run(input: &[u8]) {
    let Some((kind, value)) = input.split_first() else { return };
    let disk = if kind & 1 == 0 { used() } else { MemoryDisk::new() };
    let value = &value[..value.len().min(SUPERBLOCK_MAX)];
    let (mut superblock, _) =
        Superblock::open(disk.clone(), SUPERBLOCK, OWNER.identity).expect("a disk in memory");
    superblock.store(value).expect("a disk in memory");
    let Ok((_, first)) = Store::open(disk.clone(), OWNER, OPTIONS) else { return };
    let (mut store, second) =
        Store::open(disk.clone(), OWNER, OPTIONS).expect("it was opened before");
    assert_eq!(said(&first), said(&second), "opening has changed it");
    assert!(first.promise.is_none() || !first.has_forgotten);
    assert!(first.has_forgotten <= !first.lost.is_empty(), "nobody is told");
    for position in first.first.0..first.next.0 {
        assert!(matches!(store.read(Position(position)), Ok(Asked::Record(_))));
    }
    let promise = Promise { epoch: Epoch(2), view: View(9), incarnation: Incarnation(3) };
    let is_over = store.promise(promise).expect("a disk in memory");
    let (_, third) = Store::open(disk, OWNER, OPTIONS).expect("it was opened before");
    assert_eq!(third.has_forgotten, second.has_forgotten && !is_over);
    assert_eq!(third.promise, (!third.has_forgotten).then_some(promise));
}

fn said(found: &Found) -> (Option<Promise>, Position, Position, Position, bool, bool) {
    let Found { promise, forgotten, first, next, has_forgotten, is_cut_short, .. } = found;
    (*promise, *forgotten, *first, *next, *has_forgotten, *is_cut_short)
}

/// What a superblock really holds, with a log and without.
pub(crate) fn good() -> Vec<Vec<u8>> {
    let (_, loaded) =
        Superblock::open(used(), SUPERBLOCK, OWNER.identity).expect("a disk in memory");
    let Loaded::Present { value, .. } = loaded else { panic!("it was written: {loaded:?}") };
    [0, 1].map(|kind| [&[kind][..], &value].concat()).into()
}
