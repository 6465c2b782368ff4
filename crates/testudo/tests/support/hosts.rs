//! A cluster of nodes that run one by one, as on hosts of their own.

use super::{Node, folder, free_ports, path, said, testudo};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use testudo_etcd::proto::etcdserverpb as pb;
use testudo_etcd::proto::etcdserverpb::kv_client::KvClient;

/// Four replicas that `init` made, and what a gateway needs.
pub(crate) struct Hosts {
    folder: tempfile::TempDir,
    replicas: Vec<Node>,
    /// The cluster file.
    pub(crate) cluster: String,
    /// Where the gateway serves.
    pub(crate) etcd: String,
    /// Where it shows its metrics.
    admin: String,
}

/// Keys that [`fill`] puts in one transaction, and so in one slot.
pub(crate) const FILLED_AT_ONCE: u64 = 12;

impl Hosts {
    /// Makes the cluster's files and starts its replicas.
    pub(crate) fn start() -> Self {
        let folder = folder();
        let out = folder.path().join("cluster");
        let ports = free_ports(10);
        let addresses: Vec<String> =
            ports.iter().step_by(2).take(4).map(|port| format!("127.0.0.1:{port}")).collect();
        let output = testudo(&["init", "--replicas", &addresses.join(","), "--out", &path(&out)]);
        assert!(output.status.success(), "{}", said(&output));
        let cluster = path(&out.join("cluster.toml"));
        let [etcd, admin] = [8, 9].map(|place| format!("127.0.0.1:{}", ports[place]));
        let mut hosts = Self { folder, replicas: Vec::new(), cluster, etcd, admin };
        hosts.replicas = (0..4)
            .map(|id| {
                let data = path(&hosts.folder.path().join(id.to_string()));
                hosts.node("replica", &format!("replica-{id}.key"), &["--data", &data])
            })
            .collect();
        hosts
    }

    /// Starts the gateway.
    pub(crate) fn gateway(&self) -> Node {
        self.node("gateway", "gateway-0.key", &["--listen", &self.etcd, "--admin", &self.admin])
    }

    /// A number of the gateway's, 0 if it has none of that name.
    pub(crate) fn gateway_metric(&self, name: &str) -> u64 {
        metric(&self.admin, name)
    }

    fn node(&self, kind: &str, key: &str, more: &[&str]) -> Node {
        let key = path(&self.folder.path().join("cluster").join(key));
        let mut words = vec![kind, "--cluster", &self.cluster, "--key", &key, "--log", "warn"];
        words.extend(more);
        Node::start(&words)
    }

    /// Stops the replicas in good order.
    pub(crate) fn stop(self) {
        for node in self.replicas {
            assert_eq!(node.stop(), Some(0));
        }
    }
}

/// A number that the node with this admin port shows among its metrics, 0 if it has none of that name.
pub(crate) fn metric(admin: &str, name: &str) -> u64 {
    let mut stream = TcpStream::connect(admin).expect("the node shows its metrics");
    let ask = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(ask.as_bytes()).expect("it is asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("it answers");
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0)
}

/// Puts so many keys of 256 bytes, [`FILLED_AT_ONCE`] in one slot, and one slot after the other.
pub(crate) fn fill(etcd: &str, keys: u64) {
    use pb::request_op::Request;
    let put = |number: u64| {
        let put = super::audience::put(&format!("filled/{number:09}"), "v".repeat(256), 0);
        pb::RequestOp { request: Some(Request::RequestPut(put)) }
    };
    run(async {
        let mut kv = client(etcd);
        for first in (0..keys).step_by(FILLED_AT_ONCE as usize) {
            let success = (first..keys.min(first + FILLED_AT_ONCE)).map(put).collect();
            let txn = pb::TxnRequest { success, ..Default::default() };
            // The gateway may not serve yet.
            let mut attempts = 0;
            while let Err(status) = kv.txn(txn.clone()).await {
                attempts += 1;
                assert!(attempts < 600, "{status}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    });
}

/// Has so many MiB ordered, and so logged, that change nothing: transactions whose condition does not hold.
pub(crate) fn burden(etcd: &str, megabytes: usize) {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    use pb::request_op::Request;
    let compare = pb::Compare {
        result: CompareResult::Greater as i32,
        target: CompareTarget::Create as i32,
        key: "burden".into(),
        target_union: Some(TargetUnion::CreateRevision(0)),
        ..Default::default()
    };
    let put = super::audience::put("burden", "v".repeat(1 << 20), 0);
    let success = vec![pb::RequestOp { request: Some(Request::RequestPut(put)) }];
    let txn = pb::TxnRequest { compare: vec![compare], success, failure: Vec::new() };
    run(async {
        let mut kv = client(etcd);
        for _ in 0..megabytes {
            // Whether it was ordered is not known when it is not answered; that does not matter here.
            if kv.txn(txn.clone()).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    });
}

/// How many keys there are, if anybody says.
pub(crate) fn count(etcd: &str) -> Option<u64> {
    let request = pb::RangeRequest {
        key: "filled/".into(),
        range_end: "filled0".into(),
        count_only: true,
        ..Default::default()
    };
    let told = run(async { client(etcd).range(request).await });
    told.ok().map(|range| range.into_inner().count as u64)
}

fn client(etcd: &str) -> KvClient<tonic::transport::Channel> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{etcd}"));
    KvClient::new(endpoint.expect("an address").connect_lazy())
}

fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("an event loop").block_on(what)
}

/// A client that does one thing after the other.
pub(crate) struct Client(String);

impl Client {
    /// Of the etcd endpoint.
    pub(crate) fn new(etcd: &str) -> Self {
        Self(etcd.to_owned())
    }

    pub(crate) fn put(&self, key: &str, value: String) -> Result<(), tonic::Status> {
        let put = super::audience::put(key, value, 0);
        run(async { client(&self.0).put(put).await }).map(drop)
    }

    /// What the gateway shows as the Raft term.
    pub(crate) fn term(&self) -> Result<u64, tonic::Status> {
        let request = pb::RangeRequest { key: "term".into(), ..Default::default() };
        let told = run(async { client(&self.0).range(request).await })?.into_inner();
        Ok(told.header.map_or(0, |header| header.raft_term))
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), tonic::Status> {
        let request = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
        run(async { client(&self.0).delete_range(request).await }).map(drop)
    }

    pub(crate) fn compact(&self, revision: i64) -> Result<(), tonic::Status> {
        let request = pb::CompactionRequest { revision, physical: true };
        run(async { client(&self.0).compact(request).await }).map(drop)
    }

    /// The value that a key had at a revision.
    pub(crate) fn get_at(&self, key: &str, revision: i64) -> Result<String, tonic::Status> {
        let key = key.to_owned().into();
        let request = pb::RangeRequest { key, revision, ..Default::default() };
        let told = run(async { client(&self.0).range(request).await })?.into_inner();
        let value = told.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
        Ok(value.unwrap_or_default())
    }
}
