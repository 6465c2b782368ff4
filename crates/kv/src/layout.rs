//! How keys, versions and counts lie in the store.
//!
//! Families of entries, told apart by their first byte:
//!
//! | entry      | store key                         | store value                                          |
//! |------------|-----------------------------------|------------------------------------------------------|
//! | meta       | `m`                               | [`Meta`]                                             |
//! | current    | `k` key                           | the key's newest record                              |
//! | version    | `v` escaped key, revision         | a superseded record, or nothing for a deletion       |
//! | change     | `r` revision, place, key          | nothing: this revision changed this key              |
//! | cursor     | `c`                               | how far a sweep has come ([`crate::compaction`])     |
//! | sample     | `p` time                          | the revision that there was at that time             |
//! | lease      | `l` lease                         | [`crate::lease::Lease`]                              |
//! | attachment | `a` lease, key                    | nothing: this key hangs on this lease                |
//! | expiry     | `e` lease clock, lease            | nothing: this lease expires then                     |
//!
//! Numbers in store keys are 8 big-endian bytes each, so that their order is that of the numbers. A change's place
//! among those of its revision, which is the order that watches tell of them in, has 4.
//!
//! A *record* is the encoding of a [`crate::KeyValue`]. It holds its key, so that no store key ever has to be taken
//! apart, and its value comes last, so that a record without its value is a prefix and a few zeroes. Each record lies
//! in one place: in the current entry as long as it is its key's newest, and from then on as a version. Reading the
//! newest state is one get or one scan of the current entries, whatever history there is; reading the past looks at
//! both; and what a revision changed is a scan of the changes, which name the keys whose records to look up.
//!
//! A current entry needs no escaping, because nothing follows the key. In a version something does, so the key is
//! escaped such that no escaped key is the prefix of another and their order is the order of the keys: a zero byte
//! becomes `00 ff`, and `00 00` ends the key.

use crate::operation::Bytes;
use crate::settings::Settings;
use alloc::vec::Vec;
use testudo_contracts::{Reading, Store};
use testudo_core::codec::encode_bytes;
use testudo_core::{Decode, Encode, Time, wire_struct};

/// The store key of the meta entry.
pub(crate) const META: &[u8] = b"m";
const CURRENT: u8 = b'k';
const VERSION: u8 = b'v';
const CHANGE: u8 = b'r';
/// The store key of the cursor of a sweep.
pub(crate) const CURSOR: &[u8] = b"c";
const SAMPLE: u8 = b'p';
const LEASE: u8 = b'l';
const ATTACHMENT: u8 = b'a';
const EXPIRY: u8 = b'e';

/// What an entry is counted as beside the bytes of its key and value: about what it costs in memory to hold one.
const ENTRY_BYTES: u64 = 192;

/// The families of entries, but for those of a single entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    /// Newest records.
    Current,
    /// Superseded records and deletions.
    Version,
    /// Which revision changed which key.
    Change,
    /// Which revision there was when.
    Sample,
    /// Leases.
    Lease,
    /// Which key hangs on which lease.
    Attachment,
    /// When leases expire.
    Expiry,
}

/// The family that an entry belongs to by its store key.
pub(crate) fn family(store_key: &[u8]) -> Option<Family> {
    Some(match *store_key.first()? {
        CURRENT => Family::Current,
        VERSION => Family::Version,
        CHANGE => Family::Change,
        SAMPLE => Family::Sample,
        LEASE => Family::Lease,
        ATTACHMENT => Family::Attachment,
        EXPIRY => Family::Expiry,
        _ => return None,
    })
}

/// What is known of the store as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Meta {
    /// The newest revision.
    pub(crate) revision: i64,
    /// The oldest revision that can still be read. A store that was never compacted has −1, as in etcd, where it shows:
    /// a transaction may read at revision −1, but not at −2.
    pub(crate) compacted: i64,
    /// The oldest revision of which something may still lie in the store. Never more than `compacted`.
    pub(crate) swept: i64,
    /// How many keys exist.
    pub(crate) keys: u64,
    /// Bytes of all entries but this and the cursor, as [`entry_bytes`] counts them.
    pub(crate) bytes: u64,
    /// The lease clock: milliseconds that have passed, as replicas have agreed, without gaps that nobody vouches for.
    pub(crate) clock: u64,
    /// Agreed time.
    pub(crate) time: Time,
    /// What was decided when the store began.
    pub(crate) settings: Settings,
}

