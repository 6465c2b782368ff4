//! The judges of watches and leases convict what they are there for, and nothing else.

use std::time::Duration;
use testudo_core::{Encode, Time};
use testudo_kv::watch::{Event, WatchRequest};
use testudo_kv::{Change, Error, KeyValue};
use testudo_lab::coordination::gateways::Viewer;
use testudo_lab::coordination::leases::Leases;
use testudo_lab::coordination::truth::{Deed, Truth};
use testudo_lab::coordination::{Answer, Ask, What};

fn record(revision: i64, key: &str) -> KeyValue {
    KeyValue { key: key.as_bytes().into(), mod_revision: revision, ..KeyValue::default() }
}

fn event(revision: i64, key: &str) -> Event {
    let (record, key) = (record(revision, key).to_bytes(), key.as_bytes().into());
    Event { change: Change { revision, key, record: Some(record.into()) }, previous: None }
}

/// Revision 2 has put `a`, 3 both `a` and `b`, 4 `b`.
fn truth() -> Truth {
    let deed = |revision, key: &str| Deed {
        revision,
        key: key.as_bytes().into(),
        now: Some(record(revision, key)),
        before: None,
    };
    let deeds = vec![deed(2, "a"), deed(3, "a"), deed(3, "b"), deed(4, "b")];
    Truth { newest: 4, deeds, ..Truth::default() }
}

/// Whether a viewer of everything from revision 2 on is content with these events, and with then being said to know all
/// up to a revision.
fn is_content(events: &[(i64, &str)], knows: i64) -> bool {
    let all = WatchRequest { key: [0][..].into(), range_end: [0][..].into(), ..Default::default() };
    let mut viewer = Viewer::new(all);
    viewer.next = Some(2);
    let truth = truth();
    events.iter().all(|(revision, key)| viewer.told(&event(*revision, key), &truth, 0).is_ok())
        && viewer.told_all(knows, &truth).is_ok()
}

#[test]
fn watches_are_complete_in_order_and_told_once() {
    assert!(is_content(&[(2, "a"), (3, "a"), (3, "b"), (4, "b")], 4));
    assert!(is_content(&[(2, "a")], 2));
    assert!(!is_content(&[(2, "a")], 3), "not all of what it is said to know");
    assert!(!is_content(&[(2, "a"), (3, "a")], 3), "half a revision");
    assert!(!is_content(&[(3, "a")], 2), "one is missing");
    assert!(!is_content(&[(2, "a"), (2, "a")], 2), "twice");
    assert!(!is_content(&[(2, "a"), (3, "b"), (3, "a")], 3), "out of order");
    assert!(!is_content(&[(2, "b")], 2), "another key");
    assert!(!is_content(&[(2, "a"), (3, "a"), (3, "b"), (4, "b"), (5, "b")], 4), "never happened");
}

/// Agreed time, so many seconds after a beginning.
fn at(seconds: u64) -> Time {
    Time(1_000_000 + 1000 * seconds)
}

/// A lease of three seconds is granted, perhaps kept alive or revoked, and gone by then. What the judge says.
fn is_rightly_gone(asks: &[(u64, Ask)], gone: u64) -> bool {
    let seconds = Duration::from_secs;
    let mut leases = Leases::default();
    assert!(leases.held(Duration::ZERO, at(0), &[]).is_none());
    for (moment, ask) in asks {
        leases.asked(seconds(*moment), ask);
        // What is done is seen before it is answered.
        let held: &[i64] = if matches!(ask, Ask::Revoke(_)) { &[] } else { &[2] };
        assert!(leases.held(seconds(*moment), at(*moment), held).is_none());
        leases.answered(seconds(*moment), ask, &Answer { revision: Some(1), what: What::Lives(3) });
    }
    leases.held(seconds(gone), at(gone), &[]).is_none()
}

