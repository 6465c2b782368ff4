//! `testudo evidence verify`: files judged with public keys alone.

use super::court::{Court, Finding};
use super::{finding_json, unreadable};
use crate::cli::VerifyEvidence;
use crate::cluster::Cluster;
use crate::failure::{Exit, Outcome, plain};
use crate::say;
use serde_json::{Value, json};
use std::path::Path;
use testudo_core::limits;
use testudo_runtime::{KeptEvidence, read_evidence};

/// Bytes of a file that may be evidence: two frames at most, what names them, and what led to their epoch. Each epoch adds
/// a few thousand.
const FILE_BYTES: u64 = 2 * limits::FRAME_BYTES as u64 + (64 << 20);

/// Judges all files, prints what comes of it, and gives the code to exit with: 0 when all convict, 1 when one does not,
/// 2 when one cannot be read.
pub(super) fn run(flags: &VerifyEvidence) -> Outcome<u8> {
    let cluster = Cluster::load(&flags.cluster).map_err(unreadable)?;
    let court = Court::of(&cluster).map_err(unreadable)?;
    let mut code = 0;
    let mut shown = Vec::new();
    for path in &flags.files {
        let file = path.display().to_string();
        let found = read(path).map(|kept| court.judge(&kept));
        code = code.max(match &found {
            Ok(finding) if finding.acquittal.is_none() => 0,
            Ok(_) => 1,
            Err(_) => Exit::Refused as u8,
        });
        if flags.json {
            shown.push(json(&file, &found));
        } else {
            print(&file, &found);
        }
    }
    if flags.json {
        say::out(format_args!("{:#}", Value::Array(shown)));
    }
    Ok(code)
}

/// Reads a file of evidence. The error is a clause about the file.
pub(super) fn read(path: &Path) -> Result<KeptEvidence, String> {
    let about =
        std::fs::metadata(path).map_err(|error| format!("cannot be read: {}", plain(&error)))?;
    if !about.is_file() || about.len() > FILE_BYTES {
        return Err("is no file of evidence".into());
    }
    read_evidence(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::InvalidData => format!("is no file of evidence ({error})"),
        _ => format!("cannot be read: {}", plain(&error)),
    })
}

fn json(file: &str, found: &Result<Finding, String>) -> Value {
    match found {
        Ok(finding) => {
            let mut value = finding_json(finding);
            value["file"] = file.into();
            value
        }
        Err(error) => json!({ "file": file, "convicted": null, "error": error }),
    }
}

fn print(file: &str, found: &Result<Finding, String>) {
    let finding = match found {
        Ok(finding) => finding,
        Err(error) => {
            say::err(format_args!("{file} {error}"));
            return;
        }
    };
    let (accused, offence) = (finding.accused, &finding.offence);
    let verdict = match finding.acquittal {
        None if finding.epoch > 0 => {
            let epoch = finding.epoch;
            format!(
                "replica {accused} is CONVICTED of {offence} by what it signed in epoch {epoch}"
            )
        }
        None => format!("replica {accused} is CONVICTED of {offence} by what it signed"),
        Some(_) => format!("this does not convict replica {accused} of {offence}"),
    };
    say::out(format_args!("{file}: {verdict}"));
    say::out(format_args!("  why: {}", finding.why()));
    for (place, statement) in finding.statements.iter().enumerate() {
        let said = match &statement.error {
            Some(error) => format!("not to be believed: {error}"),
            None => format!("{}, {}", statement.kind, statement.says),
        };
        let (number, digits) = (place + 1, statement.digest.get(..8).unwrap_or_default());
        say::out(format_args!(
            "  statement {number} ({} bytes, digest {digits}): {said}",
            statement.bytes
        ));
        if let Some(body) = &statement.body {
            say::out(format_args!("    body {body}"));
        }
    }
}