wire_struct!(Meta { revision, compacted, swept, keys, bytes, clock, time, settings });

impl Meta {
    /// The store that everything starts from: empty, at revision 1.
    pub(crate) const fn genesis(settings: Settings) -> Self {
        Self {
            revision: 1,
            compacted: -1,
            swept: -1,
            keys: 0,
            bytes: 0,
            clock: 0,
            time: Time(0),
            settings,
        }
    }

    /// Reads the meta entry, which genesis wrote and no operation removes.
    pub(crate) fn read(store: &dyn Reading) -> Self {
        let bytes = store.get(META).expect("genesis comes before any operation");
        Self::from_bytes(&bytes).expect("the meta entry is our own")
    }

    /// Writes the meta entry.
    pub(crate) fn write(&self, store: &mut dyn Store) {
        store.put(META, self.to_bytes().into());
    }

    /// Whether there is more than the quota allows.
    pub(crate) const fn is_full(&self) -> bool {
        self.bytes > self.settings.quota
    }
}

/// What an entry with this store key and a value of so many bytes is counted as.
pub(crate) const fn entry_bytes(store_key: &[u8], value: usize) -> u64 {
    store_key.len() as u64 + value as u64 + ENTRY_BYTES
}

/// A store that is written to, with the meta entry that counts what is written.
pub(crate) struct Ledger<'a> {
    store: &'a mut dyn Store,
    was: Meta,
    /// What the meta entry will be.
    pub(crate) meta: Meta,
}

impl<'a> Ledger<'a> {
    /// Begins to write; `meta` is the store's.
    pub(crate) const fn new(store: &'a mut dyn Store, meta: Meta) -> Self {
        Self { store, was: meta, meta }
    }

    /// The store, with what was written, but for the meta entry.
    pub(crate) fn reading(&self) -> &dyn Reading {
        self.store
    }

    /// Sets or removes the cursor of a sweep, which is not counted.
    pub(crate) fn set_cursor(&mut self, cursor: Option<&[u8]>) {
        match cursor {
            Some(cursor) => self.store.put(CURSOR, cursor.into()),
            None => {
                self.store.delete(CURSOR);
            }
        }
    }

    /// Adds an entry that is not there.
    pub(crate) fn add(&mut self, store_key: &[u8], value: Bytes) {
        self.meta.bytes += entry_bytes(store_key, value.len());
        self.store.put(store_key, value);
    }

    /// Gives an entry another value; `was` is the length of the one that it has.
    pub(crate) fn replace(&mut self, store_key: &[u8], was: usize, value: Bytes) {
        self.meta.bytes = self.meta.bytes + value.len() as u64 - was as u64;
        self.store.put(store_key, value);
    }

    /// Removes an entry, whose value has the length `was`.
    pub(crate) fn remove(&mut self, store_key: &[u8], was: usize) {
        assert!(self.store.delete(store_key), "what is removed is there");
        self.meta.bytes -= entry_bytes(store_key, was);
    }

