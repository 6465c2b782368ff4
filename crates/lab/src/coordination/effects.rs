//! The judge of answers: each says what the store was at its revision, and did what its revision did.
//!
//! Every answer bears a revision, and revisions order all that was done, over all keys at once. So whatever touches several
//! keys, a transaction or a range, is judged here in the order that the service itself claims; that this order keeps to the
//! order of time is [`super::revisions`]' rule, and the two together are linearizability of the whole store. What was done
//! at each revision is known from the states of replicas ([`super::truth`]), whatever was answered.
//!
//! Whether it was answered or not, each revision is the whole of one thing: of what somebody asked for, or of the end of a
//! lease.

use super::truth::{Deed, Truth};
use super::{Answer, Ask, FOREIGN, What};
use std::collections::{BTreeMap, BTreeSet};
use testudo_kv::KeyValue;
use testudo_sim::workload::Finding;

/// What was asked for, and what was answered.
#[derive(Default, Debug)]
pub struct Effects {
    /// Everything that anybody asked to have written at once, by each value of it.
    written: BTreeMap<String, Ask>,
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
        let values = ask.values().into_iter();
        self.written.extend(values.map(|value| (String::from(value), ask.clone())));
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

    /// Holds answers against what was done, but for those of revisions that nobody has seen yet.
    pub fn judge(&mut self, truth: &Truth) -> Vec<Finding> {
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
            // What was compacted before anybody saw it is not known, nor what was read of it.
            let is_known = |at: &i64| truth.unknown < *at && *at <= truth.newest;
            let Some(revision) = answer.revision.filter(is_known) else { continue };
            self.judged += 1;
            if let Err(why) = store.agrees(ask, &answer.what, revision) {
                let what = format!("{ask:?} was answered {answer:?}, and {why}");
                findings.push(("effects", what));
            }
        }
        let unasked = truth.deeds.iter().filter(|deed| !self.was_asked(deed));
        findings.extend(unasked.map(|deed| ("validity", format!("nobody asked for {deed:?}"))));
        findings.extend(self.torn(truth));
        findings
    }

    /// Revisions that are not the whole of one thing.
    fn torn(&self, truth: &Truth) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut keys: BTreeMap<&[u8], &KeyValue> =
            truth.base.iter().map(|(key, record)| (&**key, record)).collect();
        for deeds in
            truth.since(truth.unknown + 1).chunk_by(|one, two| one.revision == two.revision)
        {
            if !self.is_whole(deeds, &keys) {
                findings
                    .push(("effects", format!("a revision did {deeds:?}, and no more or less")));
            }
            for Deed { key, now, .. } in deeds {
                match now {
                    Some(record) => drop(keys.insert(key, record)),
                    None => drop(keys.remove(&**key)),
                }
            }
        }
        findings
    }

    /// Whether a revision did all of what was asked for at once and nothing else, where these keys were there before it.
    fn is_whole(&self, deeds: &[Deed], keys: &BTreeMap<&[u8], &KeyValue>) -> bool {
        // What clients that lie ask for nobody knows, but that it is of their own keys.
        if deeds.iter().all(|deed| deed.key.first() == Some(&FOREIGN)) {
            return true;
        }
        let ask =
            deeds.iter().find_map(|deed| self.written.get(&super::text(&deed.now.as_ref()?.value)));
        if let Some(ask) = ask {
            return puts(ask).is_some_and(|puts| has_put(deeds, &puts));
        }
        let deleted: BTreeSet<&[u8]> = deeds.iter().map(|deed| &*deed.key).collect();
        let is_all = |is_of: &dyn Fn(&[u8], &KeyValue) -> bool| {
            let all = keys.iter().filter(|(key, record)| is_of(key, record));
            deleted == all.map(|(key, _)| *key).collect()
        };
        let lease = deeds.first().and_then(|deed| Some(deed.before.as_ref()?.lease));
        deeds.iter().all(|deed| deed.now.is_none())
            && (matches!(deeds, [one] if self.deleted.contains(&super::text(&one.key)))
                || self.has_cleared && is_all(&|key, _| key.starts_with(b"e"))
                || lease
                    .is_some_and(|lease| lease != 0 && is_all(&|_, record| record.lease == lease)))
    }

    /// At the end of a whole run replicas hold all that anybody was told of.
    #[must_use]
    pub fn ahead(&self, truth: &Truth) -> Option<Finding> {
        let is_ahead = |answer: &Answer| answer.revision.is_some_and(|it| it > truth.newest);
        let (ask, answer) = self.answered.iter().find(|(_, answer)| is_ahead(answer))?;
        let newest = truth.newest;
        Some(("effects", format!("{ask:?} was answered {answer:?}, and replicas are at {newest}")))
    }

    /// Whether somebody asked for what was done, or it is the end of a lease.
    fn was_asked(&self, deed: &Deed) -> bool {
        let key = super::text(&deed.key);
        match (&deed.now, &deed.before) {
            _ if deed.key.first() == Some(&FOREIGN) => true,
            (Some(record), _) => self.written.contains_key(&super::text(&record.value)),
            (None, Some(before)) if key.starts_with('e') => before.lease != 0 || self.has_cleared,
            (None, _) => self.deleted.contains(&key),
        }
    }
}

