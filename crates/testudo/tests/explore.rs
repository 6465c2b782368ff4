//! Small configurations from the command line, seen to the last or as far as was asked.

mod support;

use serde_json::Value;
use support::{said, testudo};

fn explored(flags: &[&str]) -> Value {
    let output = testudo(&[&["explore", "--json"], flags].concat());
    assert!(output.status.success(), "{flags:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).expect("it is one JSON object")
}

#[test]
fn a_small_configuration_is_seen_to_the_last() {
    let calm = explored(&["--late", "0"]);
    assert_eq!((&calm["exhausted"], &calm["violation"]), (&true.into(), &Value::Null));
    assert!(calm["states"].as_u64() > Some(10), "{calm}");
    let lossy = explored(&["--late", "0", "--losses", "1"]);
    assert!(lossy["states"].as_u64() > calm["states"].as_u64(), "{lossy}");
    assert_eq!(lossy["violation"], Value::Null);
}

#[test]
fn bounds_are_told() {
    let few = explored(&["--late", "any", "--states", "40"]);
    assert_eq!((&few["stop"], &few["exhausted"]), (&"states".into(), &false.into()));
    let shallow = explored(&["--late", "any", "--depth", "4"]);
    assert_eq!((&shallow["stop"], &shallow["depth"]), (&"depth".into(), &4.into()));
    let told = testudo(&["explore", "--late", "0", "--liars", "1", "--states", "300"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.starts_with("bounds: 1 inputs") && told.contains("3 lies, 0 late"), "{told}");
}

#[test]
fn what_does_not_fit_is_refused() {
    for (flags, what) in [
        (&["--late", "soon"][..], "or any for every order"),
        (&["--operations", "27"], "27"),
        (&["--liars", "2"], "2"),
        (&["--protocol", "paxo"], "there is no protocol `paxo`"),
    ] {
        let output = testudo(&[&["explore"], flags].concat());
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {said}");
        assert!(said.contains(what) && said.trim_end().lines().count() == 1, "{flags:?}: {said}");
    }
}
