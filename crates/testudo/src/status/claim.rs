//! What a replica says of itself, on `/status`.

use crate::words;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use testudo_core::{Decode as _, Digest, Encode as _, Evidence};
use testudo_replication as replication;
use testudo_runtime::KeptEvidence;

/// How many of the slots that it executed last a replica shows. Replicas that are asked at about the same time have
/// some of them in common.
pub(crate) const EXECUTED: usize = 64;

/// Letters of any word that a replica chose and that is shown to people.
const WORD: usize = 40;

/// Bytes of a set of evidence that is shown. A longer one is in the replica's data folder only.
const EVIDENCE: usize = 64 << 10;

/// A replica's word on itself.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// The version of the program.
    pub(crate) version: String,
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its id.
    pub(crate) replica: u16,
    /// Its process.
    pub(crate) pid: u32,
    /// Its epoch.
    pub(crate) epoch: u64,
    /// The view that it is in, or moves to.
    pub(crate) view: u64,
    /// That view's primary.
    pub(crate) primary: u16,
    /// Whether it is between views.
    pub(crate) changing_view: bool,
    /// The last slot that it executed.
    pub(crate) slot: u64,
    /// The highest slot that it knows to be decided.
    pub(crate) known: u64,
    /// What it executed last, in the order of slots: digests over the whole order and all results up to each.
    pub(crate) executed: Vec<At>,
    /// The last checkpoint that is stable and agrees with its state.
    pub(crate) stable: Option<At>,
    /// Agreed time, in milliseconds since 1970.
    pub(crate) time: u64,
    /// Bundles of operations that wait.
    pub(crate) waiting: u64,
    /// Sessions that are open.
    pub(crate) sessions: u64,
    /// Entries of its state.
    pub(crate) entries: u64,
    /// Bytes of its state.
    pub(crate) bytes: u64,
    /// How it is: `well`, or `behind`, `diverged` or `halted` at a slot.
    pub(crate) health: Health,
    /// Where results part, as far as it knows, if it has halted.
    #[serde(default)]
    pub(crate) halt: Option<Halt>,
    /// What part it takes in ordering.
    #[serde(default)]
    pub(crate) standing: Standing,
    /// How often it has come back under a new voting key.
    #[serde(default)]
    pub(crate) incarnation: u64,
    /// What it does to get its vote back, if it has lost it.
    #[serde(default)]
    pub(crate) comeback: Comeback,
    /// Slots that it does not vote on, as its log has lost records of them.
    #[serde(default)]
    pub(crate) lost_slots: u64,
    /// The same, as ranges: the first and the last of each.
    #[serde(default)]
    pub(crate) lost: Vec<(u64, u64)>,
    /// How far the transfer of a state is, if one is under way.
    #[serde(default)]
    pub(crate) transfer: Option<Transfer>,
    /// How it healed last since its process began, if it did.
    #[serde(default)]
    pub(crate) healed: Option<Healed>,
    /// The slot of the last snapshot that was asked for or started from; 0 if none was.
    #[serde(default)]
    pub(crate) snapshot: u64,
    /// How its disk is.
    #[serde(default)]
    pub(crate) disk: Disk,
    /// Whom it holds evidence against.
    pub(crate) caught: Vec<Caught>,
}

/// A digest at a slot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct At {
    /// The slot.
    pub(crate) slot: u64,
    /// The digest, in hexadecimal digits.
    pub(crate) digest: String,
}

/// What part a replica takes in ordering.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Standing {
    /// It has started, and asks the others what it has said before it says anything.
    Joining,
    /// It votes.
    #[default]
    Voting,
    /// It has said what it knows nothing of, or may have: it follows and serves, and never votes under that key again.
    Forgotten,
    /// Its epoch has ended.
    Stopped,
}

impl From<testudo_contracts::Standing> for Standing {
    fn from(standing: testudo_contracts::Standing) -> Self {
        match standing {
            testudo_contracts::Standing::Joining => Self::Joining,
            testudo_contracts::Standing::Voting => Self::Voting,
            testudo_contracts::Standing::Forgotten => Self::Forgotten,
            testudo_contracts::Standing::Stopped => Self::Stopped,
        }
    }
}

