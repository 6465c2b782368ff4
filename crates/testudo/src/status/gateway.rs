//! What a gateway says of itself, on `/status`, and how many watch it.

use super::claim::clean;
use super::http;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The names that etcd's dashboards know for the number of watches, and the one shown here.
const WATCHES: &str = "etcd_debugging_mvcc_watcher_total";

/// A gateway's word on itself. Its users trust it as they trust their own client library.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The version of the program.
    pub(crate) version: String,
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its number.
    pub(crate) gateway: u16,
    /// Its process.
    pub(crate) pid: u32,
    /// Where it serves etcd.
    pub(crate) etcd: String,
    /// How it stands to the cluster.
    pub(crate) standing: Standing,
    /// The last slot that it has executed.
    pub(crate) slot: u64,
    /// The highest view that it knows of.
    pub(crate) view: u64,
    /// How many replicas it is connected to.
    pub(crate) connections: u64,
    /// Operations and reads that wait for an answer.
    pub(crate) unanswered: u64,
    /// Its copy of the store, if it has one that it can vouch for.
    pub(crate) store: Option<Store>,
}

/// How a gateway stands to the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is", content = "at")]
pub(crate) enum Standing {
    /// It has no state that it can vouch for, and fetches one.
    Fetching,
    /// It takes what was decided from this replica.
    Following(u16),
    /// Its own execution of this slot came to something else than f+1 replicas vouch for. It answers nothing, and
    /// fetches a certified state.
    Diverged(u64),
}

/// A gateway's copy of the store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Store {
    /// Its revision.
    pub(crate) revision: i64,
    /// The oldest revision that can be read; −1 if nothing was ever compacted.
    pub(crate) compacted: i64,
    /// How many keys there are.
    pub(crate) keys: u64,
    /// Bytes, history included.
    pub(crate) bytes: u64,
    /// How many bytes there may be.
    pub(crate) quota: u64,
    /// Whether there are more, so that growth is refused (etcd's alarm NOSPACE).
    pub(crate) is_full: bool,
    /// How many leases there are.
    pub(crate) leases: Option<u64>,
}

/// A gateway of the cluster file.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its number.
    pub(crate) id: u16,
    /// What it says, or why it says nothing.
    pub(crate) claim: Result<Claim, String>,
    /// How many watches it has, as its own metrics say.
    pub(crate) watches: Option<u64>,
}

impl Row {
    /// Whether it follows the cluster.
    pub(crate) fn is_well(&self) -> bool {
        let claim = self.claim.as_ref();
        claim.is_ok_and(|claim| matches!(claim.standing, Standing::Following(_)))
    }
}

/// Asks the gateway of that number how it is.
pub(super) async fn ask(id: u16, cluster: &str, address: &str) -> Row {
    let claim = ask_claim(id, cluster, address).await;
    let watches = match &claim {
        Ok(claim) => http::get(&claim.etcd, "/metrics").await.ok().and_then(|text| watches(&text)),
        Err(_) => None,
    };
    Row { id, claim, watches }
}

async fn ask_claim(id: u16, cluster: &str, address: &str) -> Result<Claim, String> {
    let body = http::get(address, "/status").await?;
    let claim: Claim =
        serde_json::from_slice(&body).map_err(|_| "its answer is no status of a gateway")?;
    if claim.cluster != cluster {
        return Err("it belongs to another cluster".into());
    }
    if claim.gateway != id {
        return Err(format!("it says that it is gateway {}", claim.gateway));
    }
    Ok(Claim { version: clean(&claim.version), etcd: clean(&claim.etcd), ..claim })
}

fn watches(metrics: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(metrics).ok()?;
    let numbers: BTreeMap<_, _> = text.lines().filter_map(|line| line.split_once(' ')).collect();
    numbers.get(WATCHES)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_read_as_it_was_written() {
        for standing in [Standing::Fetching, Standing::Following(2), Standing::Diverged(7)] {
            let store = Store {
                revision: 5,
                compacted: -1,
                keys: 3,
                bytes: 900,
                quota: 1 << 30,
                is_full: false,
                leases: Some(1),
            };
            let claim = Claim {
                version: "0.1.0".into(),
                cluster: "c".into(),
                gateway: 0,
                pid: 1,
                etcd: "127.0.0.1:2379".into(),
                standing,
                slot: 9,
                view: 1,
                connections: 4,
                unanswered: 0,
                store: Some(store),
            };
            let text = serde_json::to_string(&claim).unwrap();
            assert_eq!(serde_json::from_str::<Claim>(&text).unwrap(), claim);
        }
    }

    #[test]
    fn watches_are_found_among_other_numbers() {
        let text = b"# HELP etcd_debugging_mvcc_watcher_total Watches.\nother 3\n\
                     etcd_debugging_mvcc_watcher_total 41\nlast 1\n";
        assert_eq!(watches(text), Some(41));
        assert_eq!(watches(b""), None);
        assert_eq!(watches(b"etcd_debugging_mvcc_watcher_total many\n"), None);
    }
}
