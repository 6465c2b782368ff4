//! The judge of answers: each says what the store was at its revision, and did what its revision did.
//!
//! Every answer bears a revision, and revisions order all that was done, over all keys at once. So whatever touches several
//! keys, a transaction or a range, is judged here in the order that the service itself claims; that this order keeps to the
//! order of time is [`super::revisions`]' rule, and the two together are linearizability of the whole store. What was done
//! at each revision is known from the states of replicas ([`super::truth`]), whatever was answered.

use super::truth::{Deed, Truth};
use super::{Answer, Ask, FOREIGN, What};
use std::collections::BTreeSet;
use testudo_kv::KeyValue;
use testudo_sim::workload::Finding;

/// What was asked for, and what was answered.
#[derive(Default, Debug)]
pub struct Effects {
    /// Every value that anybody asked to have written.
    values: BTreeSet<String>,
    /// Every register that anybody asked to have deleted.
    deleted: BTreeSet<String>,
    /// Whether anybody asked to have all other keys deleted.
    has_cleared: bool,
    answered: Vec<(Ask, Answer)>,
    /// How many answers were held against what was done.
    pub judged: u64,
}

impl Effects {
    /// An operation was asked for.
    pub fn asked(&mut self, ask: &Ask) {
        self.values.extend(ask.values().into_iter().map(String::from));
        match ask {
            Ask::Delete(key) => drop(self.deleted.insert(key.clone())),
            Ask::Clear => self.has_cleared = true,
            _ => {}
        }
    }

    /// It was answered.
    pub fn answered(&mut self, ask: &Ask, answer: &Answer) {
        self.answered.push((ask.clone(), answer.clone()));
    }

    /// Holds all answers against what was done.
    pub fn judge(&mut self, truth: &Truth) -> Vec<Finding> {
        if truth.unknown > 0 {
            return Vec::new();
        }
        let store = Versions { truth };
        let mut findings: Vec<Finding> = Vec::new();
        let written: BTreeSet<&[u8]> =
            truth.deeds.iter().filter_map(|deed| Some(&*deed.now.as_ref()?.value)).collect();
        for (ask, answer) in &self.answered {
            // Whoever is told that nothing was done has done nothing.
            let is_undone = matches!(answer.what, What::Swapped(false) | What::Refused(_));
            let values = ask.values();
            if let Some(value) = values.iter().find(|value| written.contains(value.as_bytes()))
                && is_undone
            {
                findings.push((
                    "effects",
                    format!("{ask:?} was answered {answer:?}, and {value} was written"),
                ));
            }
            let Some(revision) = answer.revision else { continue };
            self.judged += 1;
            if let Err(why) = store.agrees(ask, &answer.what, revision) {
                let what = format!("{ask:?} was answered {answer:?}, and {why}");
                findings.push(("effects", what));
            }
        }
        let unasked = truth.deeds.iter().filter(|deed| !self.was_asked(deed));
        findings.extend(unasked.map(|deed| ("validity", format!("nobody asked for {deed:?}"))));
        findings
    }

    /// Whether somebody asked for what was done, or it is the end of a lease.
    fn was_asked(&self, deed: &Deed) -> bool {
        let key = super::text(&deed.key);
        match (&deed.now, &deed.before) {
            _ if deed.key.first() == Some(&FOREIGN) => true,
            (Some(record), _) => self.values.contains(&super::text(&record.value)),
            (None, Some(before)) if key.starts_with('e') => before.lease != 0 || self.has_cleared,
            (None, _) => self.deleted.contains(&key),
        }
    }
}

/// The store at every revision.
struct Versions<'a> {
    truth: &'a Truth,
}

