//! How keys, versions and counts lie in the store.
//!
//! Three families of entries, told apart by their first byte:
//!
//! | entry   | store key                                          | store value                          |
//! |---------|----------------------------------------------------|--------------------------------------|
//! | meta    | `m`                                                | [`Meta`]                             |
//! | current | `k` key                                            | the key's newest record              |
//! | version | `v` escaped key, revision as 8 big-endian bytes    | a record, or nothing for a deletion  |
//!
//! A *record* is the encoding of a [`crate::KeyValue`]. It holds its key, so that no store key ever has to be taken
//! apart, and its value comes last, so that a record without its value is a prefix and a few zeroes. The current entry
//! and the newest version share one allocation: a value is held once however often it is filed. Reading the newest
//! state is one get or one scan of the current entries; reading the past is a scan of versions.
//!
//! A current entry needs no escaping, because nothing follows the key. In a version something does, so the key is
//! escaped such that no escaped key is the prefix of another and their order is the order of the keys: a zero byte
//! becomes `00 ff`, and `00 00` ends the key.

use crate::operation::Bytes;
use alloc::vec::Vec;
use core::ops::Bound;
use testudo_contracts::{Reading, Store};
use testudo_core::codec::encode_bytes;
use testudo_core::{Decode, Encode, wire_struct};

/// The store key of the meta entry.
pub(crate) const META: &[u8] = b"m";
const CURRENT: u8 = b'k';
const VERSION: u8 = b'v';

/// What is known of the store as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    /// The newest revision.
    pub(crate) revision: i64,
    /// The oldest revision that can still be read. A store that was never compacted has −1, as in etcd, where it shows:
    /// a transaction may read at revision −1, but not at −2.
    pub(crate) compacted: i64,
    /// How many keys exist.
    pub(crate) keys: u64,
    /// Bytes of all current store keys, and of all version entries. Current records are not counted: they are shared.
    pub(crate) bytes: u64,
}

wire_struct!(Meta { revision, compacted, keys, bytes });

impl Meta {
    /// The store that everything starts from: empty, at revision 1.
    pub(crate) const GENESIS: Self = Self { revision: 1, compacted: -1, keys: 0, bytes: 0 };

    /// Reads the meta entry, which genesis wrote and no operation removes.
    pub(crate) fn read(store: &dyn Reading) -> Self {
        let bytes = store.get(META).expect("genesis comes before any operation");
        Self::from_bytes(&bytes).expect("the meta entry is our own")
    }

    /// Writes the meta entry.
    pub(crate) fn write(&self, store: &mut dyn Store) {
        store.put(META, self.to_bytes().into());
    }
}

/// The keys that an operation speaks of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keys<'a> {
    /// One key.
    One(&'a [u8]),
    /// All keys from the first on, before the second if there is one. Never upside down.
    Span(&'a [u8], Option<&'a [u8]>),
    /// None at all: the end is not after the beginning.
    Nothing,
}

impl<'a> Keys<'a> {
    /// Reads a pair of key and range end as etcd does.
    pub(crate) fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => Self::One(key),
            [0] => Self::Span(key, None),
            end if end > key => Self::Span(key, Some(end)),
            _ => Self::Nothing,
        }
    }
}

/// The store key of `key`'s current entry.
pub(crate) fn current_key(key: &[u8]) -> Vec<u8> {
    let mut store_key = Vec::with_capacity(1 + key.len());
    store_key.push(CURRENT);
    store_key.extend_from_slice(key);
    store_key
}

/// The key that a current entry's store key speaks of.
pub(crate) fn key_of_current(store_key: &[u8]) -> &[u8] {
    store_key.split_first().map_or(&[], |(_, key)| key)
}

