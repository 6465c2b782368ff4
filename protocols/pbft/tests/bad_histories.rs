//! The judges of the coordination service against histories that are made to order: what went well convicts nobody, and each
//! kind of violation, put into it somewhere, is convicted.

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use testudo_core::{Encode, Time};
use testudo_kv::watch::{Event, WatchRequest};
use testudo_kv::{Change, KeyValue};
use testudo_lab::coordination::effects::Effects;
use testudo_lab::coordination::gateways::Viewer;
use testudo_lab::coordination::leases::Leases;
use testudo_lab::coordination::truth::{Deed, Truth};
use testudo_lab::coordination::{Answer, Ask, What};
use testudo_sim::{Chance, Rng};

/// Operations of a history.
const OPERATIONS: u64 = 60;

/// A store, as simply as can be, and what it has done.
#[derive(Default)]
struct Store {
    revision: i64,
    keys: BTreeMap<String, KeyValue>,
    deeds: Vec<Deed>,
}

impl Store {
    fn put(&mut self, key: &str, value: &str, lease: i64) {
        let before = self.keys.get(key).cloned();
        let now = KeyValue {
            key: key.as_bytes().into(),
            create_revision: before.as_ref().map_or(self.revision, |before| before.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(1, |before| before.version + 1),
            lease,
            value: value.as_bytes().into(),
        };
        self.keys.insert(key.into(), now.clone());
        let key = now.key.clone();
        self.deeds.push(Deed { revision: self.revision, key, now: Some(now), before });
    }

    fn delete(&mut self, keys: &[String]) {
        for key in keys {
            let before = self.keys.remove(key);
            let key = key.as_bytes().into();
            self.deeds.push(Deed { revision: self.revision, key, now: None, before });
        }
    }

    fn value(&self, key: &str) -> Option<String> {
        let record = self.keys.get(key)?;
        Some(String::from_utf8_lossy(&record.value).into_owned())
    }

    fn execute(&mut self, ask: &Ask) -> Answer {
        self.revision += 1;
        let what = match ask {
            Ask::Get(key) => What::Value(self.value(key)),
            Ask::Put(key, value) => {
                self.put(key, value, 0);
                What::Done
            }
            Ask::Attach(key, value, lease) => {
                self.put(key, value, *lease);
                What::Done
            }
            Ask::Batch(pairs) => {
                pairs.iter().for_each(|(key, value)| self.put(key, value, 0));
                What::Done
            }
            Ask::Swap(key, expected, value) => {
                let is_right = self.value(key) == *expected;
                if is_right {
                    self.put(key, value, 0);
                }
                What::Swapped(is_right)
            }
            Ask::Delete(key) => {
                let keys: Vec<String> =
                    self.keys.keys().filter(|one| *one == key).cloned().collect();
                self.delete(&keys);
                What::Deleted(keys.len() as i64)
            }
            Ask::Clear => {
                let is_other = |key: &&String| key.starts_with('e');
                let keys: Vec<String> = self.keys.keys().filter(is_other).cloned().collect();
                self.delete(&keys);
                What::Deleted(keys.len() as i64)
            }
            other => unreachable!("{other:?} is not asked for here"),
        };
        if self.deeds.last().is_none_or(|deed| deed.revision != self.revision) {
            self.revision -= 1;
        }
        Answer { revision: Some(self.revision), what }
    }
}

fn draw(token: u64, rng: &mut Rng) -> Ask {
    let (key, value) = (format!("k{}", rng.below(3)), format!("v{token}"));
    match rng.below(10) {
        0 | 1 => Ask::Get(key),
        2 | 3 => Ask::Put(key, value),
        4 => Ask::Delete(key),
        5 => {
            let expected = (rng.below(2) == 0).then(|| format!("v{}", rng.below(token + 1)));
            Ask::Swap(key, expected, value)
        }
        6 => Ask::Attach(format!("e{}", rng.below(4)), value, 1),
        7 | 8 => {
            let pair = |place: u64| (format!("e{place}"), format!("v{token}.{place}"));
            Ask::Batch((0..rng.between(2, 4)).map(pair).collect())
        }
        _ => Ask::Clear,
    }
}

/// What was asked and answered in one order, and what the store did.
fn history(seed: u64) -> (Vec<(Ask, Answer)>, Truth) {
    let mut rng = Rng::split(seed, "history", 0);
    let mut store = Store { revision: 1, ..Store::default() };
    let mut calls = Vec::new();
    for token in 0..OPERATIONS {
        let ask = draw(token, &mut rng);
        let answer = store.execute(&ask);
        calls.push((ask, answer));
    }
    (calls, Truth { newest: store.revision, deeds: store.deeds, ..Truth::default() })
}

/// The rules that are broken by these answers, where this is what the store did.
fn convicted_by(calls: &[(Ask, Answer)], truth: &Truth) -> BTreeSet<&'static str> {
    let mut effects = Effects::default();
    for (ask, answer) in calls {
        effects.asked(ask);
        effects.answered(ask, answer);
    }
    let findings = effects.judge(truth);
    assert!(effects.judged > 0);
    findings.into_iter().map(|(oracle, _)| oracle).collect()
}

