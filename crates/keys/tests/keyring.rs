//! Voting keys in a data folder: a candidate is never one that may have signed, and no key is ever lost, whatever crashes.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use testudo_core::{Digest, Incarnation, Member, PublicKey, Signer as _, Verifier as _};
use testudo_keys::{Ed25519Verifier, KEYS_FOLDER, Keyring, KeyringError, NodeKey};

fn node() -> NodeKey {
    NodeKey::generate().expect("randomness")
}

fn open(key: &NodeKey, data: &Path) -> Keyring {
    Keyring::open(key, data).expect("a keyring")
}

fn file(data: &Path, name: &str) -> PathBuf {
    data.join(KEYS_FOLDER).join(name)
}

fn names(data: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(data.join(KEYS_FOLDER)).expect("listed");
    entries.map(|entry| entry.expect("listed").file_name().into_string().expect("text")).collect()
}

/// The member that this node is when it has come back so often, under its candidate.
fn returned(key: &NodeKey, ring: &Keyring, incarnation: u64) -> Member {
    let voting = ring.candidate().expect("a candidate");
    Member { voting, incarnation: Incarnation(incarnation), ..key.member() }
}

fn refused(key: &NodeKey, data: &Path) -> String {
    Keyring::open(key, data).expect_err("refused").to_string()
}

#[test]
fn a_candidate_becomes_the_voting_key_that_the_membership_names() {
    let (key, data) = (node(), tempfile::tempdir().expect("a directory"));
    let data = data.path();
    let mut ring = open(&key, data);
    let first = key.member();
    assert!(ring.holds(&first.voting) && !ring.holds(&first.identity));
    assert_eq!(ring.last_incarnation(), Incarnation(0));
    assert_eq!(names(data), BTreeSet::from(["candidate".to_owned()]));

    let second = returned(&key, &ring, 1);
    assert!(ring.holds(&second.voting), "it could sign with it");
    assert_eq!(open(&key, data).candidate(), Some(second.voting), "it stays the same");
    let signer = ring.enter(&second).expect("entered");
    assert_eq!((ring.candidate(), ring.last_incarnation()), (None, Incarnation(1)));
    ring.renew().expect("another candidate");
    assert_ne!(ring.candidate(), Some(second.voting));
    let both = ["candidate", "voting-1"].map(str::to_owned);
    assert_eq!(names(data), BTreeSet::from(both));

    let (digest, verifier) = (Digest::of(b"a statement"), Ed25519Verifier::new([]));
    assert!(signer.can_vote());
    assert!(verifier.check(&second.voting, &digest, &signer.sign(&digest)));
    assert!(verifier.check(&second.identity, &digest, &signer.certify(&digest)));

    let mut again = open(&key, data);
    assert_eq!(again.last_incarnation(), Incarnation(1));
    for member in [&first, &second] {
        let signer = again.enter(member).expect("entered");
        assert!(verifier.check(&member.voting, &digest, &signer.sign(&digest)));
    }
    assert_eq!(again.candidate(), ring.candidate());
}

#[test]
fn who_lacks_the_voting_key_signs_nothing_that_counts() {
    let (key, data) = (node(), tempfile::tempdir().expect("a directory"));
    let mut ring = open(&key, data.path());
    let elsewhere = node().member().voting;
    let member = Member { voting: elsewhere, incarnation: Incarnation(3), ..key.member() };
    assert!(!ring.holds(&elsewhere));
    let signer = ring.enter(&member).expect("entered");
    assert!(!signer.can_vote());
    assert_eq!(signer.named(), elsewhere);
    let (digest, verifier) = (Digest::of(b"a statement"), Ed25519Verifier::new([]));
    for public in [elsewhere, key.member().voting, key.member().identity] {
        assert!(!verifier.check(&public, &digest, &signer.sign(&digest)));
    }
    assert!(verifier.check(&key.member().identity, &digest, &signer.certify(&digest)));
    assert_eq!(ring.last_incarnation(), Incarnation(0), "it could not have signed as that");
}

#[test]
fn a_file_that_is_not_what_it_should_be_is_refused_with_what_to_do() {
    let (key, data) = (node(), tempfile::tempdir().expect("a directory"));
    let data = data.path();
    let mut ring = open(&key, data);
    let member = returned(&key, &ring, 1);
    ring.enter(&member).expect("entered");
    ring.renew().expect("renewed");
    for (name, advice) in [
        ("candidate", "remove it, and another one is made"),
        ("voting-1", "comes back under another key by itself"),
    ] {
        let path = file(data, name);
        let whole = fs::read(&path).expect("read");
        let middle = whole.len() - 20;
        let mut rotten = whole.clone();
        rotten[middle] ^= 1;
        for bad in [&whole[..whole.len() / 2], &rotten, b"", b"\xff\xfe", &[b'#'; 5000]] {
            fs::write(&path, bad).expect("written");
            let error = refused(&key, data);
            assert!(error.contains(advice) && error.contains(name), "{error}");
        }
        let secret = String::from_utf8_lossy(&rotten[middle - 10..middle + 10]).into_owned();
        assert!(!refused(&key, data).contains(&secret));
        fs::write(&path, whole).expect("written");
        open(&key, data);
    }
    // Whose folder was copied here?
    let error = refused(&node(), data);
    assert!(error.contains("is a voting key of node"), "{error}");
    // A name that is taken is never overwritten.
    let mut ring = open(&key, data);
    let again = returned(&key, &ring, 1);
    let error = ring.enter(&again).expect_err("taken");
    assert!(matches!(error, KeyringError::Taken { .. }), "{error}");
    assert_eq!(open(&key, data).candidate(), Some(again.voting));
}