/// What a replica does to get its vote back.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub(crate) enum Comeback {
    /// It votes, or has only just started.
    #[default]
    #[serde(rename = "not needed")]
    NotNeeded,
    /// It has lost its promises, and fetches what it must know first.
    Follows,
    /// It asks to be let in as this incarnation.
    Asks {
        /// How often it will have come back.
        incarnation: u64,
    },
    /// It would be refused.
    Refused {
        /// Why, in words.
        why: String,
        /// From when on it would not be, in milliseconds of agreed time since 1970, if only time is in the way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
    },
    /// It has no voting key to come back under.
    #[serde(rename = "no key")]
    NoKey,
}

impl From<replication::Comeback> for Comeback {
    fn from(comeback: replication::Comeback) -> Self {
        match comeback {
            replication::Comeback::NotNeeded => Self::NotNeeded,
            replication::Comeback::Follows => Self::Follows,
            replication::Comeback::Asks(incarnation) => Self::Asks { incarnation: incarnation.0 },
            replication::Comeback::Refused(refusal) => {
                let until = match refusal {
                    replication::Refusal::Ration(until) => Some(until.0),
                    _ => None,
                };
                Self::Refused { why: refusal.to_string(), until }
            }
            replication::Comeback::NoKey => Self::NoKey,
        }
    }
}

impl Comeback {
    /// What a replica does that may not vote. What it did last is stale once it votes again.
    pub(crate) fn of(status: &replication::Status) -> Self {
        match status.standing {
            testudo_contracts::Standing::Forgotten => status.comeback.into(),
            _ => Self::NotNeeded,
        }
    }

    /// What it does, after "it"; empty if it need not do anything. `now` is agreed time.
    pub(crate) fn words(&self, now: u64) -> String {
        match self {
            Self::NotNeeded => String::new(),
            Self::Follows => {
                "follows, and fetches what it must know before it asks for its vote".into()
            }
            Self::Asks { incarnation } => {
                format!("asks for its vote, as incarnation {incarnation}")
            }
            Self::Refused { until: Some(until), .. } => {
                let times = testudo_core::limits::READMISSIONS;
                let hours = testudo_core::limits::READMISSION_PERIOD.as_secs() / 3600;
                format!(
                    "is refused: came back {times} times in {hours} h, again in {}",
                    span(until.saturating_sub(now))
                )
            }
            Self::Refused { why, until: None } => format!("is refused: {why}"),
            Self::NoKey => "has no voting key to come back under; its log says why".into(),
        }
    }
}

/// A time of so many milliseconds, as people say it: rounded up to minutes, or hours and minutes.
fn span(milliseconds: u64) -> String {
    let minutes = milliseconds.div_ceil(60_000);
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, 0) => format!("{hours} h"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

/// How far the transfer of a state is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Transfer {
    /// The slot whose state is fetched; 0 while none is known.
    pub(crate) target: u64,
    /// Nodes of the state's trees that were fetched.
    pub(crate) fetched_nodes: u64,
    /// Their bytes.
    pub(crate) fetched_bytes: u64,
    /// Bytes of the whole state, those at hand among them.
    pub(crate) bytes: u64,
}

/// How a replica has healed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Healed {
    /// How often, since its process began.
    pub(crate) times: u64,
    /// The slot of its state when it was well again, the last time.
    pub(crate) slot: u64,
    /// Bytes that it fetched for it.
    pub(crate) fetched_bytes: u64,
    /// How many entries of its own state had been wrong; absent if it was not wrong, but old.
    pub(crate) differing: Option<u64>,
    /// The first of them, in words.
    pub(crate) first: Option<String>,
}

/// Where results part, as far as others told one that has halted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Halt {
    /// The first slot whose results are not the same everywhere; absent if all results are the same, as far as others told, and
    /// only states differ.
    pub(crate) first: Option<u64>,
    /// A digest over this replica's results up to there.
    pub(crate) own: String,
    /// Those of the others, as far as they told.
    pub(crate) others: BTreeMap<u16, String>,
}

impl Halt {
    /// What a replica has found out.
    pub(crate) fn of(halt: &replication::Halt) -> Self {
        let others = halt.others.iter().map(|(id, outcome)| (id.0, outcome.to_string()));
        Self {
            first: halt.first.map(|slot| slot.0),
            own: halt.own.to_string(),
            others: others.collect(),
        }
    }

    /// Who has other results.
    pub(crate) fn differing(&self) -> Vec<u16> {
        let differing = self.others.iter().filter(|(_, outcome)| **outcome != self.own);
        differing.map(|(id, _)| *id).collect()
    }

