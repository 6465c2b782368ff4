//! Runs that scripts tell, under all judges.

use super::{Replay, replay};
use crate::adversary::Misconduct;
use crate::conformance::{Ask, Serving};
use crate::report::Report;
use crate::script::Scripted;
use crate::script::cluster::Cluster;
use crate::step::{Haste, Step, Who, read_bytes};
use crate::workload::Workload;
use std::collections::BTreeMap;

/// What all judges say of the run that a script tells by steps; none if it tells none, or not by steps alone.
pub fn judged<S: Serving + Scripted>(make: &mut dyn FnMut() -> S, script: &str) -> Option<Report> {
    let run = told(&make(), script).ok()?;
    Some(replay(make, &run))
}

/// The run that a script tells by steps: as [`crate::shrink::Shrunk::script`] writes it, with or without what it prints.
/// Commands that only show something are no part of it.
///
/// Its operations are judged if the workload can read all of them: a history with holes in it convicts nobody. What clients
/// that lie ask for leaves no hole.
///
/// # Errors
/// With the line that is no step, or a sentence.
pub fn told<S: Serving + Scripted>(system: &S, script: &str) -> Result<Replay<Ask<S>>, String> {
    let mut cluster = None;
    let mut haste = Haste::ALL;
    let (mut steps, mut asks) = (Vec::new(), BTreeMap::new());
    for line in commands(script) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match &words[..] {
            ["cluster", options @ ..] if cluster.is_none() => {
                cluster = Some(Cluster::parse(options)?);
            }
            [thing @ ("words" | "disk" | "work"), how @ ("hold" | "auto")] => {
                let at_once = match *thing {
                    "words" => &mut haste.words,
                    "disk" => &mut haste.flushes,
                    _ => &mut haste.work,
                };
                *at_once = *how == "auto";
            }
            ["verdict" | "status" | "wire" | "quiet" | "loud"] | ["records", _] => {}
            _ => steps.push(step(system, line, &words)?),
        }
    }
    let Some(cluster) = cluster else { return Err("there is no cluster".into()) };
    let lies = |who: &Who| steps.iter().any(|s| matches!(s, Step::Corrupt(liar, _) if liar == who));
    for step in &steps {
        let Step::Ask(who, ticket, operation) = step else { continue };
        if lies(who) || cluster.liars.iter().any(|(liar, _)| liar == who) {
            continue;
        }
        let Some(ask) = S::Workload::read_ask(operation) else {
            asks.clear();
            break;
        };
        asks.insert(*ticket, ask);
    }
    let plan = cluster.plan();
    let Cluster { shape, seed, liars, upstream, is_asleep, .. } = cluster;
    let casting = liars.iter().filter(|(_, liar)| *liar != Misconduct::Twins);
    let casting = casting.map(|(who, liar)| Step::Corrupt(*who, *liar));
    let upstream = upstream.map(Step::Upstream);
    let starts = if is_asleep { Vec::new() } else { starts(&shape) };
    let steps = casting.chain(upstream).chain(starts).chain(steps).collect();
    Ok(Replay { seed, plan, shape, haste, steps, report: Report::default(), asks })
}

/// The lines of a script that say what is done.
fn commands(script: &str) -> impl Iterator<Item = &str> {
    let blocks = script.split("\n\n").map(|block| block.trim_matches('\n'));
    let lines = blocks.flat_map(|block| block.lines().take_while(|line| line.trim() != "---"));
    lines
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
}

fn step<S: Scripted>(system: &S, line: &str, words: &[&str]) -> Result<Step, String> {
    match words {
        ["request", who, ticket, words @ ..] if ticket.starts_with("ticket=") => {
            let number = ticket.trim_start_matches("ticket=").parse();
            let number = number.map_err(|_| format!("no ticket: {ticket}"))?;
            let bytes = match words {
                [bytes] => read_bytes(bytes),
                _ => None,
            };
            let operation = bytes.map_or_else(|| system.read_operation(words), Ok)?;
            Ok(Step::Ask(who.parse()?, number, operation))
        }
        _ => line.parse(),
    }
}

/// Everybody starts, in the order of nodes.
fn starts(shape: &crate::Shape) -> Vec<Step> {
    let replicas = (0..shape.replicas).map(Who::Replica);
    let clients = (1..=shape.clients).map(Who::Client);
    let learners = (1..=shape.learners).map(Who::Learner);
    let twins = shape.twins.iter().map(|id| Who::Twin(id.0));
    replicas.chain(clients).chain(learners).chain(twins).map(Step::Start).collect()
}
