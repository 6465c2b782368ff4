//! What a node counts and measures, in the names that Prometheus shows.
//!
//! Every name begins with `testudo_`. Reasons are short fixed words, so that no peer can make series up.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use testudo_core::Rot;

use crate::sync::lock;

/// Why something was dropped, rejected or ended.
/// What may rot.
const RECORD: &str = "record";
const SNAPSHOT: &str = "snapshot";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Reason {
    reason: &'static str,
}

/// Which kind of thing was handled.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct KindOf {
    kind: &'static str,
}

/// Counters by kind that one thread keeps at hand, as it counts often.
pub(crate) struct Kinds {
    family: Family<KindOf, Counter>,
    /// A protocol has few kinds: looking through them costs less than a hash and a lock.
    seen: Vec<(&'static str, Counter)>,
}

impl Kinds {
    pub(crate) fn count(&mut self, kind: &'static str) {
        if let Some((_, counter)) = self.seen.iter().find(|(known, _)| *known == kind) {
            counter.inc();
        } else {
            let counter = self.family.get_or_create(&KindOf { kind }).clone();
            counter.inc();
            self.seen.push((kind, counter));
        }
    }
}

/// Counters, gauges and histograms of one node.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    pub(crate) frames_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) frames_sent: Counter,
    pub(crate) bytes_sent: Counter,
    frames_dropped: Family<Reason, Counter>,
    frames_rejected: Family<Reason, Counter>,
    connections_ended: Family<Reason, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) verification: Counter<f64, AtomicU64>,
    pub(crate) batches_verified: Counter,
    pub(crate) signatures_remembered: Counter,
    pub(crate) records: Counter,
    pub(crate) record_bytes: Counter,
    flush_time: Histogram,
    flush_recent: Gauge<f64, AtomicU64>,
    records_lost: Gauge,
    snapshots: Counter,
    snapshot_bytes: Gauge,
    snapshot_time: Gauge<f64, AtomicU64>,
    pub(crate) snapshots_lost: Counter,
    pub(crate) scrubbed: Counter,
    pub(crate) mended: Counter,
    rotten: Family<Reason, Counter>,
    steps: Family<KindOf, Counter>,
    heard: Family<KindOf, Counter>,
    said: Family<KindOf, Counter>,
    pub(crate) bursts: Counter,
    pub(crate) inbox: Gauge,
    pub(crate) held: Gauge,
    pub(crate) evidence: Counter,
    pub(crate) panics: Counter,
    protocol: Mutex<Vec<(&'static str, Gauge)>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero, all registered.
    #[must_use]
    pub fn new() -> Self {
        // From 50 microseconds to about 1.6 seconds.
        let flush_time = Histogram::new(exponential_buckets(0.000_05, 2.0, 16));
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("testudo")),
            frames_received: Counter::default(),
            bytes_received: Counter::default(),
            frames_sent: Counter::default(),
            bytes_sent: Counter::default(),
            frames_dropped: Family::default(),
            frames_rejected: Family::default(),
            connections_ended: Family::default(),
            connections: Gauge::default(),
            verification: Counter::default(),
            batches_verified: Counter::default(),
            signatures_remembered: Counter::default(),
            records: Counter::default(),
            record_bytes: Counter::default(),
            flush_time,
            flush_recent: Gauge::default(),
            records_lost: Gauge::default(),
            snapshots: Counter::default(),
            snapshot_bytes: Gauge::default(),
            snapshot_time: Gauge::default(),
            snapshots_lost: Counter::default(),
            scrubbed: Counter::default(),
            mended: Counter::default(),
            rotten: Family::default(),
            steps: Family::default(),
            heard: Family::default(),
            said: Family::default(),
            bursts: Counter::default(),
            inbox: Gauge::default(),
            held: Gauge::default(),
            evidence: Counter::default(),
            panics: Counter::default(),
            protocol: Mutex::new(Vec::new()),
        };
        metrics.register_channels();
        metrics.register_log();
        metrics.register_snapshots();
        metrics.register_automaton();
        metrics.register_damage();
        metrics
    }

    fn register_channels(&self) {
        let mut guard = lock(&self.registry);
        let registry = &mut *guard;
        registry.register(
            "frames_received",
            "Frames read from peers",
            self.frames_received.clone(),
        );
        registry.register_with_unit(
            "received",
            "Bytes of frames read from peers",
            Unit::Bytes,
            self.bytes_received.clone(),
        );
        registry.register("frames_sent", "Frames written to peers", self.frames_sent.clone());
        registry.register_with_unit(
            "sent",
            "Bytes of frames written to peers",
            Unit::Bytes,
            self.bytes_sent.clone(),
        );
        registry.register(
            "frames_dropped",
            "Frames to peers that were not sent",
            self.frames_dropped.clone(),
        );
        registry.register(
            "frames_rejected",
            "Frames from peers that were not believed",
            self.frames_rejected.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections that ended or never came up",
            self.connections_ended.clone(),
        );
        registry.register("connections", "Connections that are up", self.connections.clone());
        registry.register_with_unit(
            "verification",
            "Time spent on verifying frames",
            Unit::Seconds,
            self.verification.clone(),
        );
        registry.register(
            "batches_verified",
            "Batches of signatures that were checked at once",
            self.batches_verified.clone(),
        );
        registry.register(
            "signatures_remembered",
            "Signatures that had been checked before",
            self.signatures_remembered.clone(),
        );
    }

    fn register_damage(&self) {
        let mut guard = lock(&self.registry);
        let registry = &mut *guard;
        registry.register_with_unit(
            "scrubbed",
            "Bytes of log and snapshots that were read again to see whether they have rotted",
            Unit::Bytes,
            self.scrubbed.clone(),
        );
        registry.register(
            "scrub_mended",
            "Damaged places that a scrub has written again from their copies",
            self.mended.clone(),
        );
        registry.register(
            "scrub_rotten",
            "Records and snapshots that a scrub has found rotten, and that are written anew",
            self.rotten.clone(),
        );
    }

    fn register_log(&self) {
        let mut guard = lock(&self.registry);
        let registry = &mut *guard;
        registry.register("records", "Records written to the log", self.records.clone());
        registry.register_with_unit(
            "records",
            "Bytes of records written to the log",
            Unit::Bytes,
            self.record_bytes.clone(),
        );
        registry.register_with_unit(
            "flush",
            "Time that one flush of the log took",
            Unit::Seconds,
            self.flush_time.clone(),
        );
        registry.register_with_unit(
            "flush_recent",
            "Time that a flush of the log takes as of late, each of the last few counting most",
            Unit::Seconds,
            self.flush_recent.clone(),
        );
        registry.register(
            "records_lost",
            "Records that were found lost when the log was opened",
            self.records_lost.clone(),
        );
    }

    fn register_snapshots(&self) {
        let mut guard = lock(&self.registry);
        let registry = &mut *guard;
        registry.register("snapshots", "Snapshots written", self.snapshots.clone());
        registry.register_with_unit(
            "snapshot",
            "Bytes of the last snapshot written",
            Unit::Bytes,
            self.snapshot_bytes.clone(),
        );
        registry.register_with_unit(
            "snapshot_writing",
            "Time that writing the last snapshot took",
            Unit::Seconds,
            self.snapshot_time.clone(),
        );
        registry.register(
            "snapshots_lost",
            "Snapshots that were found damaged at the start, and not used",
            self.snapshots_lost.clone(),
        );
    }

    fn register_automaton(&self) {
        let mut guard = lock(&self.registry);
        let registry = &mut *guard;
        registry.register("steps", "Steps of the automaton", self.steps.clone());
        registry.register(
            "messages_heard",
            "Messages of others that the automaton was given",
            self.heard.clone(),
        );
        registry.register(
            "messages_said",
            "Messages of the automaton, each counted once however many it was for",
            self.said.clone(),
        );
        registry.register(
            "bursts",
            "Times that the automaton's thread took what was waiting",
            self.bursts.clone(),
        );
        registry.register(
            "inbox",
            "Verified messages that wait for the automaton",
            self.inbox.clone(),
        );
        registry.register("held", "Effects that wait for the disk", self.held.clone());
        registry.register("evidence", "Sets of evidence kept", self.evidence.clone());
        registry.register(
            "operation_panics",
            "Operations of the service that panicked and were undone",
            self.panics.clone(),
        );
    }

    /// A frame to a peer was not sent.
    pub(crate) fn dropped(&self, reason: &'static str) {
        self.frames_dropped.get_or_create(&Reason { reason }).inc();
    }

    /// A frame from a peer was not believed.
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.frames_rejected.get_or_create(&Reason { reason }).inc();
    }

    /// A connection ended.
    pub(crate) fn ended(&self, reason: &'static str) {
        self.connections_ended.get_or_create(&Reason { reason }).inc();
    }

    /// A counter of the automaton's steps of one kind, to be kept by who counts often.
    pub(crate) fn steps(&self, kind: &'static str) -> Counter {
        self.steps.get_or_create(&KindOf { kind }).clone()
    }

    /// Counters of messages that come in, by kind.
    pub(crate) fn messages_heard(&self) -> Kinds {
        Kinds { family: self.heard.clone(), seen: Vec::new() }
    }

    /// Counters of messages that the automaton says, by kind.
    pub(crate) fn messages_said(&self) -> Kinds {
        Kinds { family: self.said.clone(), seen: Vec::new() }
    }

    /// How many messages of this kind the automaton was given: `feed` and `voucher`, for example.
    #[must_use]
    pub fn heard(&self, kind: &'static str) -> u64 {
        self.heard.get_or_create(&KindOf { kind }).get()
    }

    /// How many messages of this kind the automaton said, each counted once however many it was for.
    #[must_use]
    pub fn said(&self, kind: &'static str) -> u64 {
        self.said.get_or_create(&KindOf { kind }).get()
    }

    /// How many frames were rejected for this reason. Reasons are `epoch` (another one
    /// of the same cluster, which is nobody's fault), `domain`, `malformed`, `sender`, `proof`, `invalid`.
    #[must_use]
    pub fn rejections(&self, reason: &'static str) -> u64 {
        self.frames_rejected.get_or_create(&Reason { reason }).get()
    }

    /// How many frames to peers were dropped for this reason. Reasons are `full`, `repeated` and `unreachable`.
    #[must_use]
    pub fn drops(&self, reason: &'static str) -> u64 {
        self.frames_dropped.get_or_create(&Reason { reason }).get()
    }

    /// A flush of the log has taken so long. Only one thread flushes.
    pub(crate) fn flushed(&self, took: Duration) {
        self.flush_time.observe(took.as_secs_f64());
        let before = self.flush_recent.get();
        self.flush_recent.set(before + (took.as_secs_f64() - before) / 8.0);
    }

    /// So many records of the log were found lost when it was opened.
    pub(crate) fn found_lost(&self, records: usize) {
        self.records_lost.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// How its disk is, for those who look: what a flush takes as of late, in milliseconds, and what was found lost.
    pub(crate) fn disk(&self) -> Value {
        json!({
            "flush_ms": (self.flush_recent.get() * 1e4).round() / 10.0,
            "records_lost": self.records_lost.get(),
            "snapshots_lost": self.snapshots_lost.get(),
            "records_rotten": self.rot_found().0,
            "snapshots_rotten": self.rot_found().1,
        })
    }

    /// A snapshot of so many bytes is durable, and has taken so long.
    pub(crate) fn wrote_snapshot(&self, bytes: u64, took: Duration) {
        self.snapshot_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.snapshot_time.set(took.as_secs_f64());
        self.snapshots.inc();
    }

    /// How many snapshots were written.
    #[must_use]
    pub fn snapshots_written(&self) -> u64 {
        self.snapshots.get()
    }

    /// How many records were found lost at the start.
    #[must_use]
    pub fn lost_records(&self) -> u64 {
        u64::try_from(self.records_lost.get()).unwrap_or_default()
    }

    /// A scrub has found something rotten.
    pub(crate) fn rotten(&self, rot: &Rot) {
        let reason = match rot {
            Rot::Record(_) => RECORD,
            Rot::Snapshot => SNAPSHOT,
        };
        self.rotten.get_or_create(&Reason { reason }).inc();
    }

    /// How many records, and how many snapshots, have rotted while the node ran.
    #[must_use]
    pub fn rot_found(&self) -> (u64, u64) {
        let of = |reason| self.rotten.get_or_create(&Reason { reason }).get();
        (of(RECORD), of(SNAPSHOT))
    }

    /// How many snapshots were found damaged at the start, and not used.
    #[must_use]
    pub fn lost_snapshots(&self) -> u64 {
        self.snapshots_lost.get()
    }

    /// How many connections ended for this reason.
    #[must_use]
    pub fn ends(&self, reason: &'static str) -> u64 {
        self.connections_ended.get_or_create(&Reason { reason }).get()
    }

    /// How many connections are up, those of both directions together.
    #[must_use]
    pub fn live_connections(&self) -> i64 {
        self.connections.get()
    }

    /// Shows a number of the protocol's under its own name, registering it when it first comes.
    pub fn show(&self, name: &'static str, value: i64) {
        let mut shown = lock(&self.protocol);
        let gauge = match shown.iter().find(|(known, _)| *known == name) {
            Some((_, gauge)) => gauge,
            None => {
                let gauge = Gauge::default();
                lock(&self.registry).register(name, "A number of the protocol's", gauge.clone());
                shown.push((name, gauge));
                let Some((_, gauge)) = shown.last() else { return };
                gauge
            }
        };
        gauge.set(value);
    }

    /// Everything, in the text format of OpenMetrics.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &lock(&self.registry));
        text
    }
}