#[derive(Clone, Copy, Debug)]
enum Violation {
    ReadsWrong,
    LosesAWrite,
    TearsATransaction,
    TearsWhatIsUnanswered,
    DeletesTooLittle,
    CountsWrong,
    ReusesARevision,
    ComparesWrong,
    WritesUnasked,
    DeletesUnasked,
}

use Violation::*;

const ALL: [(Violation, &str); 10] = [
    (ReadsWrong, "effects"),
    (LosesAWrite, "effects"),
    (TearsATransaction, "effects"),
    (TearsWhatIsUnanswered, "effects"),
    (DeletesTooLittle, "effects"),
    (CountsWrong, "effects"),
    (ReusesARevision, "effects"),
    (ComparesWrong, "effects"),
    (WritesUnasked, "validity"),
    (DeletesUnasked, "validity"),
];

/// Puts a violation in somewhere; false if there is no place for it.
fn inject(
    calls: &mut [(Ask, Answer)],
    truth: &mut Truth,
    violation: Violation,
    rng: &mut Rng,
) -> bool {
    let is_place = |(ask, answer): &(Ask, Answer)| {
        matches!(
            (violation, ask, &answer.what),
            (ReadsWrong, Ask::Get(_), _)
                | (
                    LosesAWrite | ReusesARevision,
                    Ask::Put(..) | Ask::Attach(..) | Ask::Batch(_),
                    _,
                )
                | (TearsATransaction | TearsWhatIsUnanswered, Ask::Batch(_), _)
                | (DeletesTooLittle | CountsWrong, Ask::Clear, What::Deleted(2..))
                | (ComparesWrong, Ask::Swap(..), _)
                | (WritesUnasked | DeletesUnasked, Ask::Put(..), _)
        )
    };
    let places: Vec<usize> = (0..calls.len()).filter(|at| is_place(&calls[*at])).collect();
    let place = rng.below(places.len().max(1) as u64) as usize;
    let Some(at) = places.get(place) else { return false };
    let answer = &mut calls[*at].1;
    let revision = answer.revision.expect("it bears one");
    let mut of_revision =
        truth.deeds.iter().enumerate().filter(|(_, deed)| deed.revision == revision);
    let first = of_revision.next().map(|(index, _)| index);
    match violation {
        ReadsWrong => answer.what = What::Value(Some("never written".into())),
        CountsWrong => answer.what = What::Deleted(1),
        LosesAWrite => truth.deeds.retain(|deed| deed.revision != revision),
        TearsATransaction | DeletesTooLittle => drop(truth.deeds.remove(first.expect("it did it"))),
        // As good as no answer: nothing can be held against it.
        TearsWhatIsUnanswered => {
            answer.revision = None;
            truth.deeds.remove(first.expect("it did it"));
        }
        ReusesARevision => answer.revision = Some(revision - 1),
        ComparesWrong => {
            let What::Swapped(swapped) = &mut answer.what else { return false };
            *swapped = !*swapped;
        }
        WritesUnasked => {
            let deed = &mut truth.deeds[first.expect("it did it")];
            let now = deed.now.as_mut().expect("it was put");
            now.value = b"out of nowhere"[..].into();
        }
        DeletesUnasked => {
            let before = truth.deeds[first.expect("it did it")].now.clone();
            let revision = truth.newest + 1;
            let key = b"never deleted"[..].into();
            truth.deeds.push(Deed { revision, key, now: None, before });
            truth.newest = revision;
        }
    }
    true
}