    /// Where results part, and from whose this replica's are different.
    pub(crate) fn words(&self) -> String {
        let Some(first) = self.first else {
            return "all results are the same, as far as others told, and only states differ"
                .to_owned();
        };
        let ids = |some: &[u16]| {
            let names: Vec<String> = some.iter().map(ToString::to_string).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let noun = if names.len() == 1 { "replica" } else { "replicas" };
            format!("{noun} {}", words::list(&names))
        };
        let differing = self.differing();
        let same: Vec<u16> =
            self.others.keys().copied().filter(|id| !differing.contains(id)).collect();
        let others = if differing.is_empty() { "nobody else's".into() } else { ids(&differing) };
        let with = if same.is_empty() { String::new() } else { format!(", like {}", ids(&same)) };
        format!("results part at slot {first}, where it has others than {others}{with}")
    }
}

/// How a replica's disk is.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Disk {
    /// What a flush of the log takes as of late, in milliseconds.
    pub(crate) flush_ms: f64,
    /// Records that were found lost when the log was opened.
    pub(crate) records_lost: u64,
    /// Snapshots that were found damaged then, and not used.
    pub(crate) snapshots_lost: u64,
    /// Records that were found rotten while the replica ran.
    #[serde(default)]
    pub(crate) records_rotten: u64,
    /// Snapshots that were found rotten while the replica ran.
    #[serde(default)]
    pub(crate) snapshots_rotten: u64,
}

/// A disk whose flushes take so many milliseconds is slow.
const SLOW_MS: f64 = 50.0;

impl Disk {
    /// Whether it slows its replica down.
    pub(crate) fn is_slow(&self) -> bool {
        self.flush_ms >= SLOW_MS
    }

    /// Whether something on it could not be read back.
    pub(crate) const fn is_damaged(&self) -> bool {
        self.records_lost > 0
            || self.snapshots_lost > 0
            || self.records_rotten > 0
            || self.snapshots_rotten > 0
    }

    /// What is wrong with it, in a few words; empty if nothing is.
    pub(crate) fn words(&self) -> String {
        let mut words = Vec::new();
        if self.is_slow() {
            words.push(format!("flushes take {:.0} ms", self.flush_ms));
        }
        for (count, what, became) in [
            (self.records_lost, "record", "lost"),
            (self.snapshots_lost, "snapshot", "lost"),
            (self.records_rotten, "record", "rotten"),
            (self.snapshots_rotten, "snapshot", "rotten"),
        ] {
            match count {
                0 => {}
                1 => words.push(format!("1 {what} was {became}")),
                _ => words.push(format!("{count} {what}s were {became}")),
            }
        }
        words.join(", ")
    }
}

/// How a replica says that it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is", content = "slot")]
pub(crate) enum Health {
    /// As it should be.
    Well,
    /// It lacks what was decided up to this slot or a later one, and fetches a certified state.
    Behind(u64),
    /// Its state after this slot is not what a quorum signed.
    Diverged(u64),
    /// No digest of this slot can reach a quorum: it has stopped there.
    Halted(u64),
}

/// What is shown of a replica's past.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Shown {
    /// What it executed last.
    pub(crate) executed: Vec<At>,
    /// Whom it holds evidence against.
    pub(crate) caught: Vec<Caught>,
    /// How it healed last.
    pub(crate) healed: Option<Healed>,
}

/// Evidence against a replica.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub(crate) struct Caught {
    /// Who is accused.
    pub(crate) accused: u16,
    /// Of what, in a word.
    pub(crate) offence: String,
    /// The evidence itself, encoded, in hexadecimal digits: anybody can check it. Left out if it is too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) evidence: Option<String>,
    /// What shows who the members of its epoch were, likewise; left out for the first epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lineage: Option<String>,
}

impl Caught {
    /// What is shown of a set of evidence.
    pub(crate) fn by(kept: &KeptEvidence) -> Self {
        let KeptEvidence { evidence, lineage } = kept;
        let bytes = evidence.to_bytes();
        let is_short = bytes.len() + lineage.len() <= EVIDENCE;
        Self {
            accused: evidence.accused.0,
            offence: evidence.offence.clone(),
            evidence: is_short.then(|| words::hex(&bytes)),
            lineage: (is_short && !lineage.is_empty()).then(|| words::hex(lineage)),
        }
    }

