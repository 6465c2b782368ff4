//! Claims beside what enough of them agree on.

use super::claim::{At, Claim, Disk, Health, Standing};
use super::gateway;
use crate::cluster::Cluster;
use crate::evidence::court::Court;
use crate::failure::{Failure, Outcome};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use testudo_quorum::Dissemination;
use testudo_runtime::KeptEvidence;

/// How a replica's digests compare with those that f+1 replicas agree on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Comparison {
    /// The newest slot that can be compared is this one, and it and all others are equal.
    Equal(At),
    /// At this slot it claims another digest.
    Differs(At),
    /// It claims no slot that f+1 replicas agree on.
    Unknown,
}

/// What is held against a replica for one offence.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Accusation {
    /// Who says to hold evidence.
    pub(crate) by: BTreeSet<u16>,
    /// Whether it holds: some evidence was shown and checked here, or f+1 replicas say that they have checked it.
    pub(crate) is_proved: bool,
}

impl Row {
    /// Whether anything that is held against it holds.
    pub(crate) fn is_convicted(&self) -> bool {
        self.caught.values().any(|accusation| accusation.is_proved)
    }

    /// What part it takes in ordering, if it says.
    pub(crate) fn standing(&self) -> Option<Standing> {
        self.claim.as_ref().ok().map(|claim| claim.standing)
    }

    /// How its disk is, if it says.
    pub(crate) fn disk(&self) -> Option<&Disk> {
        self.claim.as_ref().ok().map(|claim| &claim.disk)
    }
}

/// One replica.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Its id.
    pub(crate) id: u16,
    /// Where it is.
    pub(crate) address: String,
    /// What it says, or why it says nothing.
    pub(crate) claim: Result<Claim, String>,
    /// How many slots it is behind what f+1 replicas have executed.
    pub(crate) lag: u64,
    /// Whether what it has executed is what others have.
    pub(crate) comparison: Comparison,
    /// What it is accused of.
    pub(crate) caught: BTreeMap<String, Accusation>,
}

/// What at least f+1 replicas say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Agreed {
    /// The highest epoch that so many are in.
    pub(crate) epoch: Option<u64>,
    /// The view of that epoch and its primary.
    pub(crate) view: Option<(u64, u16)>,
    /// The highest slot that so many have executed.
    pub(crate) slot: Option<u64>,
    /// The newest slot at which so many have the same digest, with it.
    pub(crate) executed: Option<At>,
    /// The newest checkpoint that so many hold stable.
    pub(crate) stable: Option<At>,
}

/// How it all is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Every replica is well and agrees.
    Well,
    /// A quorum is well and agrees, but not every replica, or one was caught lying.
    Amiss,
    /// There is no quorum that is well and agrees.
    NoQuorum,
}

/// Everything that `status` has found out.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    /// The cluster's name.
    pub(crate) cluster: String,
    /// f.
    pub(crate) faults: usize,
    /// How many replicas are a quorum.
    pub(crate) quorum: usize,
    /// What f+1 replicas agree on.
    pub(crate) agreed: Agreed,
    /// The first slot at which f+1 replicas claim one digest and f+1 another: more lie than are survived.
    pub(crate) split: Option<u64>,
    /// The first and the last of the slots on which fewer than a quorum can vote, as the others have lost what they held there,
    /// while no view stands: none can begin.
    pub(crate) barred: Option<(u64, u64)>,
    /// The replicas, by id.
    pub(crate) rows: Vec<Row>,
    /// The gateways that can be asked.
    pub(crate) gateways: Vec<gateway::Row>,
    /// How it all is.
    pub(crate) verdict: Verdict,
}

impl Summary {
    /// Judges the claims of a cluster's replicas, in the order of their ids, and shows its gateways beside them.
    pub(crate) fn of(
        cluster: &Cluster,
        claims: Vec<Result<Claim, String>>,
        gateways: Vec<gateway::Row>,
    ) -> Outcome<Self> {
        let membership = cluster.membership()?;
        let quorums = Dissemination::of(&membership)
            .ok_or_else(|| Failure::refused("a cluster of this size has no quorums"))?;
        let heard: Vec<&Claim> = claims.iter().filter_map(|claim| claim.as_ref().ok()).collect();
        let claimed = || heard.iter().map(|it| it.executed.as_slice());
        let (digests, split) = agreed_digests(claimed(), quorums.weak());
        let agreed = agree(&heard, &digests, quorums.weak());
        let court = Court::of(cluster)?;
        let convicts = |kept: &KeptEvidence| court.convicts(kept);
        let accusations = accusations(&heard, quorums.weak(), convicts);
        let mut rows = Vec::with_capacity(claims.len());
        for (replica, claim) in cluster.replicas.iter().zip(claims) {
            let slot = claim.as_ref().map_or(0, |it| it.slot);
            let executed = claim.as_ref().map_or(&[][..], |it| &it.executed);
            let caught = accusations.get(&replica.id).cloned().unwrap_or_default();
            rows.push(Row {
                id: replica.id,
                address: replica.address.to_string(),
                lag: agreed.slot.unwrap_or(0).saturating_sub(slot),
                comparison: compare(executed, &digests),
                caught,
                claim: claim.map(Claim::without_evidence),
            });
        }
        let barred = barred(&rows, quorums.quorum());
        let verdict = match verdict(&rows, split, quorums.quorum()) {
            _ if barred.is_some() => Verdict::NoQuorum,
            Verdict::Well if !gateways.iter().all(gateway::Row::is_well) => Verdict::Amiss,
            verdict => verdict,
        };
        Ok(Self {
            cluster: cluster.id.to_string(),
            faults: quorums.f(),
            quorum: quorums.quorum(),
            verdict,
            split,
            barred,
            agreed,
            rows,
            gateways,
        })
    }

