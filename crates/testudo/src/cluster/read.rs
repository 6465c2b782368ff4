//! From text to cluster.

use super::fields::Fields;
use super::service::{read_compaction, read_quota};
use super::{Address, Cluster, FORMAT, Gateway, Replica};
use crate::failure::{Failure, Outcome};
use crate::lying::Lie;
use crate::words;
use std::path::Path;
use testudo_core::{ClusterId, PublicKey};
use testudo_kv::Settings;

/// Reads a cluster file's text. What it means together is checked by [`Cluster::check`].
pub(super) fn read(file: &Path, text: &str) -> Outcome<Cluster> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| {
            let before = text.as_bytes().iter().take(span.start);
            before.filter(|byte| **byte == b'\n').count() + 1
        });
        let what = error.message().replace('\n', "; ");
        Failure::refused(format!(
            "{}, line {line}: this is no TOML ({what}); mend it or take another copy",
            file.display()
        ))
    })?;
    let fields = Fields::of(file, &table);
    // The version comes first: what other fields there may be depends on it.
    let format = fields.version("format")?;
    if format != FORMAT {
        return Err(fields.refuse(&format!(
            "its format is {format}, and this program reads format {FORMAT}; \
             use the version of testudo that wrote it"
        )));
    }
    fields.only(&[
        "format",
        "cluster",
        "protocol",
        "faults",
        "demonstration",
        "beyond",
        "service",
        "replica",
        "gateway",
    ])?;
    let cluster = Cluster {
        id: fields.read("cluster", |text| bytes(text).map(ClusterId))?,
        protocol: fields.text("protocol")?.to_owned(),
        faults: fields.number("faults")?,
        demonstration: fields.flag("demonstration")?,
        beyond: fields.flag("beyond")?,
        service: service(&fields.table("service")?)?,
        replicas: numbered(
            fields.tables("replica", "replica")?.iter().map(replica).collect::<Outcome<_>>()?,
            |replica| replica.id,
            &fields,
            "replica",
        )?,
        gateways: numbered(
            fields.tables("gateway", "gateway")?.iter().map(gateway).collect::<Outcome<_>>()?,
            |gateway| gateway.id,
            &fields,
            "gateway",
        )?,
    };
    Ok(cluster)
}

fn service(fields: &Fields<'_>) -> Outcome<Settings> {
    fields.only(&["quota", "auto-compaction"])?;
    Ok(Settings {
        quota: fields.read("quota", read_quota)?,
        compaction: fields.read("auto-compaction", read_compaction)?,
    })
}

fn replica(fields: &Fields<'_>) -> Outcome<Replica> {
    fields.only(&["id", "address", "admin", "identity", "voting", "liar"])?;
    Ok(Replica {
        id: fields.number("id")?,
        address: fields.read("address", Address::read)?,
        admin: fields.read_if_any("admin", Address::read)?,
        identity: fields.read("identity", key)?,
        voting: fields.read("voting", key)?,
        liar: fields.read_if_any("liar", |text| {
            Lie::named(text).ok_or_else(|| {
                format!("is no way of lying; there are {}", words::list(&Lie::ALL.map(Lie::name)))
            })
        })?,
    })
}

fn gateway(fields: &Fields<'_>) -> Outcome<Gateway> {
    fields.only(&["id", "key", "address", "admin"])?;
    Ok(Gateway {
        id: fields.number("id")?,
        key: fields.read("key", key)?,
        address: fields.read_if_any("address", Address::read)?,
        admin: fields.read_if_any("admin", Address::read)?,
    })
}

/// Sorts by id, and refuses ids that are there twice or leave a gap.
fn numbered<T>(
    mut items: Vec<T>,
    id: impl Fn(&T) -> u16,
    fields: &Fields<'_>,
    what: &str,
) -> Outcome<Vec<T>> {
    items.sort_by_key(&id);
    for (index, item) in items.iter().enumerate() {
        let (id, place) = (usize::from(id(item)), index);
        if id < place {
            return Err(fields.refuse(&format!(
                "there are two {what}s with the id {id}; number them from 0, each once"
            )));
        }
        if id > place {
            return Err(fields.refuse(&format!(
                "there is a {what} with the id {id}, but none with the id {place}; \
                 number them from 0 without a gap"
            )));
        }
    }
    Ok(items)
}

fn key(text: &str) -> Result<PublicKey, String> {
    testudo_keys::parse_public_key(text).map_err(|_| {
        "is no public key, which is 64 hexadecimal digits; copy it from where it was made again"
            .into()
    })
}

/// Hexadecimal digits, two for each byte.
fn bytes<const N: usize>(text: &str) -> Result<[u8; N], String> {
    words::unhex(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| format!("is not {} hexadecimal digits", 2 * N))
}
