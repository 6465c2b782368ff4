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

use std::path::PathBuf;

/// A function of any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of the fuzzer's target.
    pub name: &'static str,
    /// The types that it reads as such, by crate. What they are made of it reads as part of them.
    pub reads: &'static [&'static str],
    /// Tries one input.
    pub run: fn(&[u8]),
    /// Inputs that get far.
    pub good: fn() -> Vec<Vec<u8>>,
}

/// Every target.
pub static TARGETS: [Target; 19] = [
    Target {
        name: "frame",
        reads: &["core::Signed", "replication::Bundle", "replication::Decree"],
        run: words::frame,
        good: words::good_frames,
    },
    Target {
        name: "message",
        reads: &["replication::ReplicaMessage", "pbft::Message"],
        run: words::message,
        good: words::good_messages,
    },
    Target {
        name: "greeting",
        reads: &["runtime::Hello", "runtime::Answer"],
        run: words::greeting,
        good: words::good_greetings,
    },
    Target { name: "channel", reads: &[], run: framing::channel, good: framing::good_channels },
    Target {
        name: "reply",
        reads: &["replication::ReplyBody", "replication::Remembered"],
        run: members::reply,
        good: members::good_replies,
    },
    Target {
        name: "members",
        reads: &["replication::Configuration", "replication::Refusal", "replication::Succession"],
        run: members::members,
        good: members::good_members,
    },
    Target {
        name: "record",
        reads: &["replication::Record", "pbft::Record"],
        run: records::record,
        good: records::good_records,
    },
    Target {
        name: "snapshot",
        reads: &["replication::Snapshot", "pbft::Snapshot"],
        run: records::snapshot,
        good: records::good_snapshots,
    },
    Target {
        name: "evidence",
        reads: &["core::Evidence"],
        run: files::evidence,
        good: files::good_evidence,
    },
    Target { name: "key_file", reads: &[], run: files::key_file, good: files::good_key_files },
    Target {
        name: "superblock",
        reads: &[],
        run: files::superblock,
        good: files::good_superblocks,
    },
    Target {
        name: "snapshot_file",
        reads: &[],
        run: files::snapshot_file,
        good: files::good_snapshot_files,
    },
    Target { name: "wal_open", reads: &[], run: logs::run, good: logs::good },
    Target {
        name: "store_open",
        reads: &["wal::Essentials"],
        run: stores::run,
        good: stores::good,
    },
    Target {
        name: "state_proof",
        reads: &["state::Chunk", "state::RangeProof"],
        run: proofs::run,
        good: proofs::good,
    },
    Target {
        name: "state_sync",
        reads: &["state::Node", "state::Place", "state::Summary"],
        run: transfers::run,
        good: transfers::good,
    },
    Target {
        name: "kv_operation",
        reads: &["kv::Operation"],
        run: operations::run,
        good: operations::good,
    },
    Target {
        name: "etcd_request",
        reads: &["kv::Response"],
        run: requests::run,
        good: requests::good,
    },
    Target { name: "etcd_body", reads: &[], run: framing::body, good: framing::good_bodies },
];

/// Types that are read, but never as anybody else has written them, and why that is so. `cargo xtask tidy` finds what is neither
/// here nor read by a target.
pub const PROVED: &[(&str, &str)] = &[
    ("contracts::Mode", "an ordering tells it the layer above, in one process"),
    ("replication::Comeback", "a replica says it on its status in other words"),
    ("replication::Health", "a replica says it on its status in other words"),
    ("replication::NoRecord", "there is none, so every reading of one is refused"),
    ("kv::Lease", "it lies in a state, whose digest was proved before"),
    ("kv::Meta", "it lies in a state, whose digest was proved before"),
    ("replication::Counters", "they lie in a state, whose digest was proved before"),
    ("replication::Session", "it lies in a state, whose digest was proved before"),
];

/// Tries one input on the target of that name.
///
/// # Panics
/// When there is no such target, and when a promise is broken.
pub fn run(name: &str, input: &[u8]) {
    (target(name).run)(input);
}

/// Writes the target's good inputs into the folder that `TESTUDO_CORPUS` names, if it names one: a fuzzer that starts from
/// them gets far at once.
///
/// # Panics
/// When there is no such target, or they cannot be written.
pub fn sow(name: &str) {
    let Some(folder) = std::env::var_os("TESTUDO_CORPUS").map(PathBuf::from) else { return };
    for (number, input) in (target(name).good)().iter().enumerate() {
        let path = folder.join(format!("good-{number}"));
        std::fs::write(&path, input).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn target(name: &str) -> &'static Target {
    let target = TARGETS.iter().find(|target| target.name == name);
    target.unwrap_or_else(|| panic!("there is no target {name}"))
}

/// What is read from these bytes, if they read as such: it has one form, which they are.
fn one_form<T: testudo_core::Decode + testudo_core::Encode>(bytes: &[u8]) -> Option<T> {
    let read = T::from_bytes(bytes).ok()?;
    assert_eq!(read.to_bytes(), bytes, "it has two forms");
    Some(read)
}
