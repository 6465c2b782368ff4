//! From cluster to text.

use super::service::{Bytes, Compaction};
use super::{Cluster, FORMAT};
use std::fmt::Write as _;

/// The file's text. Every string in it was checked when it was read or made, so that none needs escaping.
pub(super) fn write(cluster: &Cluster) -> String {
    let mut text = String::from(
        "# A Testudo cluster: who belongs to it, and what it survives. The same file is on every node.\n\
         # It is public; the secrets are in the nodes' key files.\n\n",
    );
    // Writing to a string does not fail.
    let _ = write_all(cluster, &mut text);
    text
}

fn write_all(cluster: &Cluster, text: &mut String) -> std::fmt::Result {
    writeln!(text, "format = {FORMAT}")?;
    writeln!(text, "cluster = \"{}\"", cluster.id)?;
    writeln!(text, "protocol = \"{}\"", cluster.protocol)?;
    writeln!(text, "# How many replicas may fail in any way, lying included.")?;
    writeln!(text, "faults = {}", cluster.faults)?;
    if cluster.demonstration {
        writeln!(
            text,
            "# Replicas of this cluster may lie when told to: nothing that matters belongs here."
        )?;
        writeln!(text, "demonstration = true")?;
    }
    if cluster.beyond {
        writeln!(text, "# More of them lie than it survives.\nbeyond = true")?;
    }
    write_service(cluster, text)?;
    for replica in &cluster.replicas {
        writeln!(text, "\n[[replica]]\nid = {}", replica.id)?;
        writeln!(text, "address = \"{}\"", replica.address)?;
        if let Some(admin) = &replica.admin {
            writeln!(text, "admin = \"{admin}\"")?;
        }
        writeln!(text, "identity = \"{}\"", replica.identity)?;
        writeln!(text, "voting = \"{}\"", replica.voting)?;
        if let Some(lie) = replica.liar {
            writeln!(text, "liar = \"{}\"", lie.name())?;
        }
    }
    for gateway in &cluster.gateways {
        writeln!(text, "\n[[gateway]]\nid = {}", gateway.id)?;
        writeln!(text, "key = \"{}\"", gateway.key)?;
        if let Some(address) = &gateway.address {
            writeln!(text, "address = \"{address}\"")?;
        }
        if let Some(admin) = &gateway.admin {
            writeln!(text, "admin = \"{admin}\"")?;
        }
    }
    Ok(())
}

fn write_service(cluster: &Cluster, text: &mut String) -> std::fmt::Result {
    let (quota, compaction) =
        (Bytes(cluster.service.quota), Compaction(cluster.service.compaction));
    writeln!(
        text,
        "\n# What every replica and gateway begins with. It cannot change once there is data.\n\
         [service]\n\
         # How many bytes the store may hold, history included; whatever would make it grow beyond is refused, and\n\
         # deletions and compactions are not. Each replica and gateway holds the store in memory, at worst three times\n\
         # at once (the second and third while a checkpoint is written or handed out), and 256 MiB beside it. The quota\n\
         # is chosen so that all of them on a machine take three quarters of its memory at most, and is never chosen\n\
         # above 2GiB: (memory * 3/4 / processes - 256MiB) / 3. From 16MiB to 8GiB.\n\
         quota = \"{quota}\"\n\
         # What history is forgotten by itself: \"off\", all but \"revisions=10000\", or what is older than \"period=1h\".\n\
         auto-compaction = \"{compaction}\""
    )
}