/// The events that a watch of everything is to be told, in order, and how far it then is.
fn events(truth: &Truth) -> Vec<(i64, Event)> {
    let event = |deed: &Deed| {
        let record = deed.now.as_ref().map(|now| now.to_bytes().into());
        let change = Change { revision: deed.revision, key: deed.key.clone(), record };
        let previous = deed.before.as_ref().map(|before| before.to_bytes().into());
        (deed.revision, Event { change, previous })
    };
    truth.deeds.iter().map(event).collect()
}

/// Whether a viewer of everything is content with being told this, and after each revision that it knows all up to it.
fn is_content(told: &[(i64, Event)], truth: &Truth) -> bool {
    let everything = WatchRequest {
        key: [0][..].into(),
        range_end: [0][..].into(),
        prev_kv: true,
        ..Default::default()
    };
    let mut viewer = Viewer::new(everything);
    viewer.next = Some(2);
    let is_last = |at: usize| told.get(at + 1).is_none_or(|next| next.0 != told[at].0);
    (0..told.len()).all(|at| {
        let (revision, event) = &told[at];
        viewer.told(event, truth, 0).is_ok()
            && (!is_last(at) || viewer.told_all(*revision, truth).is_ok())
    }) && viewer.told_all(truth.newest, truth).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn good_answers_convict_nobody(seed in any::<u64>()) {
        let (calls, truth) = history(seed);
        prop_assert_eq!(convicted_by(&calls, &truth), BTreeSet::new());
    }

    #[test]
    fn every_wrong_answer_convicts(seed in any::<u64>()) {
        let mut injected = 0;
        for (violation, oracle) in ALL {
            let (mut calls, mut truth) = history(seed);
            let mut rng = Rng::split(seed, "violation", 0);
            if inject(&mut calls, &mut truth, violation, &mut rng) {
                injected += 1;
                let convicted = convicted_by(&calls, &truth);
                prop_assert!(convicted.contains(oracle), "{violation:?}: {convicted:?}");
            }
        }
        prop_assert!(injected >= 5);
    }

    /// One event is missing, told twice, told too late, or another one; or what was before is.
    #[test]
    fn watches_are_told_all_in_order(seed in any::<u64>(), which in 0..5_u8) {
        let (_, truth) = history(seed);
        let good = events(&truth);
        prop_assert!(is_content(&good, &truth));
        let mut bad = good.clone();
        let at = (seed % (bad.len() as u64 - 1)) as usize;
        match which {
            0 => drop(bad.remove(at)),
            1 => bad.insert(at, good[at].clone()),
            2 => bad.swap(at, at + 1),
            3 => bad[at].1.change.key = b"another"[..].into(),
            _ => bad[at].1.previous = Some(b"never was"[..].into()),
        }
        prop_assert!(!is_content(&bad, &truth), "{which} at {at}");
    }

    /// A lease is granted and kept alive at times, and ends some time after the last; or too early; or never.
    #[test]
    fn leases_end_in_their_time(
        pauses in prop::collection::vec(100..2_900_u64, 0..6),
        late in 0..3_000_u64,
        early in 300..3_000_u64,
    ) {
        let millis = Duration::from_millis;
        let clock = |millis: u64| Time(1_000_000 + millis);
        let run = |after: u64| {
            let mut leases = Leases::default();
            let (mut now, lives) = (10, What::Lives(3));
            let asks = std::iter::once(Ask::Grant(2, 3));
            let asks = asks.chain(pauses.iter().map(|_| Ask::KeepAlive(2)));
            let renewals = asks.zip(std::iter::once(&0).chain(&pauses));
            for (ask, pause) in renewals {
                now += pause;
                leases.asked(millis(now), &ask);
                assert!(leases.held(millis(now + 1), clock(now + 1), &[2]).is_none());
                leases.answered(millis(now), &ask, &Answer { revision: Some(1), what: lives.clone() });
            }
            now += after;
            leases.held(millis(now), clock(now), &[])
        };
        prop_assert!(run(3_000 + late).is_none());
        prop_assert!(run(3_000 - early).is_some());
    }
}
