//! The command that makes a script's world.

use super::words::{liar, no_option, number};
use crate::adversary::Misconduct;
use crate::keys::Signatures;
use crate::plan::{Disks, Plan};
use crate::step::Who;
use crate::world::{Shape, System, World};
use testudo_core::ReplicaId;

/// What the options of a `cluster` command say.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) shape: Shape,
    pub(crate) f: u16,
    pub(crate) seed: u64,
    pub(crate) liars: Vec<(Who, Misconduct)>,
    pub(crate) upstream: Option<u32>,
    /// Whether replicas keep real logs, and books otherwise.
    pub(crate) keeps_logs: bool,
    /// How many records a correct replica's log may ever hold, if there is a bound.
    pub(crate) most_records: Option<usize>,
    /// Whether more is wrong than is promised to be survived.
    pub(crate) exceeds: bool,
    /// Whether nobody has been started yet.
    pub(crate) is_asleep: bool,
}

impl Cluster {
    /// Reads the options.
    ///
    /// # Errors
    /// With a sentence, when one is none.
    pub(crate) fn parse(options: &[&str]) -> Result<Self, String> {
        let (mut replicas, mut clients, mut learners, mut f, mut seed) = (4, 1, 0, None, 0);
        let (mut liars, mut upstream, mut is_asleep) = (Vec::new(), None, false);
        let (mut keeps_logs, mut most_records, mut exceeds) = (false, None, false);
        let mut signatures = None;
        for option in options {
            match *option {
                "asleep" => is_asleep = true,
                "beyond" => exceeds = true,
                _ => {}
            }
            if matches!(*option, "asleep" | "beyond") {
                continue;
            }
            let (name, value) = option.split_once('=').ok_or_else(|| no_option(option))?;
            match name {
                "replicas" => replicas = small(value)?,
                "clients" => clients = small(value)?,
                "learners" => learners = small(value)?,
                "f" => f = Some(small(value)?),
                "seed" => seed = number(value)?,
                "upstream" => upstream = Some(number(value)? as u32),
                "liar" => liars.push(liar(value)?),
                "disks" => keeps_logs = read_disks(value)?,
                "most-records" => most_records = Some(number(value)? as usize),
                "signatures" => signatures = Some(read_signatures(value)?),
                _ => return Err(no_option(option)),
            }
        }
        let f = f.unwrap_or(replicas.saturating_sub(1) / 3);
        let twins = liars.iter().filter_map(|(who, liar)| match (who, liar) {
            (Who::Replica(id), Misconduct::Twins) => Some(ReplicaId(*id)),
            _ => None,
        });
        let shape = Shape {
            replicas,
            clients,
            learners,
            twins: twins.collect(),
            signatures,
            ..Shape::byzantine(f, 0)
        };
        let told =
            Self { shape, f, seed, liars, upstream, keeps_logs, most_records, exceeds, is_asleep };
        Ok(told)
    }

    /// What of a run's plan the options say: as much as those who judge a part of it need to know.
    pub(crate) fn plan(&self) -> Plan {
        let Shape { replicas, clients, learners, .. } = self.shape;
        let of_replicas = self.liars.iter().filter(|(who, _)| matches!(who, Who::Replica(_)));
        Plan {
            f: self.f,
            replicas: Some(replicas),
            clients,
            learners,
            liars: of_replicas.map(|(_, liar)| *liar).collect(),
            disks: if self.keeps_logs { Disks::Logs } else { Disks::Books },
            most_records: self.most_records,
            exceeds: self.exceeds,
            ..Plan::default()
        }
    }

    /// The world, in which nobody has been started yet.
    pub(crate) fn world<S: System>(&self, system: S) -> Result<World<S>, String> {
        let mut world = World::asleep(system, &self.shape, self.seed);
        if self.keeps_logs {
            world.keep_logs(self.seed);
        }
        for (who, liar) in &self.liars {
            let node = world.named(*who).ok_or_else(|| format!("no node {who}"))?;
            world.corrupt(node, *liar);
        }
        if let Some(upstream) = self.upstream {
            world.load_learners(upstream);
        }
        Ok(world)
    }
}

/// As many as a cluster may have of anything.
fn small(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| format!("no number of nodes: {text}"))
}

fn read_disks(text: &str) -> Result<bool, String> {
    match text {
        "logs" => Ok(true),
        "books" => Ok(false),
        _ => Err(format!("no such disks: {text}")),
    }
}

const SIGNATURES: [(Signatures, &str); 2] =
    [(Signatures::Hashed, "hashed"), (Signatures::Ed25519, "ed25519")];

/// What signatures are called in scripts.
pub(crate) fn name_of(signatures: Signatures) -> &'static str {
    let found = SIGNATURES.iter().find(|(known, _)| *known == signatures);
    found.map_or("", |(_, name)| name)
}

fn read_signatures(text: &str) -> Result<Signatures, String> {
    let found = SIGNATURES.iter().find(|(_, name)| *name == text);
    found.map(|(signatures, _)| *signatures).ok_or_else(|| format!("no such signatures: {text}"))
}