    /// For programs. Fields are only ever added.
    pub(crate) fn json(&self) -> Value {
        let replicas: Vec<Value> = self.rows.iter().map(row_json).collect();
        let gateways: Vec<Value> = self.gateways.iter().map(|it| self.gateway_json(it)).collect();
        let (view, primary) = (self.agreed.view.map(|it| it.0), self.agreed.view.map(|it| it.1));
        json!({
            "cluster": self.cluster,
            "faults": self.faults,
            "quorum": self.quorum,
            "split_at": self.split,
            "barred": self.barred,
            "verdict": match self.verdict {
                Verdict::Well => "well",
                Verdict::Amiss => "amiss",
                Verdict::NoQuorum => "no quorum",
            },
            "agreed": {
                "epoch": self.agreed.epoch,
                "view": view,
                "primary": primary,
                "slot": self.agreed.slot,
                "executed": self.agreed.executed,
                "stable": self.agreed.stable,
            },
            "convicted": self.convicted(),
            "evidence": self.evidence(),
            "replicas": replicas,
            "gateways": gateways,
        })
    }

    /// Who is convicted by evidence that was checked here, or that f+1 replicas say to have checked.
    fn convicted(&self) -> Vec<u16> {
        self.rows.iter().filter(|row| row.is_convicted()).map(|row| row.id).collect()
    }

    /// How many sets of evidence the replicas say to hold, all together.
    fn evidence(&self) -> usize {
        let sets = |row: &Row| row.claim.as_ref().map_or(0, |claim| claim.caught.len());
        self.rows.iter().map(sets).sum()
    }

    fn gateway_json(&self, row: &gateway::Row) -> Value {
        json!({
            "id": row.id,
            "reachable": row.claim.is_ok(),
            "error": row.claim.as_ref().err(),
            "claim": row.claim.as_ref().ok(),
            "lag": self.gateway_lag(row),
            "watches": row.watches,
        })
    }

    /// How many slots a gateway is behind what f+1 replicas have executed.
    pub(crate) fn gateway_lag(&self, row: &gateway::Row) -> Option<u64> {
        let claim = row.claim.as_ref().ok()?;
        Some(self.agreed.slot?.saturating_sub(claim.slot))
    }
}

fn row_json(row: &Row) -> Value {
    let (digest, compared) = match &row.comparison {
        Comparison::Equal(at) => ("equal", Some(at.slot)),
        Comparison::Differs(at) => ("differs", Some(at.slot)),
        Comparison::Unknown => ("unknown", None),
    };
    let caught: Vec<Value> = row
        .caught
        .iter()
        .map(|(offence, Accusation { by, is_proved })| {
            json!({ "offence": offence, "evidence_at": by, "proved": is_proved })
        })
        .collect();
    json!({
        "id": row.id,
        "address": row.address,
        "reachable": row.claim.is_ok(),
        "error": row.claim.as_ref().err(),
        "claim": row.claim.as_ref().ok(),
        "lag": row.claim.is_ok().then_some(row.lag),
        "digest": digest,
        "compared_at": compared,
        "caught": caught,
    })
}

/// The digests that at least `weak` replicas claim, by slot, and the first slot that has two such.
fn agreed_digests<'a>(
    claims: impl Iterator<Item = &'a [At]>,
    weak: usize,
) -> (BTreeMap<u64, String>, Option<u64>) {
    let mut votes: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    for at in claims.flatten() {
        *votes.entry((at.slot, &at.digest)).or_default() += 1;
    }
    let (mut agreed, mut split) = (BTreeMap::new(), None);
    for ((slot, digest), _) in votes.into_iter().filter(|(_, count)| *count >= weak) {
        if agreed.insert(slot, digest.to_owned()).is_some() {
            split = split.or(Some(slot));
        }
    }
    // From there on nobody can say which of them is right.
    agreed.retain(|slot, _| split.is_none_or(|split| *slot < split));
    (agreed, split)
}

