//! The summary for people.

use super::claim::{Claim, Health};
use super::summary::{Accusation, Comparison, Row, Summary, Verdict};
use crate::words;
use comfy_table::{Table, presets};
use std::fmt::Write as _;

/// Digits of a digest that are shown.
const DIGITS: usize = 8;

/// A table of all replicas, and a sentence or two.
pub(super) fn table(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "replica",
        "address",
        "view",
        "role",
        "slot",
        "lag",
        "digest",
        "health",
        "caught lying",
    ]);
    for row in &summary.rows {
        table.add_row(cells(row));
    }
    table.add_row(agreed(summary));
    let mut text = table.trim_fmt();
    // Writing to a string does not fail.
    let _ = write!(text, "\n\n{}", sentences(summary));
    text
}

fn cells(row: &Row) -> [String; 9] {
    let id = row.id.to_string();
    let caught: Vec<String> = row
        .caught
        .iter()
        .map(|(offence, Accusation { by, is_proved })| {
            let what = if *is_proved { "evidence" } else { "no proof" };
            let by: Vec<String> = by.iter().map(ToString::to_string).collect();
            format!("{offence} ({what} at {})", by.join(", "))
        })
        .collect();
    let caught = if caught.is_empty() { "-".into() } else { caught.join("; ") };
    match &row.claim {
        Err(why) => {
            let none = || "-".to_owned();
            let health = format!("unreachable: {why}");
            [id, row.address.clone(), none(), none(), none(), none(), none(), health, caught]
        }
        Ok(claim) => [
            id,
            row.address.clone(),
            claim.view.to_string(),
            role(claim).into(),
            claim.slot.to_string(),
            row.lag.to_string(),
            digest(&row.comparison),
            health(claim.health),
            caught,
        ],
    }
}

fn role(claim: &Claim) -> &'static str {
    match (claim.changing_view, claim.primary == claim.replica) {
        (true, _) => "changing view",
        (false, true) => "primary",
        (false, false) => "backup",
    }
}

fn digest(comparison: &Comparison) -> String {
    let short = |digest: &str| digest.chars().take(DIGITS).collect::<String>();
    match comparison {
        Comparison::Equal(at) => format!("{} equal", short(&at.digest)),
        Comparison::Differs(at) => format!("{} DIFFERS at {}", short(&at.digest), at.slot),
        Comparison::Unknown => "not comparable".into(),
    }
}

fn health(health: Health) -> String {
    match health {
        Health::Well => "well".into(),
        Health::Diverged(slot) => format!("diverged at slot {slot}"),
        Health::Halted(slot) => format!("halted at slot {slot}"),
    }
}

fn agreed(summary: &Summary) -> [String; 9] {
    let agreed = &summary.agreed;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let short = |digest: &str| digest.chars().take(DIGITS).collect::<String>();
    let stable = agreed.stable.as_ref().map(|it| format!("stable at slot {}", it.slot));
    [
        format!("{} agree", summary.faults + 1),
        "-".into(),
        or_none(agreed.view.map(|(view, _)| view.to_string())),
        or_none(agreed.view.map(|(_, primary)| format!("primary {primary}"))),
        or_none(agreed.slot.map(|slot| slot.to_string())),
        "-".into(),
        or_none(agreed.executed.as_ref().map(|at| format!("{} at {}", short(&at.digest), at.slot))),
        or_none(stable),
        "-".into(),
    ]
}

fn sentences(summary: &Summary) -> String {
    let names = |of: &dyn Fn(&&Row) -> bool| -> Vec<String> {
        summary.rows.iter().filter(of).map(|row| row.id.to_string()).collect()
    };
    let weak = summary.faults + 1;
    let mut text = match summary.verdict {
        Verdict::NoQuorum if summary.split.is_some() => format!(
            "At slot {} there are two histories, with {weak} replicas or more behind each: \
             more of them lie than the {} that this cluster survives.",
            summary.split.unwrap_or_default(),
            summary.faults
        ),
        Verdict::Well => "All replicas are well and agree.".to_owned(),
        Verdict::Amiss => "The cluster can answer, but something is amiss.".to_owned(),
        Verdict::NoQuorum => format!(
            "No quorum: {} of {} replicas must be well and agree before anything is answered.",
            summary.quorum,
            summary.rows.len()
        ),
    };
    let lists = [
        ("unreachable", names(&|row| row.claim.is_err())),
        (
            "differing from the others",
            names(&|row| matches!(row.comparison, Comparison::Differs(_))),
        ),
        (
            "too far behind to compare",
            names(&|row| row.claim.is_ok() && row.comparison == Comparison::Unknown),
        ),
        ("caught lying", names(&|row| row.is_convicted())),
        (
            "accused by too few to convict",
            names(&|row| !row.is_convicted() && !row.caught.is_empty()),
        ),
    ];
    for (what, who) in lists.iter().filter(|(_, who)| !who.is_empty()) {
        let who: Vec<&str> = who.iter().map(String::as_str).collect();
        let replicas = if who.len() == 1 { "Replica" } else { "Replicas" };
        let _ = write!(text, "\n{replicas} {what}: {}.", words::list(&who));
    }
    text
}