#[test]
fn a_folder_that_cannot_be_written_or_read_is_an_error() {
    let (key, data) = (node(), tempfile::tempdir().expect("a directory"));
    fs::write(data.path().join(KEYS_FOLDER), b"no folder").expect("written");
    assert!(refused(&key, data.path()).contains("let this process read and write it"));
    let data = tempfile::tempdir().expect("a directory");
    fs::create_dir_all(file(data.path(), "voting-1")).expect("made");
    assert!(refused(&key, data.path()).contains("voting-1"));
    assert!(refused(&key, &data.path().join("nowhere")).contains("let this process"));
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_them() {
    use std::os::unix::fs::PermissionsExt as _;
    let (key, data) = (node(), tempfile::tempdir().expect("a directory"));
    let data = data.path();
    let mut ring = open(&key, data);
    let member = returned(&key, &ring, 1);
    ring.enter(&member).expect("entered");
    ring.renew().expect("renewed");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&data.join(KEYS_FOLDER)), 0o700);
    for name in ["candidate", "voting-1"] {
        let path = file(data, name);
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("set");
        let error = refused(&key, data);
        assert!(error.contains("mode 0640") && error.contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("set");
    }
    open(&key, data);
}

#[test]
fn a_candidate_that_is_a_copy_of_a_voting_key_is_not_one() {
    let (key, data) = (node(), tempfile::tempdir().expect("a directory"));
    let data = data.path();
    let mut ring = open(&key, data);
    let member = returned(&key, &ring, 1);
    ring.enter(&member).expect("entered");
    fs::copy(file(data, "voting-1"), file(data, "candidate")).expect("copied");
    let ring = open(&key, data);
    assert!(ring.holds(&member.voting));
    assert_ne!(ring.candidate(), Some(member.voting));
}

/// What happens to a node, one after the other.
#[derive(Clone, Debug)]
enum Fate {
    /// The membership names its candidate.
    Returns,
    /// The membership names a key that it does not have.
    Replaced,
    /// It makes another candidate.
    Renews,
    /// It starts again; power was cut after so many bytes of a candidate, if any.
    Restarts(Option<usize>),
    /// Its folder is emptied.
    Wiped,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Returns),
        1 => Just(Fate::Replaced),
        2 => Just(Fate::Renews),
        3 => proptest::option::of(0..400_usize).prop_map(Fate::Restarts),
        1 => Just(Fate::Wiped),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_candidate_has_signed_and_no_key_is_lost(fates in proptest::collection::vec(fate(), 1..12)) {
        let (key, folder) = (node(), tempfile::tempdir().expect("a directory"));
        let data = folder.path();
        let mut ring = open(&key, data);
        // Voting keys that may have signed; those of them that the folder has; and the incarnation.
        let mut used = BTreeSet::from([key.member().voting]);
        let mut held: BTreeSet<PublicKey> = used.clone();
        let mut incarnation = 0;
        for fate in fates {
            match fate {
                Fate::Returns => if let Some(voting) = ring.candidate() {
                    incarnation += 1;
                    let member = returned(&key, &ring, incarnation);
                    prop_assert!(ring.enter(&member).expect("entered").can_vote());
                    used.insert(voting);
                    held.insert(voting);
                },
                Fate::Replaced => {
                    incarnation += 1;
                    let incarnation = Incarnation(incarnation);
                    let member = Member { voting: node().member().voting, incarnation, ..key.member() };
                    prop_assert!(!ring.enter(&member).expect("entered").can_vote());
                }
                Fate::Renews => ring.renew().expect("renewed"),
                Fate::Restarts(cut) => {
                    if let Some(bytes) = cut {
                        let whole = fs::read(file(data, "candidate")).unwrap_or_else(|_| vec![b'#'; 400]);
                        let part = &whole[..bytes.min(whole.len())];
                        fs::write(file(data, "candidate.new"), part).expect("written");
                    }
                    let before = ring.candidate();
                    ring = open(&key, data);
                    prop_assert!(before.is_none() || ring.candidate() == before);
                    prop_assert!(!names(data).contains("candidate.new"));
                    prop_assert!(ring.candidate().is_some());
                }
                Fate::Wiped => {
                    fs::remove_dir_all(data.join(KEYS_FOLDER)).expect("removed");
                    ring = open(&key, data);
                    held = BTreeSet::from([key.member().voting]);
                }
            }
            prop_assert!(ring.candidate().is_none_or(|candidate| !used.contains(&candidate)));
            prop_assert!(held.iter().all(|voting| ring.holds(voting)));
            prop_assert!(ring.last_incarnation().0 <= incarnation);
        }
    }
}

#[test]
fn who_only_looks_changes_nothing() {
    let (key, data) = (node(), tempfile::tempdir().expect("a directory"));
    let data = data.path();
    let look = || Keyring::look(&key, data).expect("a look");
    assert_eq!(look().candidate(), None);
    assert!(look().holds(&key.member().voting));
    assert!(!data.join(KEYS_FOLDER).exists());

    let mut ring = open(&key, data);
    ring.enter(&returned(&key, &ring, 1)).expect("entered");
    fs::copy(file(data, "voting-1"), file(data, "candidate")).expect("a copy");
    fs::write(file(data, "candidate.new"), "half").expect("unfinished");
    let before = names(data);
    assert_eq!((look().candidate(), look().last_incarnation()), (None, Incarnation(1)));
    assert_eq!(names(data), before);
    let made = open(&key, data).candidate();
    assert_eq!(look().candidate(), made);
    fs::write(file(data, "candidate"), "rotten").expect("rotten");
    assert!(matches!(Keyring::look(&key, data), Err(KeyringError::Malformed { .. })));
}