impl Versions<'_> {
    /// What a revision did.
    fn deeds(&self, revision: i64) -> &[Deed] {
        let since = self.truth.since(revision);
        &since[..since.partition_point(|deed| deed.revision == revision)]
    }

    /// A key as it was at a revision.
    fn value(&self, key: &str, revision: i64) -> Option<String> {
        let upto = self.truth.deeds.partition_point(|deed| deed.revision <= revision);
        let mut before = self.truth.deeds[..upto].iter().rev();
        let last = before.find(|deed| *deed.key == *key.as_bytes())?;
        last.now.as_ref().map(|record| super::text(&record.value))
    }

    /// The keys that are no registers and that there were at a revision.
    fn ephemeral(&self, revision: i64) -> BTreeSet<&[u8]> {
        let mut keys: BTreeSet<&[u8]> = BTreeSet::new();
        let deeds = self.truth.deeds.iter().take_while(|deed| deed.revision <= revision);
        for deed in deeds.filter(|deed| deed.key.starts_with(b"e")) {
            match deed.now {
                Some(_) => drop(keys.insert(&deed.key)),
                None => drop(keys.remove(&*deed.key)),
            }
        }
        keys
    }

    /// Whether a revision put exactly these, in this order.
    fn has_put(&self, revision: i64, puts: &[(&str, &str, i64)]) -> Result<(), String> {
        let is_put = |deed: &Deed, (key, value, lease): (&str, &str, i64)| {
            let is_it = |now: &KeyValue| *now.value == *value.as_bytes() && now.lease == lease;
            *deed.key == *key.as_bytes() && deed.now.as_ref().is_some_and(is_it)
        };
        let deeds = self.deeds(revision);
        let is_right = deeds.len() == puts.len()
            && deeds.iter().zip(puts).all(|(deed, put)| is_put(deed, *put));
        is_right.then_some(()).ok_or_else(|| format!("that revision did {deeds:?}"))
    }

    /// Whether a revision deleted exactly these.
    fn has_deleted(&self, revision: i64, keys: &BTreeSet<&[u8]>) -> Result<(), String> {
        let deeds = self.deeds(revision);
        let deleted: BTreeSet<&[u8]> =
            deeds.iter().filter(|deed| deed.now.is_none()).map(|deed| &*deed.key).collect();
        let is_right = deleted == *keys && deeds.len() == keys.len();
        is_right.then_some(()).ok_or_else(|| format!("that revision did {deeds:?}"))
    }

    fn agrees(&self, ask: &Ask, what: &What, revision: i64) -> Result<(), String> {
        let is = |key: &str, expected: &Option<String>, at: i64| {
            let found = self.value(key, at);
            (found == *expected).then_some(()).ok_or_else(|| format!("{key} was {found:?}"))
        };
        match (ask, what) {
            (Ask::Get(key), What::Value(value)) => is(key, value, revision),
            (Ask::Put(key, value), What::Done) => self.has_put(revision, &[(key, value, 0)]),
            (Ask::Attach(key, value, lease), What::Done) => {
                self.has_put(revision, &[(key, value, *lease)])
            }
            (Ask::Batch(pairs), What::Done) => {
                let puts: Vec<(&str, &str, i64)> =
                    pairs.iter().map(|(key, value)| (key.as_str(), value.as_str(), 0)).collect();
                self.has_put(revision, &puts)
            }
            (Ask::Swap(key, expected, value), What::Swapped(true)) => {
                is(key, expected, revision - 1)?;
                self.has_put(revision, &[(key, value, 0)])
            }
            (Ask::Swap(key, expected, _), What::Swapped(false)) => {
                match is(key, expected, revision) {
                    Ok(()) => Err(format!("{key} was as expected")),
                    Err(_) => Ok(()),
                }
            }
            (Ask::Delete(key), What::Deleted(0)) => is(key, &None, revision),
            (Ask::Delete(key), What::Deleted(1)) => {
                self.has_deleted(revision, &BTreeSet::from([key.as_bytes()]))
            }
            (Ask::Clear, What::Deleted(0)) => {
                let keys = self.ephemeral(revision);
                keys.is_empty().then_some(()).ok_or_else(|| format!("there were {keys:?}"))
            }
            (Ask::Clear, What::Deleted(count)) => {
                let keys = self.ephemeral(revision - 1);
                if keys.len() as i64 != *count {
                    return Err(format!("there were {} keys", keys.len()));
                }
                self.has_deleted(revision, &keys)
            }
            (
                Ask::Grant(..) | Ask::KeepAlive(_) | Ask::Revoke(_) | Ask::Compact(_),
                What::Lives(_) | What::Done,
            )
            | (_, What::Refused(_)) => Ok(()),
            _ => Err("nobody asked for such".into()),
        }
    }
}
