//! What `up` says when the service answers.

use super::nursery::Nursery;
use crate::cluster::Cluster;
use comfy_table::{Table, presets};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// One line for programs, then a table and advice for people.
pub(super) fn ready(cluster: &Cluster, folder: &Path, etcd: SocketAddr, nursery: &Nursery) {
    let data = folder.display();
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["replica", "pid", "address", "data", ""]);
    for replica in &cluster.replicas {
        let pid = nursery.pid(replica.id).map_or_else(|| "-".into(), |pid| pid.to_string());
        let liar = replica.liar.map_or_else(String::new, |lie| format!("lies ({lie})"));
        table.add_row([
            replica.id.to_string(),
            pid,
            replica.address.to_string(),
            folder.join(format!("replica-{}", replica.id)).display().to_string(),
            liar,
        ]);
    }
    let (n, f) = (cluster.replicas.len(), cluster.faults);
    let faulty = if f == 1 { "replica does" } else { "replicas do" };
    let mut out = std::io::stdout().lock();
    // Whoever started this may have stopped listening; the service goes on.
    let _ = write!(
        out,
        "testudo ready etcd={etcd} data={data}\n\n{}\n\n\
         {n} replicas: answers stay right while up to {f} {faulty} anything at all. Try:\n\
         \x20 etcdctl --endpoints {etcd} put greeting hello\n\
         \x20 etcdctl --endpoints {etcd} get greeting\n\
         \x20 testudo status --data {data}\n\
         Ctrl-C stops it.\n",
        table.trim_fmt()
    );
    let _ = out.flush();
}
