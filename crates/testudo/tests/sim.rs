//! Seeds from the command line: one seed is one run, whoever runs it, and parts make a whole.

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{TESTUDO, eventually, folder, path, said, signal, testudo};

/// Runs the simulator, and gives its report.
fn report(flags: &[&str]) -> Value {
    let output = testudo(&[&["sim", "--json"], flags].concat());
    assert!(output.status.success(), "{flags:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).expect("it is one JSON object")
}

/// What of a report does not depend on the machine.
fn substance(mut report: Value) -> Value {
    let object = report.as_object_mut().expect("it is an object");
    for word in ["wall_milliseconds", "jobs"] {
        assert!(object.remove(word).is_some(), "{word}");
    }
    report
}

fn refused(flags: &[&str], what: &str) {
    let output = testudo(&[&["sim"], flags].concat());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
    assert!(said.contains(what) && said.trim_end().lines().count() == 1, "{flags:?}: {said}");
    assert!(output.stdout.is_empty());
}

fn write(folder: &Path, name: &str, report: &Value) -> String {
    let file = folder.join(name);
    std::fs::write(&file, report.to_string()).expect("it can be written");
    path(&file)
}

#[test]
fn parts_make_the_whole() {
    let whole = report(&["--seeds", "3..7", "--jobs", "2"]);
    assert_eq!(whole["runs"], 4);
    assert_eq!(whole["done"], serde_json::json!([{"from": 3, "to": 7}]));
    assert_eq!(whole["failed"], 0);
    assert!(whole["counts"]["slots executed"].as_u64() > Some(100));
    assert_eq!(whole["coverage"]["judged"], false, "four runs prove nothing");
    let part = |shard: &str| report(&["--seeds", "3..7", "--jobs", "1", "--shard", shard]);
    let (first, second) = (part("0/2"), part("1/2"));
    assert_eq!(first["runs"], 2);
    let folder = folder();
    let (one, two) =
        (write(folder.path(), "0.json", &first), write(folder.path(), "1.json", &second));
    let merged = report(&["--merge", &two, &one]);
    assert_eq!(substance(merged), substance(whole));

    refused(&["--merge", &one, &one], "which");
    refused(&["--merge", &one], "nobody ran the seeds 5..7");
    refused(&["--merge", &two], "nobody ran the seeds 3..5");
    let mut other = second.clone();
    other["build"] = "another".into();
    let other = write(folder.path(), "other.json", &other);
    refused(&["--merge", &one, &other], "its build is another");
    let mut more = second;
    more["runs"] = 3.into();
    let more = write(folder.path(), "more.json", &more);
    refused(&["--merge", &one, &more], "tells of 3 runs");
    let empty = write(folder.path(), "empty.json", &Value::Null);
    refused(&["--merge", &empty], "is no report");
}

#[test]
fn one_seed_is_one_run() {
    let once = report(&["--seeds", "11..12"]);
    let twice = report(&["--seeds", "11..12", "--twice"]);
    assert_eq!(once["audit"], twice["audit"]);
    assert_eq!(once["failed"], 0);
    let other = report(&["--seeds", "12..13"]);
    assert_ne!(once["audit"], other["audit"]);
    let folder = folder();
    let page = folder.path().join("11.html");
    let output = testudo(&["sim", "--replay", "11", "--diagram", &path(&page)]);
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && shown.starts_with("seed 11 ("), "{shown}");
    assert!(shown.contains("view changes"), "{shown}");
    assert!(shown.contains("steps done again: the same"), "{shown}");
    let audit = shown.lines().next().and_then(|line| line.rsplit(", ").next()).expect("a line");
    assert_eq!(audit.len(), 32, "{audit}");
    let page = std::fs::read_to_string(page).expect("it was drawn");
    assert!(page.contains("<svg") && page.contains("Seed 11 of pbft"));
    let unmade = path(&folder.path().join("unmade.html"));
    refused(&["--replay", "11", "--shrink", "--diagram", &unmade], "seed 11 has not failed");
    assert!(!Path::new(&unmade).exists(), "nothing was drawn");
}

#[test]
fn only_what_is_asked_for_goes_wrong() {
    let calm = report(&["--seeds", "0..1", "--faults", "none"]);
    assert_eq!(calm["coverage"]["faults"], serde_json::json!({}));
    assert_eq!(calm["faults"], "none");
    assert!(calm["counts"].get("messages lost").is_none());
    assert!(calm["answered"].as_u64() >= Some(200));
    let lossy = report(&["--seeds", "0..2", "--faults", "loss"]);
    assert!(lossy["coverage"]["faults"]["network"]["loss"].as_u64() > Some(0));
    assert!(lossy["counts"].get("messages doubled").is_none());
    let table = testudo(&["sim", "--seeds", "0..1", "--faults", "loss,silent"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("What went wrong, as asked for:\n network  loss"), "{table}");
    assert!(table.contains("liars    silent"), "{table}");
}

#[test]
fn what_does_not_fit_is_refused() {
    refused(&["--faults", "crash,twin"], "there is no fault `twin`; did you mean `twins`?");
    refused(&["--protocol", "paxo"], "there is no protocol `paxo`");
    refused(&["--seeds", "9..9"], "there is no seed in 9..9");
    refused(&["--seeds", "ten"], "write 0..1000");
    refused(&["--seeds", "0..9", "--shard", "2/2"], "counted from 0");
    refused(&["--shard", "0/2"], "--seeds");
    refused(&["--for", "10m", "--seeds", "0..9"], "cannot be used with");
    refused(&["--for", "soon"], "write 30s, 10m or 2h");
    refused(&["--jobs", "0"], "--jobs");
    refused(&["--shrink"], "--replay");
    refused(&["--diagram", "x.html"], "--replay");
    refused(&["--merge", "nowhere.json", "--seeds", "0..9"], "cannot be used with");
    refused(&["--merge", "nowhere.json", "--faults", "crash"], "cannot be used with");
    refused(&["--merge", "nowhere.json", "--protocol", "pbft"], "cannot be used with");
    refused(&["--merge", "nowhere.json"], "cannot read nowhere.json: no such file");
    refused(&["--for", "10sss"], "write 30s, 10m or 2h");
    refused(&["--seeds", "0..9", "--shard", "0/0"], "at least 1 part");
    let nowhere = path(&folder().path().join("no/such/page.html"));
    refused(&["--replay", "11", "--diagram", &nowhere], "cannot write");
}

#[test]
fn an_interrupt_ends_it_with_a_report() {
    let child = Command::new(TESTUDO)
        .args(["sim", "--for", "2h", "--jobs", "1", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the command runs");
    let pid = child.id();
    eventually("it catches the signal", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).ok()?;
        (caught & 1 << 1 > 0).then_some(())
    });
    signal(pid, "INT");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let report: Value = serde_json::from_slice(&output.stdout).expect("it is one JSON object");
    assert_eq!(report["interrupted"], true);
    assert_eq!(report["seeds"], Value::Null);
}
