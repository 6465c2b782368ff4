//! `testudo evidence list`: what sets of evidence there are, in data folders on this machine or as replicas show them.

use super::court::{Court, Finding};
use super::verify::read;
use super::{finding_json, unreadable};
use crate::cli::{self, ListEvidence};
use crate::cluster::{self, Cluster};
use crate::failure::{Failure, Outcome};
use crate::say;
use crate::status;
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One set of evidence, where it was found.
struct Found {
    /// A file, or who shows it.
    place: String,
    /// What it comes to, as far as it can be judged.
    what: What,
}

enum What {
    /// It was judged.
    Judged(Finding),
    /// It accuses this replica of this; it was not judged, for this reason.
    Unjudged(u16, String, &'static str),
    /// It is none.
    Unreadable(String),
}

/// Prints all that is found.
pub(super) fn run(flags: &ListEvidence) -> Outcome {
    let found = match (&flags.data, &flags.cluster) {
        (None, Some(file)) => ask(&Cluster::load(file).map_err(unreadable)?)?,
        (data, file) => {
            let data = data.clone().unwrap_or_else(|| PathBuf::from(cli::DATA));
            let file =
                file.clone().or_else(|| Some(data.join(cluster::FILE)).filter(|it| it.exists()));
            let cluster = file.map(|it| Cluster::load(&it).map_err(unreadable)).transpose()?;
            search(&data, cluster.as_ref())?
        }
    };
    if flags.json {
        say::out(format_args!("{:#}", Value::Array(found.iter().map(Found::json).collect())));
    } else if found.is_empty() {
        say::out(format_args!("No evidence against any replica."));
    } else {
        say::out(format_args!("{}", table(&found)));
    }
    Ok(())
}

/// The files in a data folder: of one replica, or of all those of an `up`.
fn search(data: &Path, cluster: Option<&Cluster>) -> Outcome<Vec<Found>> {
    let court = cluster.map(Court::of).transpose()?;
    let mut files = BTreeSet::new();
    let entries =
        std::fs::read_dir(data).map_err(|error| unreadable(Failure::file("read", data, &error)))?;
    let inner = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    for folder in std::iter::once(data.to_owned()).chain(inner) {
        // Most folders have none.
        let Ok(entries) = std::fs::read_dir(folder.join(testudo_runtime::EVIDENCE_FOLDER)) else {
            continue;
        };
        let paths = entries.flatten().map(|entry| entry.path());
        files.extend(paths.filter(|path| path.extension().is_some_and(|kind| kind == "evidence")));
    }
    let judge = |path: PathBuf| {
        let what = match (read(&path), &court) {
            (Err(error), _) => What::Unreadable(error),
            (Ok(kept), Some(court)) => What::Judged(court.judge(&kept)),
            (Ok(kept), None) => What::Unjudged(
                kept.evidence.accused.0,
                word(&kept.evidence.offence),
                "give --cluster to check it",
            ),
        };
        Found { place: path.display().to_string(), what }
    };
    Ok(files.into_iter().map(judge).collect())
}

/// What the replicas of a cluster show on their admin ports.
fn ask(cluster: &Cluster) -> Outcome<Vec<Found>> {
    let court = Court::of(cluster)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start: {error}")))?;
    let claims = runtime.block_on(status::ask_all(cluster));
    if claims.iter().all(Result::is_err) {
        return Err(Failure::no_quorum("no replica answers; `testudo status` shows why"));
    }
    let mut found = Vec::new();
    for claim in claims.into_iter().flatten() {
        for caught in &claim.caught {
            let what = match caught.read() {
                Some(kept) => What::Judged(court.judge(&kept)),
                None => What::Unjudged(
                    caught.accused,
                    caught.offence.clone(),
                    "it is not shown; look into that replica's data folder",
                ),
            };
            found.push(Found { place: format!("replica {}", claim.replica), what });
        }
    }
    Ok(found)
}

fn word(offence: &str) -> String {
    offence.chars().filter(|it| !it.is_control()).take(40).collect()
}

impl Found {
    fn json(&self) -> Value {
        let mut value = match &self.what {
            What::Judged(finding) => finding_json(finding),
            What::Unjudged(accused, offence, why) => {
                json!({ "accused": accused, "offence": offence, "convicted": null, "why": why })
            }
            What::Unreadable(error) => json!({ "convicted": null, "error": error }),
        };
        value["at"] = self.place.as_str().into();
        value
    }

    fn cells(&self) -> [String; 4] {
        let (accused, offence, verdict) = match &self.what {
            What::Judged(finding) => {
                let verdict = match &finding.acquittal {
                    None => "convicts".to_owned(),
                    Some(why) => format!("does not convict: {why}"),
                };
                (finding.accused.to_string(), finding.offence.clone(), verdict)
            }
            What::Unjudged(accused, offence, why) => {
                (accused.to_string(), offence.clone(), format!("not checked: {why}"))
            }
            What::Unreadable(error) => ("-".into(), "-".into(), error.clone()),
        };
        [accused, offence, verdict, self.place.clone()]
    }
}

fn table(found: &[Found]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["accused", "offence", "verdict", "kept at"]);
    for found in found {
        table.add_row(found.cells());
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::super::court::tests::{cluster, evidence, vote};
    use super::*;
    use testudo_core::Encode as _;

    #[test]
    fn all_folders_of_a_cluster_are_searched() {
        let cluster = cluster();
        let data = tempfile::tempdir().unwrap();
        let good = evidence(2, vec![vote(&cluster, 2, "a"), vote(&cluster, 2, "b")]);
        for (replica, bytes) in [
            (0, [&[testudo_core::limits::FORMAT_VERSION], &good.evidence.to_bytes()[..]].concat()),
            (3, b"nothing of ours".to_vec()),
        ] {
            let folder = data.path().join(format!("replica-{replica}/evidence"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("some.evidence"), bytes).unwrap();
            std::fs::write(folder.join("some.tmp"), b"half").unwrap();
        }
        let found = search(data.path(), Some(&cluster)).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].json()["convicted"], true);
        assert_eq!(found[0].json()["accused"], 2);
        assert!(found[1].json()["error"].as_str().unwrap().contains("no file of evidence"));
        let alone = search(&data.path().join("replica-0"), None).unwrap();
        assert_eq!(alone.len(), 1);
        assert!(alone[0].json()["convicted"].is_null());
        let text = table(&found);
        assert!(text.contains("equivocation") && text.contains("convicts"), "{text}");
        assert!(search(&data.path().join("nowhere"), None).is_err());
    }
}
