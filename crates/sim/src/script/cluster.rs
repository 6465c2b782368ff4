//! The command that makes a script's world.

use super::words::{liar, no_option, number};
use crate::adversary::Misconduct;
use crate::event::NodeId;
use crate::keys::Signatures;
use crate::world::{Shape, System, World};
use testudo_core::ReplicaId;

/// What the options of a `cluster` command say.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) shape: Shape,
    pub(crate) f: u16,
    pub(crate) seed: u64,
    pub(crate) liars: Vec<(NodeId, Misconduct)>,
    pub(crate) upstream: Option<u32>,
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
        let mut signatures = None;
        for option in options {
            if *option == "asleep" {
                is_asleep = true;
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
                "signatures" => signatures = Some(read_signatures(value)?),
                _ => return Err(no_option(option)),
            }
        }
        let f = f.unwrap_or(replicas.saturating_sub(1) / 3);
        let twins = liars.iter().filter(|(_, liar)| *liar == Misconduct::Twins);
        let shape = Shape {
            replicas,
            clients,
            learners,
            twins: twins.map(|(node, _)| ReplicaId(node.0)).collect(),
            signatures,
            ..Shape::byzantine(f, 0)
        };
        Ok(Self { shape, f, seed, liars, upstream, is_asleep })
    }

    /// The world, in which nobody has been started yet.
    pub(crate) fn world<S: System>(&self, system: S) -> Result<World<S>, String> {
        let mut world = World::asleep(system, &self.shape, self.seed);
        for (node, liar) in &self.liars {
            if node.0 >= self.shape.replicas {
                return Err(format!("no node {}", node.0));
            }
            world.corrupt(*node, *liar);
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