    /// Writes the meta entry if it has changed.
    pub(crate) fn finish(self) {
        if self.meta != self.was {
            self.meta.write(self.store);
        }
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

/// The key that a version's prefix was made of.
pub(crate) fn unescape(prefix: &[u8]) -> Vec<u8> {
    let escaped = prefix.strip_prefix(&[VERSION]).unwrap_or(prefix);
    let escaped = escaped.strip_suffix(&[0, 0]).unwrap_or(escaped);
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(byte) = bytes.next() {
        key.push(*byte);
        if *byte == 0 {
            bytes.next();
        }
    }
    key
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

/// A store key of a family, numbers and a key.
fn numbered(family: u8, numbers: &[[u8; 8]], key: &[u8]) -> Vec<u8> {
    let mut store_key = Vec::with_capacity(1 + 8 * numbers.len() + key.len());
    store_key.push(family);
    numbers.iter().for_each(|number| store_key.extend_from_slice(number));
    store_key.extend_from_slice(key);
    store_key
}

/// The store key of the change that `revision` made to `key`, in its `place` among those of the revision.
pub(crate) fn change_key(key: &[u8], revision: i64, place: u32) -> Vec<u8> {
    let mut store_key = numbered(CHANGE, &[revision.to_be_bytes()], &place.to_be_bytes());
    store_key.extend_from_slice(key);
    store_key
}

/// The revision and the key that a change's store key speaks of.
pub(crate) fn split_change_key(store_key: &[u8]) -> (i64, &[u8]) {
    let (revision, placed) = split_numbered(store_key);
    (revision, placed.get(size_of::<u32>()..).expect("a place comes before the key"))
}

/// The number and what follows it in a store key.
pub(crate) fn split_numbered(store_key: &[u8]) -> (i64, &[u8]) {
    let (number, rest) =
        store_key.get(1..).and_then(<[u8]>::split_first_chunk).expect("a number comes first");
    (i64::from_be_bytes(*number), rest)
}

/// Where the changes of the revisions `from..=to` begin and end.
pub(crate) fn change_bounds(from: i64, to: i64) -> (Vec<u8>, Vec<u8>) {
    let start = |revision| change_key(&[], revision, 0);
    (start(from), to.checked_add(1).map_or_else(|| Vec::from([CHANGE + 1]), start))
}

/// The store key of the sample of `time`.
pub(crate) fn sample_key(time: Time) -> Vec<u8> {
    numbered(SAMPLE, &[time.0.to_be_bytes()], &[])
}

/// Where all samples begin and end.
pub(crate) const SAMPLES: ([u8; 1], [u8; 1]) = ([SAMPLE], [SAMPLE + 1]);

/// The time that a sample's store key speaks of.
pub(crate) fn time_of_sample(store_key: &[u8]) -> Time {
    let time = store_key.split_last_chunk().map(|(_, time)| u64::from_be_bytes(*time));
    Time(time.expect("a sample's store key ends with its time"))
}

/// The store key of a lease.
pub(crate) fn lease_key(lease: i64) -> Vec<u8> {
    numbered(LEASE, &[lease.to_be_bytes()], &[])
}

/// The store key of a key's hanging on a lease.
pub(crate) fn attachment_key(lease: i64, key: &[u8]) -> Vec<u8> {
    numbered(ATTACHMENT, &[lease.to_be_bytes()], key)
}

/// Where what hangs on a lease begins and ends.
pub(crate) fn attachment_bounds(lease: i64) -> (Vec<u8>, Vec<u8>) {
    // The lease's bytes as they are ordered, which is not the order of signed numbers.
    let next = u64::from_be_bytes(lease.to_be_bytes()).checked_add(1);
    let end = next.map_or_else(
        || Vec::from([ATTACHMENT + 1]),
        |next| numbered(ATTACHMENT, &[next.to_be_bytes()], &[]),
    );
    (attachment_key(lease, &[]), end)
}

/// The lease and the key that an attachment's store key speaks of.
pub(crate) fn split_attachment_key(store_key: &[u8]) -> (i64, &[u8]) {
    split_numbered(store_key)
}

/// The store key of a lease's expiry.
pub(crate) fn expiry_key(expires: u64, lease: i64) -> Vec<u8> {
    numbered(EXPIRY, &[expires.to_be_bytes(), lease.to_be_bytes()], &[])
}

/// Where all expiries begin and end.
pub(crate) const EXPIRIES: ([u8; 1], [u8; 1]) = ([EXPIRY], [EXPIRY + 1]);

/// When an expiry's store key says that a lease expires, and which one.
pub(crate) fn split_expiry_key(store_key: &[u8]) -> (u64, i64) {
    let (rest, lease) = store_key.split_last_chunk().expect("an expiry ends with its lease");
    let (_, expires) = rest.split_last_chunk().expect("before it stands its time");
    (u64::from_be_bytes(*expires), i64::from_be_bytes(*lease))
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
