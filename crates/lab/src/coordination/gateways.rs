//! Gateways in a run: what their streams tell those who watch, held against the truth.
//!
//! Every learner has a gateway above it with some watches, as the real one has: the watchers are handed each published
//! copy, and are polled now and then, so that some watches fall behind. Each viewer knows what it must be told next, by the truth
//! alone. When a gateway crashes its viewers come back to the next one and go on where they were.

use super::effects::Effects;
use super::leases::{Leases, longest};
use super::truth::{Deed, Truth};
use super::{Answer, Ask, FOREIGN, prefix};
use std::collections::BTreeMap;
use std::time::Duration;
use testudo_core::{Decode, Slot, Time};
use testudo_kv::watch::{
    Budget, Cause, Event, Limits, Notice, StreamId, Turn, WatchId, WatchRequest, Watchers,
};
use testudo_kv::{KeyValue, Kv};
use testudo_replication::Published;
use testudo_sim::workload::{Finding, Onlooker};
use testudo_sim::{Chance, NodeId, Rng};
use testudo_state::Map;

/// Somebody who watches: what it asked for, and how far it has been told.
#[derive(Clone, Debug)]
pub struct Viewer {
    request: WatchRequest,
    /// The number that its watch has at the present gateway.
    watch: Option<WatchId>,
    /// The first revision of which it may still be told something; none before its first watch is created.
    pub next: Option<i64>,
    /// How much of that revision it has been told, while that is not told to its end.
    within: usize,
}

impl Viewer {
    /// Somebody who asks for this.
    #[must_use]
    pub fn new(request: WatchRequest) -> Self {
        Self { request, watch: None, next: None, within: 0 }
    }

    fn concerns(&self, deed: &Deed) -> bool {
        let WatchRequest { key, range_end, no_put, no_delete, .. } = &self.request;
        let is_in_range = match &**range_end {
            [] => deed.key == *key,
            [0] => deed.key >= *key,
            end => deed.key >= *key && *deed.key < *end,
        };
        is_in_range && !(if deed.now.is_some() { *no_put } else { *no_delete })
    }

    /// What it must be told next.
    fn due<'a>(&'a self, truth: &'a Truth) -> impl Iterator<Item = &'a Deed> {
        let next = self.next.unwrap_or(i64::MAX);
        truth.since(next).iter().filter(|deed| self.concerns(deed)).skip(self.within)
    }

    /// Holds an event against what it must be told next.
    ///
    /// # Errors
    /// When it is another, with a sentence about the viewer.
    pub fn told(&mut self, event: &Event, truth: &Truth, compacted: i64) -> Result<(), String> {
        let revision = event.change.revision;
        let record = match event.change.record.as_deref().map(KeyValue::from_bytes).transpose() {
            Ok(record) => record,
            Err(error) => return Err(format!("is told what cannot be read: {error}")),
        };
        let Some(deed) = self.due(truth).next().cloned() else {
            return Err(format!("is told {:?} of {revision}, and nothing is due", event.change));
        };
        if (deed.revision, &deed.key, &deed.now) != (revision, &event.change.key, &record) {
            return Err(format!("is told {record:?} of {revision}, and {deed:?} is due"));
        }
        let previous = event.previous.as_deref().map(KeyValue::from_bytes).transpose();
        let expected = if self.request.prev_kv { deed.before } else { None };
        // What was before may be compacted.
        let is_lost = revision <= compacted && previous == Ok(None);
        if previous != Ok(expected.clone()) && !is_lost {
            return Err(format!(
                "is told that before {revision} was {previous:?}, not {expected:?}"
            ));
        }
        let told = if self.next == Some(revision) { self.within } else { 0 };
        (self.next, self.within) = (Some(revision), told + 1);
        Ok(())
    }

    /// It is said that it has been told everything up to a revision.
    ///
    /// # Errors
    /// When it has not, with a sentence about the viewer.
    pub fn told_all(&mut self, revision: i64, truth: &Truth) -> Result<(), String> {
        if let Some(deed) = self.due(truth).next()
            && deed.revision <= revision
        {
            return Err(format!("is said to know all up to {revision}, and lacks {deed:?}"));
        }
        if self.next.is_some_and(|next| next <= revision) {
            self.next = Some(revision + 1);
            self.within = 0;
        }
        Ok(())
    }
}