/// What the store keys of all versions of `key` begin with, and of no other key's.
pub(crate) fn version_prefix(key: &[u8]) -> Vec<u8> {
    // Zero bytes are rare in keys; if there are some, the vector grows.
    let mut store_key = Vec::with_capacity(1 + key.len() + 2 + size_of::<i64>());
    store_key.push(VERSION);
    for part in key.split_inclusive(|byte| *byte == 0) {
        store_key.extend_from_slice(part);
        if part.ends_with(&[0]) {
            store_key.push(0xff);
        }
    }
    store_key.extend_from_slice(&[0, 0]);
    store_key
}

/// The store key of `key`'s version of `revision`.
pub(crate) fn version_key(key: &[u8], revision: i64) -> Vec<u8> {
    let mut store_key = version_prefix(key);
    store_key.extend_from_slice(&revision.to_be_bytes());
    store_key
}

/// Splits a version's store key into what its key's versions share, and the revision.
pub(crate) fn split_version_key(store_key: &[u8]) -> (&[u8], i64) {
    let (prefix, revision) =
        store_key.split_last_chunk().expect("a version's store key ends with its revision");
    (prefix, i64::from_be_bytes(*revision))
}

/// Where the current entries of a span begin and end.
pub(crate) fn current_bounds(from: &[u8], to: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    (current_key(from), to.map_or_else(|| Vec::from([CURRENT + 1]), current_key))
}

/// Where the versions of a span begin and end.
pub(crate) fn version_bounds(from: &[u8], to: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    (version_prefix(from), to.map_or_else(|| Vec::from([VERSION + 1]), version_prefix))
}

/// Encodes a record.
pub(crate) fn record(
    key: &[u8],
    create_revision: i64,
    mod_revision: i64,
    version: i64,
    lease: i64,
    value: &[u8],
) -> Bytes {
    let mut out = Vec::with_capacity(NUMBERS + key.len() + value.len());
    encode_bytes(key, &mut out);
    create_revision.encode(&mut out);
    mod_revision.encode(&mut out);
    version.encode(&mut out);
    lease.encode(&mut out);
    encode_bytes(value, &mut out);
    out.into()
}

/// Bytes of a record beside its key and value: two lengths and four numbers.
const NUMBERS: usize = 2 * size_of::<u32>() + 4 * size_of::<i64>();

/// A stored record, taken apart without copying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) create_revision: i64,
    pub(crate) mod_revision: i64,
    pub(crate) version: i64,
    pub(crate) lease: i64,
    pub(crate) value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Takes apart what [`record`] made.
    pub(crate) fn read(record: &'a [u8]) -> Self {
        Self::try_read(record).expect("records are our own")
    }

    fn try_read(record: &'a [u8]) -> Result<Self, testudo_core::DecodeError> {
        let mut reader = testudo_core::Reader::new(record);
        let read = Self {
            key: reader.bytes()?,
            create_revision: Decode::decode(&mut reader)?,
            mod_revision: Decode::decode(&mut reader)?,
            version: Decode::decode(&mut reader)?,
            lease: Decode::decode(&mut reader)?,
            value: reader.bytes()?,
        };
        reader.finish()?;
        Ok(read)
    }
}

/// A record up to, not including, its value and the value's length.
pub(crate) fn without_value(record: &[u8]) -> &[u8] {
    let end = record.len() - Record::read(record).value.len() - size_of::<u32>();
    &record[..end]
}

/// What one revision did to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The revision.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// The key's record as the revision left it, encoded as a [`crate::KeyValue`]; none if it deleted the key.
    pub record: Option<Bytes>,
}

/// Visits what the revisions `from..=to` did, in order of revisions and, within one, of keys, until `visit` says false.
/// Revisions that are compacted are left out.
pub fn changes(store: &dyn Reading, from: i64, to: i64, visit: &mut dyn FnMut(Change) -> bool) {
    let mut found: Vec<Change> = Vec::new();
    let (low, high) = version_bounds(&[], None);
    store.scan(Bound::Included(&low), Bound::Excluded(&high), false, &mut |store_key, version| {
        let (prefix, revision) = split_version_key(store_key);
        if (from..=to).contains(&revision) {
            let record = (!version.is_empty()).then(|| version.clone());
            found.push(Change { revision, key: unescape(prefix).into(), record });
        }
        true
    });
    found.sort_by(|a, b| (a.revision, &a.key).cmp(&(b.revision, &b.key)));
    for change in found {
        if !visit(change) {
            return;
        }
    }
}