/// What is put at once if this is done: keys, values and leases, in order.
fn puts(ask: &Ask) -> Option<Vec<(&str, &str, i64)>> {
    Some(match ask {
        Ask::Put(key, value) | Ask::Swap(key, _, value) => vec![(key, value, 0)],
        Ask::Attach(key, value, lease) => vec![(key, value, *lease)],
        Ask::Batch(pairs) => {
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str(), 0)).collect()
        }
        _ => return None,
    })
}

/// Whether exactly these were put, in this order.
fn has_put(deeds: &[Deed], puts: &[(&str, &str, i64)]) -> bool {
    let is_put = |deed: &Deed, (key, value, lease): (&str, &str, i64)| {
        let is_it = |now: &KeyValue| *now.value == *value.as_bytes() && now.lease == lease;
        *deed.key == *key.as_bytes() && deed.now.as_ref().is_some_and(is_it)
    };
    deeds.len() == puts.len() && deeds.iter().zip(puts).all(|(deed, put)| is_put(deed, *put))
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
        let mut known = self.known(revision).iter().rev();
        let record = match known.find(|deed| *deed.key == *key.as_bytes()) {
            Some(deed) => deed.now.as_ref(),
            None => self.truth.base.get(key.as_bytes()),
        };
        record.map(|record| super::text(&record.value))
    }

    /// All that was done up to a revision since all is known.
    fn known(&self, revision: i64) -> &[Deed] {
        let since = self.truth.since(self.truth.unknown + 1);
        &since[..since.partition_point(|deed| deed.revision <= revision)]
    }

    /// The keys that are no registers and that there were at a revision.
    fn ephemeral(&self, revision: i64) -> BTreeSet<&[u8]> {
        let base = self.truth.base.keys().map(|key| &**key);
        let mut keys: BTreeSet<&[u8]> = base.filter(|key| key.starts_with(b"e")).collect();
        let deeds = self.known(revision).iter();
        for deed in deeds.filter(|deed| deed.key.starts_with(b"e")) {
            match deed.now {
                Some(_) => drop(keys.insert(&deed.key)),
                None => drop(keys.remove(&*deed.key)),
            }
        }
        keys
    }

    /// Whether a revision put exactly what was asked for.
    fn has_put(&self, revision: i64, ask: &Ask) -> Result<(), String> {
        let deeds = self.deeds(revision);
        let is_right = puts(ask).is_some_and(|puts| has_put(deeds, &puts));
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
            (Ask::Put(..) | Ask::Attach(..) | Ask::Batch(_), What::Done) => {
                self.has_put(revision, ask)
            }
            (Ask::Swap(key, expected, _), What::Swapped(true)) => {
                is(key, expected, revision - 1)?;
                self.has_put(revision, ask)
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