/// The viewer that has the watch of this number.
fn seated(viewers: &mut [Viewer], watch: WatchId) -> Result<&mut Viewer, String> {
    let found = viewers.iter_mut().find(|viewer| viewer.watch == Some(watch));
    found.ok_or_else(|| format!("hears of watch {watch}, which it has not"))
}

/// A value that somebody was told is written.
#[derive(Debug)]
struct Acknowledged {
    value: String,
    /// At which revision.
    revision: i64,
}

/// The gateway above one learner.
struct Gateway {
    watchers: Watchers<Map>,
    stream: StreamId,
}

/// All gateways of a run, those who watch there, and the judges.
pub struct Gateways {
    rng: Rng,
    truth: Truth,
    effects: Effects,
    leases: Leases,
    gateways: BTreeMap<usize, Gateway>,
    viewers: BTreeMap<usize, Vec<Viewer>>,
    /// How far each learner has published.
    revisions: BTreeMap<usize, i64>,
    /// The highest compaction that anybody asked for.
    compacted: i64,
    /// What was written by whom: how often each value was seen, and whether it must be there.
    acknowledged: Vec<Acknowledged>,
    last_asked: Duration,
    counts: BTreeMap<&'static str, u64>,
}

impl Gateways {
    /// Those of a run that has just begun.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::split(seed, "gateways", 0),
            truth: Truth::default(),
            effects: Effects::default(),
            leases: Leases::default(),
            gateways: BTreeMap::new(),
            viewers: BTreeMap::new(),
            revisions: BTreeMap::new(),
            compacted: 0,
            acknowledged: Vec::new(),
            last_asked: Duration::ZERO,
            counts: BTreeMap::new(),
        }
    }

    /// The newest revision that any replica holds.
    #[must_use]
    pub fn newest(&self) -> i64 {
        self.truth.newest
    }

    fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    /// Who watches at each gateway.
    fn audience(rng: &mut Rng) -> Vec<Viewer> {
        let (key, range_end) = prefix(b'e');
        let (registers, registers_end) = prefix(b'k');
        let all =
            WatchRequest { key: key.clone(), range_end: [0][..].into(), ..Default::default() };
        let ephemeral = WatchRequest {
            key,
            range_end,
            prev_kv: true,
            fragment: true,
            progress_notify: true,
            ..Default::default()
        };
        let one = WatchRequest {
            key: b"k0"[..].into(),
            prev_kv: rng.below(2) == 0,
            start_revision: rng.below(30) as i64,
            ..Default::default()
        };
        let filtered = WatchRequest {
            key: registers,
            range_end: registers_end,
            start_revision: 1 + rng.below(3) as i64,
            no_put: rng.below(2) == 0,
            ..Default::default()
        };
        [all.clone(), ephemeral, one, filtered, all].map(Viewer::new).into()
    }

    /// Lets every viewer of a gateway that has none have its watch again.
    fn seat(&mut self, client: usize) {
        let Some(gateway) = self.gateways.get_mut(&client) else { return };
        for viewer in self.viewers.entry(client).or_default() {
            if viewer.watch.is_some() {
                continue;
            }
            let mut request = viewer.request.clone();
            // One that was told a revision in part is told that revision again from its beginning, as after etcd's.
            viewer.within = 0;
            if let Some(next) = viewer.next {
                request.start_revision = next;
            }
            viewer.watch = gateway.watchers.create(gateway.stream, &request).ok();
        }
    }

    /// Reads what a gateway's stream has to say, and holds it against the truth.
    fn poll(&mut self, client: usize, patience: usize) -> Option<Finding> {
        for _ in 0..patience {
            let gateway = self.gateways.get_mut(&client)?;
            let budget = Budget {
                events: self.rng.between(1, 6) as usize,
                bytes: self.rng.between(60, 600) as usize,
            };
            match gateway.watchers.poll(gateway.stream, budget) {
                Turn::Nothing => return None,
                Turn::Again => {}
                Turn::Notice(notice) => {
                    if let Err(what) = self.hear(client, notice) {
                        return Some(("watches", format!("a viewer at learner {client} {what}")));
                    }
                }
            }
        }
        None
    }

    /// Reads all that the streams have to say, and what there is of old for whoever has lost its watch.
    fn catch_up(&mut self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let clients: Vec<usize> = self.viewers.keys().copied().collect();
        for client in clients {
            findings.extend(self.poll(client, 100_000));
            self.seat(client);
            findings.extend(self.poll(client, 100_000));
        }
        findings
    }

    fn hear(&mut self, client: usize, notice: Notice) -> Result<(), String> {
        let name = match &notice {
            Notice::Created { .. } => "watches created",
            Notice::Events { fragment: true, .. } => "watch fragments",
            Notice::Events { .. } => "watch answers",
            Notice::Canceled { .. } => "watches that were compacted away",
            Notice::Progress { .. } => "watch progress notices",
            Notice::Refused { refusal, .. } => return Err(format!("is refused: {refusal:?}")),
        };
        self.count(name);
        let Self { viewers, truth, compacted, .. } = self;
        let all = viewers.entry(client).or_default();
        match notice {
            Notice::Created { watch_id, revision } => {
                let viewer = seated(all, watch_id)?;
                let start = viewer.request.start_revision;
                let begins = if start > 0 { start } else { revision + 1 };
                viewer.next.get_or_insert(begins);
            }
            Notice::Events { watch_id, revision, events, fragment } => {
                let viewer = seated(all, watch_id)?;
                if events.is_empty() {
                    return Err("is told nothing at length".into());
                }
                if fragment && !viewer.request.fragment {
                    return Err("is told in fragments, which it did not ask for".into());
                }
                for event in &events {
                    viewer.told(event, truth, *compacted)?;
                }
                if !fragment {
                    viewer.told_all(revision, truth)?;
                }
            }
            Notice::Canceled { watch_id, cause: Cause::Compacted(at), .. } => {
                let viewer = seated(all, watch_id)?;
                if at > *compacted || viewer.next.is_some_and(|next| next >= at) {
                    return Err(format!(
                        "is canceled for a compaction at {at}, and has {viewer:?}"
                    ));
                }
                viewer.watch = None;
                viewer.next = Some(at);
                viewer.within = 0;
            }
            Notice::Canceled { watch_id, cause: Cause::Asked, .. } => {
                return Err(format!("has watch {watch_id} canceled, which it did not ask for"));
            }
            Notice::Progress { watch_id, revision } if watch_id >= 0 => {
                seated(all, watch_id)?.told_all(revision, truth)?;
            }
            Notice::Progress { revision, .. } => {
                // Whose watch has ended meanwhile is not spoken of.
                let mut seated = all.iter_mut().filter(|viewer| viewer.watch.is_some());
                seated.try_for_each(|viewer| viewer.told_all(revision, truth))?;
            }
            Notice::Refused { .. } => {}
        }
        Ok(())
    }

    /// Each value that was acknowledged was written once, and no other more than once. Of what was acknowledged at a
    /// revision that no replica has shown yet nothing is known.
    fn written_once(&self) -> Vec<Finding> {
        let mut written: BTreeMap<&[u8], u64> = BTreeMap::new();
        let own = self.truth.deeds.iter().filter(|deed| deed.key.first() != Some(&FOREIGN));
        for record in own.filter_map(|deed| deed.now.as_ref()) {
            *written.entry(&record.value).or_default() += 1;
        }
        let twice = written.iter().filter(|(_, times)| **times > 1);
        let twice = twice.map(|(value, times)| {
            ("ledger", format!("{} was written {times} times", super::text(value)))
        });
        // Nobody has seen what was compacted meanwhile.
        let Truth { unknown, newest, .. } = self.truth;
        let is_known = |revision| revision <= newest && (unknown == 0 || revision > unknown);
        let lost = self.acknowledged.iter().filter(|acknowledged| {
            is_known(acknowledged.revision) && !written.contains_key(acknowledged.value.as_bytes())
        });
        let lost = lost.map(|Acknowledged { value, revision }| {
            ("ledger", format!("{value} was acknowledged at {revision}, and is lost"))
        });
        twice.chain(lost).collect()
    }
}

