//! The summary for people.

use super::claim::{Claim, Comeback, Disk, Halt, Health, Standing, Transfer};
use super::gateway;
use super::summary::{Accusation, Comparison, Row, Summary, Verdict};
use crate::cluster::service::Bytes;
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
        "epoch",
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
    if !summary.gateways.is_empty() {
        text.push_str("\n\n");
        text.push_str(&gateways(summary));
    }
    // Writing to a string does not fail.
    let _ = write!(text, "\n\n{}", sentences(summary));
    text
}

/// A table of the gateways.
fn gateways(summary: &Summary) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header([
        "gateway",
        "etcd",
        "follows",
        "slot",
        "lag",
        "revision",
        "keys",
        "bytes of quota",
        "leases",
        "watches",
    ]);
    for row in &summary.gateways {
        let lag = summary.gateway_lag(row).map(|lag| lag.to_string());
        table.add_row(gateway_cells(row, lag));
    }
    table.trim_fmt()
}

fn gateway_cells(row: &gateway::Row, lag: Option<String>) -> [String; 10] {
    let none = || "-".to_owned();
    let or_none = |number: Option<String>| number.unwrap_or_else(none);
    let claim = match &row.claim {
        Ok(claim) => claim,
        Err(why) => {
            let mut cells = std::array::from_fn(|_| none());
            cells[0] = row.id.to_string();
            cells[2] = format!("unreachable: {why}");
            return cells;
        }
    };
    let follows = match claim.standing {
        gateway::Standing::Following(upstream) => format!("replica {upstream}"),
        gateway::Standing::Fetching => "fetches the state".to_owned(),
        gateway::Standing::Diverged(slot) => {
            format!("DIVERGED at slot {slot}, and answers nothing")
        }
    };
    let store = claim.store.as_ref();
    let space = store.map(|store| {
        let full = if store.is_full { ", NOSPACE" } else { "" };
        let percent = store.bytes.saturating_mul(100) / store.quota.max(1);
        let megabytes = store.bytes as f64 / 1e6;
        let digits = usize::from(megabytes < 10.0);
        format!("{megabytes:.digits$} MB of {} ({percent}%{full})", Bytes(store.quota))
    });
    [
        row.id.to_string(),
        claim.etcd.clone(),
        follows,
        claim.slot.to_string(),
        or_none(lag),
        or_none(store.map(|store| store.revision.to_string())),
        or_none(store.map(|store| store.keys.to_string())),
        or_none(space),
        or_none(store.and_then(|store| store.leases).map(|it| it.to_string())),
        or_none(row.watches.map(|it| it.to_string())),
    ]
}

