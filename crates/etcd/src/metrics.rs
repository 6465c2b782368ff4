//! Numbers for those who watch over the gateway, under the names that etcd's dashboards and alerts
//! look for where etcd has them.

use std::fmt::Write;
use std::sync::atomic::{AtomicI64, Ordering};

use testudo_kv::StatusResponse;

use crate::cluster::Cluster;
use crate::hub::Size;
use crate::service::{Counters, Shared};

/// Name, kind, meaning, value.
type Sample = (&'static str, &'static str, &'static str, u64);

/// All of them, as Prometheus reads them.
pub(crate) fn text<C: Cluster>(shared: &Shared<C>) -> String {
    let mut text = String::new();
    let cluster = cluster(shared);
    let store = shared.cluster.latest().map(|copy| store(&copy.status())).unwrap_or_default();
    let held = shared.limits.bytes.saturating_sub(shared.budget.left());
    let clients = clients(&shared.counters, held, shared.hub.size());
    for (name, kind, help, value) in cluster.into_iter().chain(store).chain(clients) {
        // Writing to a string does not fail.
        let _written = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}

fn gauge(name: &'static str, help: &'static str, value: u64) -> Sample {
    (name, "gauge", help, value)
}

fn counter(name: &'static str, help: &'static str, value: u64) -> Sample {
    (name, "counter", help, value)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn cluster<C: Cluster>(shared: &Shared<C>) -> Vec<Sample> {
    let position = shared.cluster.position();
    let counters = &shared.counters;
    let copy = shared.cluster.latest().ok();
    vec![
        gauge(
            "etcd_server_has_leader",
            "Whether the cluster answered when it was asked last.",
            u64::from(!shared.pulse.is_failing()),
        ),
        counter(
            "etcd_server_leader_changes_seen_total",
            "How often the view in which the cluster orders has changed.",
            counters.turns.count(position),
        ),
        gauge(
            "etcd_server_proposals_committed_total",
            "Operations that the cluster answered through this gateway.",
            counters.answered.load(Ordering::Relaxed),
        ),
        gauge(
            "etcd_server_proposals_applied_total",
            "The last slot that the gateway has executed.",
            copy.as_ref().map_or(0, |copy| copy.slot.0),
        ),
        gauge(
            "etcd_server_proposals_pending",
            "Operations under way through this gateway.",
            unsigned(counters.pending.load(Ordering::Relaxed)),
        ),
        counter(
            "etcd_server_proposals_failed_total",
            "Operations that got no answer through this gateway.",
            counters.failed.load(Ordering::Relaxed),
        ),
        gauge(
            "testudo_gateway_has_copy",
            "Whether the gateway has a copy of the state that it can vouch for.",
            u64::from(copy.is_some()),
        ),
        gauge(
            "testudo_gateway_copy_age_milliseconds",
            "How long ago the gateway's copy of the state was published.",
            copy.map_or(0, |copy| u64::try_from(copy.taken.elapsed().as_millis()).unwrap_or(0)),
        ),
    ]
}

fn store(status: &StatusResponse) -> Vec<Sample> {
    vec![
        gauge(
            "etcd_mvcc_db_total_size_in_bytes",
            "Bytes of the store as the gateway has it.",
            status.bytes,
        ),
        gauge(
            "etcd_mvcc_db_total_size_in_use_in_bytes",
            "The same: nothing is held that is not in use.",
            status.bytes,
        ),
        gauge(
            "etcd_server_quota_backend_bytes",
            "Bytes beyond which the store may not grow.",
            status.quota,
        ),
        gauge("etcd_debugging_mvcc_keys_total", "Keys in the store.", status.keys),
        gauge(
            "etcd_debugging_mvcc_current_revision",
            "The store's revision.",
            unsigned(status.revision),
        ),
        gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The oldest revision that can be read.",
            unsigned(status.compacted),
        ),
    ]
}

fn clients(counters: &Counters, held: usize, size: Size) -> Vec<Sample> {
    let level = |count: &AtomicI64| unsigned(count.load(Ordering::Relaxed));
    vec![
        gauge(
            "testudo_gateway_held_bytes",
            "Bytes held for clients: requests not executed, answers not sent, open streams.",
            held as u64,
        ),
        gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams.", size.streams as u64),
        gauge("etcd_debugging_mvcc_watcher_total", "Watches in all streams.", size.watches as u64),
        gauge(
            "etcd_debugging_mvcc_slow_watcher_total",
            "Watches that are behind, and told out of history.",
            size.behind as u64,
        ),
        gauge(
            "testudo_gateway_blocked_watch_streams",
            "Watch streams whose clients have no room for what there is to be told.",
            level(&counters.blocked),
        ),
        counter(
            "etcd_debugging_mvcc_events_total",
            "Events told to watches.",
            counters.events.load(Ordering::Relaxed),
        ),
        gauge(
            "testudo_gateway_lease_streams",
            "Streams that keep leases alive.",
            level(&counters.lease_streams),
        ),
        counter(
            "etcd_debugging_lease_renewed_total",
            "Keep-alives that were answered.",
            counters.keep_alives.load(Ordering::Relaxed),
        ),
    ]
}