fn agree(heard: &[&Claim], digests: &BTreeMap<u64, String>, weak: usize) -> Agreed {
    let highest = |number: fn(&Claim) -> u64| {
        let mut numbers: Vec<u64> = heard.iter().map(|claim| number(claim)).collect();
        numbers.sort_unstable_by(|one, other| other.cmp(one));
        // That many have got there, so at least one honest replica has.
        weak.checked_sub(1).and_then(|place| numbers.get(place).copied())
    };
    let epoch = highest(|claim| claim.epoch);
    let mut views: BTreeMap<(u64, u16), usize> = BTreeMap::new();
    for claim in heard.iter().filter(|claim| Some(claim.epoch) == epoch) {
        *views.entry((claim.view, claim.primary)).or_default() += 1;
    }
    let (stable, _) = agreed_digests(heard.iter().map(|claim| claim.stable.as_slice()), weak);
    let last = |digests: &BTreeMap<u64, String>| {
        digests.last_key_value().map(|(slot, digest)| At { slot: *slot, digest: digest.clone() })
    };
    let enough = views.into_iter().filter(|(_, count)| *count >= weak);
    Agreed {
        epoch,
        view: enough.max_by_key(|(view, count)| (*count, *view)).map(|(view, _)| view),
        slot: highest(|claim| claim.slot),
        executed: last(digests),
        stable: last(&stable),
    }
}

fn compare(claimed: &[At], agreed: &BTreeMap<u64, String>) -> Comparison {
    let mut newest = Comparison::Unknown;
    for at in claimed {
        match agreed.get(&at.slot) {
            Some(digest) if *digest == at.digest => newest = Comparison::Equal(at.clone()),
            Some(_) => return Comparison::Differs(at.clone()),
            None => {}
        }
    }
    newest
}

/// By accused and offence, who holds evidence and whether it holds.
fn accusations(
    heard: &[&Claim],
    weak: usize,
    convicts: impl Fn(&KeptEvidence) -> bool,
) -> BTreeMap<u16, BTreeMap<String, Accusation>> {
    let mut accusations: BTreeMap<u16, BTreeMap<String, Accusation>> = BTreeMap::new();
    for claim in heard {
        for caught in &claim.caught {
            let offences = accusations.entry(caught.accused).or_default();
            let accusation = offences.entry(caught.offence.clone()).or_default();
            accusation.by.insert(claim.replica);
            accusation.is_proved |=
                accusation.by.len() >= weak || caught.read().is_some_and(|it| convicts(&it));
        }
    }
    accusations
}

/// What bars every view that could begin, if none stands.
fn barred(rows: &[Row], quorum: usize) -> Option<(u64, u64)> {
    let claims = rows.iter().filter_map(|row| row.claim.as_ref().ok());
    let voting: Vec<&Claim> =
        claims.filter(|it| it.standing == Standing::Voting && it.health == Health::Well).collect();
    let standing = voting.iter().filter(|claim| !claim.changing_view).count();
    let has_lost = |claim: &Claim, slot: u64| {
        claim.lost.iter().any(|(first, last)| *first <= slot && slot <= *last)
    };
    let is_barred =
        |slot: &u64| voting.iter().filter(|claim| !has_lost(claim, *slot)).count() < quorum;
    // With fewer voters there is no quorum anywhere.
    if standing >= quorum || voting.len() < quorum {
        return None;
    }
    let ranges = || voting.iter().flat_map(|claim| &claim.lost);
    let first = ranges().map(|(first, _)| *first).filter(is_barred).min()?;
    Some((first, ranges().map(|(_, last)| *last).filter(is_barred).max()?))
}

fn verdict(rows: &[Row], split: Option<u64>, quorum: usize) -> Verdict {
    let serves = |row: &&Row| {
        let is_well = row
            .claim
            .as_ref()
            .is_ok_and(|claim| claim.health == Health::Well && claim.standing == Standing::Voting);
        is_well && !matches!(row.comparison, Comparison::Differs(_))
    };
    let serving = rows.iter().filter(serves).count();
    let agrees = |row: &Row| matches!(row.comparison, Comparison::Equal(_));
    let votes = |row: &Row| row.claim.as_ref().is_ok_and(|claim| claim.lost_slots == 0);
    let spotless =
        rows.iter().all(|row| serves(&row) && agrees(row) && votes(row) && row.caught.is_empty());
    match (serving >= quorum && split.is_none(), spotless) {
        (false, _) => Verdict::NoQuorum,
        (true, false) => Verdict::Amiss,
        (true, true) => Verdict::Well,
    }
}

#[cfg(test)]
mod tests;