    /// The evidence, if it is shown and is of what it is said to be.
    pub(crate) fn read(&self) -> Option<KeptEvidence> {
        let bytes = words::unhex(self.evidence.as_ref()?)?;
        let evidence = Evidence::from_bytes(&bytes).ok()?;
        let lineage = words::unhex(self.lineage.as_deref().unwrap_or_default())?;
        let is_it = evidence.accused.0 == self.accused && evidence.offence == self.offence;
        is_it.then_some(KeptEvidence { evidence, lineage })
    }
}

impl Claim {
    /// The claim of a replica with that status.
    pub(crate) fn of(
        cluster: &str,
        status: &replication::Status,
        Shown { executed, caught, healed }: Shown,
    ) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            cluster: cluster.into(),
            replica: status.id.0,
            pid: std::process::id(),
            epoch: status.epoch.0,
            view: status.view.0,
            primary: status.primary.0,
            changing_view: status.changing_view,
            slot: status.slot.0,
            known: status.known.0,
            executed,
            stable: status
                .stable
                .as_ref()
                .map(|it| At { slot: it.slot.0, digest: it.state.to_string() }),
            time: status.time.0,
            waiting: status.waiting,
            sessions: status.sessions,
            entries: status.state.0,
            bytes: status.state.1,
            health: match status.health {
                replication::Health::Well => Health::Well,
                replication::Health::Diverged(slot) => Health::Diverged(slot.0),
                replication::Health::Halted(slot) => Health::Halted(slot.0),
                replication::Health::Behind(slot) => Health::Behind(slot.0),
            },
            halt: status.halt.as_ref().map(Halt::of),
            standing: status.standing.into(),
            incarnation: status.incarnation.0,
            comeback: Comeback::of(status),
            lost_slots: status.lost_slots,
            lost: status.lost.iter().map(|(first, last)| (first.0, last.0)).collect(),
            transfer: status.transfer.map(|progress| Transfer {
                target: progress.target.0,
                fetched_nodes: progress.fetched.nodes,
                fetched_bytes: progress.fetched.bytes,
                bytes: progress.bytes,
            }),
            healed,
            snapshot: status.snapshot.0,
            // The driver puts it in: the automaton knows of no disk.
            disk: Disk::default(),
            caught,
        }
    }

    /// The same without evidence, which is long, after it was judged.
    pub(crate) fn without_evidence(mut self) -> Self {
        self.caught.iter_mut().for_each(|caught| {
            (caught.evidence, caught.lineage) = (None, None);
        });
        self
    }

    /// The same with nothing in it that could play tricks on a terminal, and no more of anything than belongs there.
    pub(crate) fn cleaned(mut self) -> Self {
        self.version = clean(&self.version);
        self.executed.truncate(EXECUTED);
        for at in self.executed.iter_mut().chain(&mut self.stable) {
            at.digest = hexadecimal(&at.digest);
        }
        self.executed.sort_by_key(|at| at.slot);
        self.executed.dedup_by_key(|at| at.slot);
        if let Some(first) = self.healed.as_mut().and_then(|healed| healed.first.as_mut()) {
            *first = clean(first);
        }
        self.lost.truncate(testudo_core::limits::WINDOW as usize);
        if let Some(halt) = &mut self.halt {
            let members = testudo_core::limits::REPLICAS;
            halt.others = std::mem::take(&mut halt.others).into_iter().take(members).collect();
            for digest in halt.others.values_mut().chain([&mut halt.own]) {
                *digest = hexadecimal(digest);
            }
        }
        if let Comeback::Refused { why, .. } = &mut self.comeback {
            *why = why.chars().filter(|c| !c.is_control()).take(2 * WORD).collect();
        }
        self.disk.flush_ms = self.disk.flush_ms.clamp(0.0, 1e6);
        self.caught.truncate(4 * testudo_core::limits::REPLICAS);
        for caught in &mut self.caught {
            caught.offence = clean(&caught.offence);
        }
        self
    }
}

/// As much of it as a digest has.
fn hexadecimal(digest: &str) -> String {
    digest.chars().filter(char::is_ascii_hexdigit).take(64).collect()
}

pub(super) fn clean(word: &str) -> String {
    word.chars().filter(|c| !c.is_control()).take(WORD).collect()
}

/// One digest over order and results up to a slot.
pub(crate) fn at(slot: u64, chain: &Digest, outcome: &Digest) -> At {
    At { slot, digest: Digest::of_parts(&[&chain.0, &outcome.0]).to_string() }
}