impl Onlooker<Ask, Answer> for Gateways {
    fn published(&mut self, _: Duration, client: usize, published: &Published) -> Vec<Finding> {
        let state = published.state.clone();
        self.revisions.insert(client, Kv::default().revision(&state));
        if let Some(gateway) = self.gateways.get_mut(&client) {
            gateway.watchers.advance(state);
        } else {
            // Small, so that watches fall behind and read history.
            let limits = Limits {
                pending: 3,
                window_revisions: 6,
                window_bytes: 2_000,
                step: 5,
                ..Limits::default()
            };
            let mut watchers = Watchers::new(limits, state);
            let Ok(stream) = watchers.open() else {
                return vec![("watches", "no stream may be opened".into())];
            };
            self.gateways.insert(client, Gateway { watchers, stream });
            if !self.viewers.contains_key(&client) {
                let audience = Self::audience(&mut self.rng);
                self.viewers.insert(client, audience);
            } else {
                self.count("gateways that came back");
            }
        }
        self.seat(client);
        if self.rng.per_mille(100)
            && let Some(gateway) = self.gateways.get_mut(&client)
        {
            gateway.watchers.tick(gateway.stream);
            gateway.watchers.request_progress(gateway.stream);
        }
        let patience = if self.rng.per_mille(500) { self.rng.below(12) as usize } else { 0 };
        self.poll(client, patience).into_iter().collect()
    }