fn cells(row: &Row) -> [String; 10] {
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
            [
                id,
                row.address.clone(),
                none(),
                none(),
                none(),
                none(),
                none(),
                none(),
                health,
                caught,
            ]
        }
        Ok(claim) => [
            id,
            row.address.clone(),
            claim.epoch.to_string(),
            claim.view.to_string(),
            role(claim).into(),
            claim.slot.to_string(),
            row.lag.to_string(),
            digest(&row.comparison),
            health(claim),
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

fn health(claim: &Claim) -> String {
    let health = match claim.health {
        Health::Well => "well".into(),
        Health::Behind(slot) => format!("behind at slot {slot}, fetches the state"),
        Health::Diverged(slot) => format!("diverged at slot {slot}"),
        Health::Halted(slot) => format!("halted at slot {slot}"),
    };
    let mut notes = Vec::new();
    notes.extend(claim.halt.as_ref().map(Halt::words));
    match claim.standing {
        Standing::Voting => {}
        Standing::Joining => notes.push("joining".to_owned()),
        Standing::Forgotten => notes.push(forgotten(claim)),
        Standing::Stopped => notes.push("its epoch has ended".to_owned()),
    }
    match claim.incarnation {
        0 => {}
        1 => notes.push("came back once".to_owned()),
        times => notes.push(format!("came back {times} times")),
    }
    if claim.lost_slots > 0 {
        notes.push(format!("does not vote on {} slots that its log has lost", claim.lost_slots));
    }
    if let Some(transfer) = claim.transfer {
        let Transfer { target, fetched_bytes, bytes, .. } = transfer;
        notes.push(format!("fetched {fetched_bytes} bytes of a state of {bytes} at slot {target}"));
    }
    if let Some(healed) = &claim.healed {
        let wrong = match healed.differing {
            Some(entries) => format!(", {entries} entries had been wrong"),
            None => String::new(),
        };
        notes.push(format!("healed at slot {}{wrong}", healed.slot));
    }
    let disk = claim.disk.words();
    if !disk.is_empty() {
        notes.push(format!("disk: {disk}"));
    }
    if notes.is_empty() { health } else { format!("{health} ({})", notes.join("; ")) }
}

/// What one does that has forgotten what it said.
fn forgotten(claim: &Claim) -> String {
    let does = match &claim.comeback {
        Comeback::NotNeeded => Comeback::Follows.words(claim.time),
        comeback => comeback.words(claim.time),
    };
    format!("FORGOTTEN, does not vote: {does}")
}

fn agreed(summary: &Summary) -> [String; 10] {
    let agreed = &summary.agreed;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let short = |digest: &str| digest.chars().take(DIGITS).collect::<String>();
    let stable = agreed.stable.as_ref().map(|it| format!("stable at slot {}", it.slot));
    [
        format!("{} agree", summary.faults + 1),
        "-".into(),
        or_none(agreed.epoch.map(|epoch| epoch.to_string())),
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
    let mut text = headline(summary);
    let cases = cases(summary);
    if summary.verdict == Verdict::NoQuorum {
        let (rows, quorum) = (summary.rows.len(), summary.quorum);
        let count = |is: &dyn Fn(&&Row) -> bool| summary.rows.iter().filter(is).count();
        if count(&has_forgotten) > summary.faults {
            text.push_str(
                " More have forgotten what they promised than come back by themselves: stop all, and see what `testudo recover` \
                 proposes.",
            );
        }
        if count(&has_halted) > rows - quorum {
            text.push_str(
                " So many have halted that none goes on by itself: stop all, and see what `testudo recover` proposes.",
            );
        }
    }
    let astray = summary.gateways.iter().filter(|row| !row.is_well());
    let astray: Vec<String> = astray.map(|row| row.id.to_string()).collect();
    if !astray.is_empty() {
        let astray: Vec<&str> = astray.iter().map(String::as_str).collect();
        let gateways = if astray.len() == 1 { "Gateway that does" } else { "Gateways that do" };
        let _ = write!(text, "\n{gateways} not follow the cluster: {}.", words::list(&astray));
    }
    for (what, who) in cases.iter().filter(|(_, who)| !who.is_empty()) {
        let who: Vec<&str> = who.iter().map(String::as_str).collect();
        let replicas = if who.len() == 1 { "Replica" } else { "Replicas" };
        let _ = write!(text, "\n{replicas} {what}: {}.", words::list(&who));
    }
    text
}

/// How it all is, in one sentence.
fn headline(summary: &Summary) -> String {
    if let Some((first, last)) = summary.barred.filter(|_| summary.split.is_none()) {
        return format!(
            "No quorum can be had: fewer than {} of {} replicas have all that they held on {}, and no view can begin \
             without them. Stop all, and see what `testudo recover` proposes.",
            summary.quorum,
            summary.rows.len(),
            words::slots(first, last)
        );
    }
    let weak = summary.faults + 1;
    match summary.verdict {
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
    }
}

fn has_forgotten(row: &&Row) -> bool {
    row.standing() == Some(Standing::Forgotten)
}

fn has_halted(row: &&Row) -> bool {
    row.claim.as_ref().is_ok_and(|claim| matches!(claim.health, Health::Halted(_)))
}

/// What may be amiss with a replica, and with whom it is.
fn cases(summary: &Summary) -> [(&'static str, Vec<String>); 9] {
    let names = |of: &dyn Fn(&&Row) -> bool| -> Vec<String> {
        summary.rows.iter().filter(of).map(|row| row.id.to_string()).collect()
    };
    [
        ("unreachable", names(&|row| row.claim.is_err())),
        (
            "differing from the others",
            names(&|row| matches!(row.comparison, Comparison::Differs(_))),
        ),
        (
            "too far behind to compare",
            names(&|row| row.claim.is_ok() && row.comparison == Comparison::Unknown),
        ),
        ("that has halted, as no digest of its state can reach a quorum", names(&has_halted)),
        ("that has forgotten what it promised, and only follows", names(&has_forgotten)),
        ("whose disk is slow", names(&|row| row.disk().is_some_and(Disk::is_slow))),
        (
            "that found damage on its disk since it started",
            names(&|row| row.disk().is_some_and(Disk::is_damaged)),
        ),
        ("caught lying", names(&|row| row.is_convicted())),
        (
            "accused by too few to convict",
            names(&|row| !row.is_convicted() && !row.caught.is_empty()),
        ),
    ]
}