/// The newest record of `key` before `revision`; none if the key did not exist then, or if that is compacted.
#[must_use]
pub fn record_before(store: &dyn Reading, key: &[u8], revision: i64) -> Option<Bytes> {
    let (from, to) = (version_prefix(key), version_key(key, revision));
    let mut found = None;
    store.scan(Bound::Included(&from), Bound::Excluded(&to), true, &mut |_, version| {
        found = (!version.is_empty()).then(|| version.clone());
        false
    });
    found
}

/// The key that a version's prefix was made of.
fn unescape(prefix: &[u8]) -> Vec<u8> {
    let escaped = prefix.strip_prefix(&[VERSION]).unwrap_or(prefix);
    let escaped = escaped.strip_suffix(&[0, 0]).unwrap_or(escaped);
    let mut key = Vec::with_capacity(escaped.len());
    for part in escaped.split_inclusive(|byte| *byte == 0) {
        key.extend_from_slice(
            part.strip_prefix(&[0xff]).filter(|_| key.last() == Some(&0)).unwrap_or(part),
        );
    }
    key
}

/// Checks the whole layout against itself: each current entry is its key's newest version, each version follows from
/// the one before, and the meta entry counts them rightly. It visits everything, so it is for tests and simulators.
///
/// # Panics
/// When the state is not one that this service can have written.
pub(crate) fn audit(store: &dyn Reading) {
    let meta = Meta::read(store);
    assert!(meta.revision >= 1, "revisions start at 1");
    let mut found = Meta { keys: 0, bytes: 0, ..meta };
    // The newest version of each key, which must be what the current entries say: same order, same records.
    let mut newest: Vec<(Vec<u8>, i64, Bytes)> = Vec::new();
    let (from, to) = version_bounds(&[], None);
    store.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |store_key, version| {
        found.bytes += (store_key.len() + version.len()) as u64;
        let (prefix, revision) = split_version_key(store_key);
        assert!(revision > 1 && revision <= meta.revision, "a version of a revision that is not");
        let before = newest.pop_if(|(last, _, _)| last == prefix);
        audit_version(prefix, revision, version, before.as_ref().map(|(_, _, version)| version));
        newest.push((prefix.to_vec(), revision, version.clone()));
        true
    });
    newest.retain(|(_, _, version)| !version.is_empty());
    let mut expected = newest.iter();
    let (from, to) = current_bounds(&[], None);
    store.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |store_key, current| {
        found.keys += 1;
        found.bytes += store_key.len() as u64;
        let (prefix, _, version) = expected.next().expect("a current entry without a version");
        assert_eq!(*prefix, version_prefix(key_of_current(store_key)), "a key is missing");
        assert_eq!(current, version, "the current entry is not the newest version");
        true
    });
    assert!(expected.next().is_none(), "a key without its current entry");
    assert_eq!(found, meta, "the meta entry counts wrongly");
}

fn audit_version(prefix: &[u8], revision: i64, version: &[u8], before: Option<&Bytes>) {
    if version.is_empty() {
        return;
    }
    let now = Record::read(version);
    assert!(!now.key.is_empty(), "a key is never empty");
    assert_eq!(version_prefix(now.key), prefix, "a record is filed under another key");
    assert_eq!(now.mod_revision, revision, "a record is filed under another revision");
    match before.filter(|before| !before.is_empty() && now.create_revision != revision) {
        None => assert_eq!((now.create_revision, now.version), (revision, 1), "a creation"),
        Some(before) => {
            let before = Record::read(before);
            assert_eq!(now.create_revision, before.create_revision, "created once");
            assert_eq!(now.version, before.version + 1, "versions count up");
        }
    }
}