    fn held(
        &mut self,
        at: Duration,
        _: NodeId,
        slot: Slot,
        time: Time,
        state: &Map,
    ) -> Vec<Finding> {
        let Some(findings) = self.truth.update(slot, time, state, self.compacted) else {
            return Vec::new();
        };
        let truth = &self.truth;
        let orphan = truth
            .keys
            .values()
            .find(|record| record.lease != 0 && !truth.leases.contains(&record.lease));
        let orphan = orphan.map(|record| ("leases", format!("{record:?} outlives its lease")));
        let leases = self.leases.held(at, time, &truth.leases);
        leases.into_iter().chain(orphan).chain(findings).collect()
    }

    fn asked(&mut self, at: Duration, _: usize, ask: &Ask) {
        self.last_asked = at;
        if let Ask::Compact(revision) = ask {
            self.compacted = self.compacted.max(*revision);
        }
        self.effects.asked(ask);
        self.leases.asked(at, ask);
    }

    fn answered(&mut self, called: Duration, _: Duration, ask: &Ask, answer: &Answer) {
        if ask.writes(&answer.what) {
            let revision = answer.revision.unwrap_or_default();
            let values = ask.values().into_iter();
            self.acknowledged
                .extend(values.map(|value| Acknowledged { value: value.into(), revision }));
        }
        if matches!((ask, &answer.what), (Ask::Compact(_), super::What::Done)) {
            self.count("compactions");
        }
        self.effects.answered(ask, answer);
        self.leases.answered(called, ask, answer);
    }

    fn crashed(&mut self, client: usize) {
        self.gateways.remove(&client);
        for viewer in self.viewers.entry(client).or_default() {
            viewer.watch = None;
        }
    }

    fn healed(&mut self, at: Duration) {
        self.leases.healed(at);
    }

    fn afterthought(&self) -> Duration {
        longest()
    }

    fn judge(&mut self, _: Duration) -> Vec<Finding> {
        // What streams have to say is judged wherever a run ends: while it goes on they are read now and then only.
        let mut findings = self.catch_up();
        findings.extend(self.written_once());
        findings.extend(self.effects.judge(&self.truth));
        findings
    }

    fn finish(&mut self, at: Duration) -> Vec<Finding> {
        let mut findings = self.leases.finish(at);
        findings.extend(self.effects.ahead(&self.truth));
        findings.extend(self.catch_up());
        let clients: Vec<usize> = self.viewers.keys().copied().collect();
        for client in clients {
            let revision = self.revisions.get(&client).copied().unwrap_or_default();
            if revision < self.truth.newest {
                let newest = self.truth.newest;
                findings.push(("learners", format!("{client} is at {revision}, not {newest}")));
            }
            for viewer in self.viewers.get(&client).into_iter().flatten() {
                if let Some(deed) = viewer.due(&self.truth).next() {
                    findings.push(("watches", format!("{viewer:?} was never told {deed:?}")));
                }
            }
        }
        findings
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        let mut counts: Vec<(&'static str, u64)> =
            self.counts.iter().map(|(name, count)| (*name, *count)).collect();
        counts.push(("answers held against their revisions", self.effects.judged));
        counts.push(("revisions compacted before anybody saw them", self.truth.unseen));
        counts.push(("leases expired", self.leases.expired));
        counts.push(("leases kept alive", self.leases.renewed));
        counts
    }
}
