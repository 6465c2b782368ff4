//! Everything that reads bytes, tried on bytes that nobody wrote.
//!
//! Peers, clients, disks and files may say anything. So whatever reads has a target here: a function of any bytes that panics
//! when a promise is broken. What is refused is refused without a panic; what is accepted has one form, and encodes to the
//! very bytes that were read; and no short input makes anybody set much aside.
//!
//! Each target runs in two ways. The fuzzer's targets in `fuzz/` call them by name, for as long as one likes. And the tests
//! of this crate try each on bytes at random, and on good inputs with some changes, so that every build has a short run
//! without tools of its own.
#![forbid(unsafe_code)]

mod files;
mod framing;
mod heard;
mod logs;
mod members;
mod operations;
mod proofs;
mod records;
mod requests;
mod stores;
mod transfers;
mod words;

/// A function of any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of the fuzzer's target.
    pub name: &'static str,
    /// Tries one input.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub good: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub const TARGETS: [Target; 19] = [
    Target { name: "frame", run: words::frame, good: words::good_frames },
    Target { name: "message", run: words::message, good: words::good_messages },
    Target { name: "greeting", run: words::greeting, good: words::good_greetings },
    Target { name: "channel", run: framing::channel, good: framing::good_channels },
    Target { name: "reply", run: members::reply, good: members::good_replies },
    Target { name: "members", run: members::members, good: members::good_members },
    Target { name: "record", run: records::record, good: records::good_records },
    Target { name: "snapshot", run: records::snapshot, good: records::good_snapshots },
    Target { name: "evidence", run: files::evidence, good: files::good_evidence },
    Target { name: "key_file", run: files::key_file, good: files::good_key_files },
    Target { name: "superblock", run: files::superblock, good: files::good_superblocks },
    Target { name: "snapshot_file", run: files::snapshot_file, good: files::good_snapshot_files },
    Target { name: "wal_open", run: logs::run, good: logs::good },
    Target { name: "store_open", run: stores::run, good: stores::good },
    Target { name: "state_proof", run: proofs::run, good: proofs::good },
    Target { name: "state_sync", run: transfers::run, good: transfers::good },
    Target { name: "kv_operation", run: operations::run, good: operations::good },
    Target { name: "etcd_request", run: requests::run, good: requests::good },
    Target { name: "etcd_body", run: framing::body, good: framing::good_bodies },
];

/// Tries one input on the target of that name.
///
/// # Panics
/// When there is no such target, and when a promise is broken.
pub fn run(name: &str, input: &[u8]) {
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => (target.run)(input),
        None => panic!("there is no target {name}"),
    }
}

/// What is read from these bytes, if they read as such: it has one form, which they are.
fn one_form<T: testudo_core::Decode + testudo_core::Encode>(bytes: &[u8]) -> Option<T> {
    let read = T::from_bytes(bytes).ok()?;
    assert_eq!(read.to_bytes(), bytes, "it has two forms");
    Some(read)
}