#[test]
fn no_lease_ends_before_its_time() {
    let granted = (1, Ask::Grant(2, 3));
    assert!(is_rightly_gone(std::slice::from_ref(&granted), 5));
    assert!(!is_rightly_gone(std::slice::from_ref(&granted), 3));
    assert!(!is_rightly_gone(&[granted.clone(), (3, Ask::KeepAlive(2))], 5));
    assert!(is_rightly_gone(&[granted.clone(), (3, Ask::KeepAlive(2))], 6));
    assert!(is_rightly_gone(&[granted, (2, Ask::Revoke(2))], 3));
}

/// Clocks that are wrong make agreed time pass slowly, and the lease is as long as agreed time says.
#[test]
fn no_lease_ends_before_its_agreed_time() {
    let seconds = Duration::from_secs;
    for (agreed, is_early) in [(3, true), (4, false)] {
        let mut leases = Leases::default();
        let (grant, lives) = (Ask::Grant(2, 3), Answer { revision: Some(1), what: What::Lives(3) });
        assert!(leases.held(seconds(0), at(1), &[]).is_none());
        leases.asked(seconds(1), &grant);
        assert!(leases.held(seconds(1), at(1), &[2]).is_none());
        leases.answered(seconds(1), &grant, &lives);
        assert_eq!(leases.held(seconds(60), at(agreed), &[]).is_some(), is_early);
    }
}

/// One that was asked for while the lease was another one's may be done when it is granted anew.
#[test]
fn a_revocation_may_come_late() {
    let seconds = Duration::from_secs;
    let mut leases = Leases::default();
    let (grant, lives) = (Ask::Grant(2, 3), Answer { revision: Some(1), what: What::Lives(3) });
    for moment in [1, 10, 20] {
        leases.asked(seconds(moment), &grant);
        assert!(leases.held(seconds(moment), at(moment), &[2]).is_none());
        leases.answered(seconds(moment), &grant, &lives);
        if moment == 1 {
            leases.asked(seconds(2), &Ask::Revoke(2));
            assert!(leases.held(seconds(5), at(5), &[]).is_none(), "it ended by itself");
        }
        if moment == 10 {
            assert!(leases.held(seconds(11), at(11), &[]).is_none(), "it was revoked");
        }
    }
    assert!(leases.held(seconds(21), at(21), &[]).is_some(), "nobody asked for that twice");
}

/// What is answered tells which end it was.
#[test]
fn a_revocation_that_is_refused_excuses_nothing() {
    let seconds = Duration::from_secs;
    for (what, is_early) in [(What::Refused(Error::LeaseNotFound), true), (What::Done, false)] {
        let mut leases = Leases::default();
        let (grant, revoke) = (Ask::Grant(2, 3), Ask::Revoke(2));
        let lives = Answer { revision: Some(1), what: What::Lives(3) };
        // One client crashes, and another one waits for its answer.
        leases.asked(seconds(0), &revoke);
        leases.asked(seconds(0), &revoke);
        for moment in [1, 10, 20] {
            leases.asked(seconds(moment), &grant);
            assert!(leases.held(seconds(moment), at(moment), &[2]).is_none());
            leases.answered(seconds(moment), &grant, &lives);
            let ended = leases.held(seconds(moment + 1), at(moment + 1), &[]);
            if moment == 1 {
                assert!(ended.is_none());
                leases.answered(
                    seconds(0),
                    &revoke,
                    &Answer { revision: Some(1), what: what.clone() },
                );
            } else if moment == 10 {
                assert_eq!(ended.is_some(), is_early);
            } else {
                assert!(ended.is_some());
            }
        }
    }
}

#[test]
fn every_lease_ends() {
    let mut leases = Leases::default();
    leases.asked(Duration::ZERO, &Ask::Grant(2, 3));
    assert!(leases.held(Duration::ZERO, at(0), &[2]).is_none());
    assert!(leases.finish(Duration::from_secs(5)).is_empty());
    assert!(!leases.finish(Duration::from_secs(60)).is_empty());
}
