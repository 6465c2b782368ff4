//! Key files: what is written is read back, and whatever else is in a file is refused with a sentence.

use proptest::prelude::*;
use std::fs;
use testudo_core::Incarnation;
use testudo_keys::{NodeKey, parse_public_key};

const IDENTITY: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const VOTING: &str = "02020202020202020202020202020202020202020202020202020202020202Ff";

fn text() -> String {
    format!("version = 1\nincarnation = 3\nidentity = \"{IDENTITY}\"\nvoting = \"{VOTING}\"\n")
}

fn error(text: &str) -> String {
    NodeKey::parse(text.as_bytes()).expect_err("malformed").to_string()
}

#[test]
fn what_is_written_is_read_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.key");
    let key = NodeKey::generate().expect("randomness");
    key.write_new(&path).expect("written");
    let read = NodeKey::read(&path).expect("read");
    assert_eq!(read.member(), key.member());
    assert_eq!(read.incarnation, Incarnation(0));
    assert_ne!(key.member().identity, key.member().voting);

    let taken = key.write_new(&path).expect_err("never overwritten").to_string();
    assert!(taken.starts_with(&format!("key file {}: ", path.display())), "{taken}");

    let next = key.next_incarnation().expect("randomness");
    next.replace(&path).expect("replaced");
    let read = NodeKey::read(&path).expect("read");
    assert_eq!(read.member(), next.member());
    assert_eq!(read.incarnation, Incarnation(1));
    assert_eq!(read.member().identity, key.member().identity);
    assert_ne!(read.member().voting, key.member().voting);

    let names: Vec<_> = fs::read_dir(directory.path()).expect("listed").collect();
    assert_eq!(names.len(), 1, "nothing is left beside the key file");
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("node.key");
    NodeKey::generate().expect("randomness").write_new(&path).expect("written");
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    for mode in [0o644, 0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        let refusal = NodeKey::read(&path).expect_err("exposed").to_string();
        let path = path.display();
        assert_eq!(
            refusal,
            format!(
                "key file {path} is open to others than its owner (mode {mode:04o}); `chmod 600 {path}` closes it, but who may have read it may sign in this node's name"
            )
        );
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
    assert!(NodeKey::read(&path).is_ok());
}

#[test]
fn a_missing_file_is_named() {
    let path = std::path::Path::new("/nowhere/node.key");
    let missing = NodeKey::read(path).expect_err("missing").to_string();
    assert!(missing.starts_with("key file /nowhere/node.key: "), "{missing}");
}

#[test]
fn comments_blanks_and_order_do_not_matter() {
    let key = NodeKey::parse(text().as_bytes()).expect("well-formed");
    assert_eq!(key.incarnation, Incarnation(3));
    let shuffled = format!(
        "\n# a comment\r\n voting=\"{VOTING}\" \nidentity =\"{IDENTITY}\"\n\nincarnation= 3\nversion = 1"
    );
    let again = NodeKey::parse(shuffled.as_bytes()).expect("well-formed");
    assert_eq!(again.member(), key.member());
}

#[test]
fn every_error_is_a_sentence() {
    let without = |name: &str| {
        text().lines().filter(|line| !line.starts_with(name)).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(error(&without("version")), "it does not say which version it has");
    assert_eq!(error(&without("incarnation")), "the incarnation is missing");
    assert_eq!(error(&without("identity")), "the identity key is missing");
    assert_eq!(error(&without("voting")), "the voting key is missing");
    assert_eq!(
        error(&text().replace("version = 1", "version = 2")),
        "its version is not 1, the only one that this program knows"
    );
    assert_eq!(
        error(&text().replace("incarnation = 3", "incarnation = -3")),
        "line 2: the value is not a number"
    );
    for bad in [&IDENTITY[1..], &IDENTITY[2..], "x", "", &IDENTITY.replace('0', "g")] {
        assert_eq!(
            error(&text().replace(IDENTITY, bad)),
            "line 3: the value is not 64 hexadecimal digits between quotation marks"
        );
    }
    assert_eq!(
        error(&text().replace(VOTING, IDENTITY)),
        "the identity key and the voting key are the same"
    );
    assert_eq!(error(&(text() + &text())), "line 5: this field was given before");
    assert_eq!(error(&(text() + "colour = 7")), "line 5: a key file has no field of that name");
    assert_eq!(error(&(text() + "colour")), "line 5: it is not of the form name = value");
    assert_eq!(error(&" ".repeat(5000)), "it is longer than any key file");
    let binary = NodeKey::parse(&[0xff, 0xfe]).expect_err("binary").to_string();
    assert_eq!(binary, "it is not UTF-8 text");
}

#[test]
fn public_keys_are_read_as_they_are_printed() {
    let key = NodeKey::generate().expect("randomness").member().identity;
    assert_eq!(parse_public_key(&key.to_string()), Ok(key));
    for bad in ["", "00", &key.to_string()[1..], &format!("{key}0"), &format!(" {key}"), "é"] {
        let error = parse_public_key(bad).expect_err("malformed").to_string();
        assert_eq!(error, "a public key is 64 hexadecimal digits");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text: Vec<u8>) {
        let _ = NodeKey::parse(&text);
    }
}
