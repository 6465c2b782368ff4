//! After everything that befell them, all correct replicas are well again.

use super::Serving;
use super::run::Run;
use crate::event::NodeId;
use std::time::Duration;
use testudo_core::Slot;

/// How long work goes on between two looks at who has recovered.
const ROUND: Duration = Duration::from_secs(2);

impl<S: Serving> Run<'_, S> {
    /// Work goes on until every correct replica is well, has reached a stable checkpoint beyond all that anybody can
    /// have voted on before, and votes: under another key, if it had forgotten what it had said.
    pub(super) fn recover(&mut self) -> bool {
        let world = &self.seeded.world;
        let conditions = world.replicas().filter_map(|node| world.condition(node));
        let goal = conditions.map(|condition| condition.horizon).max().unwrap_or_default();
        let deadline = self.seeded.world.now() + self.plan.patience;
        while !self.is_over() {
            let missing = self.unrecovered(goal);
            if missing.is_empty() {
                return true;
            }
            if self.seeded.world.now() > deadline {
                let patience = self.plan.patience;
                let what = missing.join(", ");
                let replicas = self.describe_all();
                self.violate(
                    "recovery",
                    format!("{patience:?} after the last trouble {what}{replicas}"),
                );
                return false;
            }
            let callers = usize::from(self.plan.callers());
            self.extra += callers;
            for number in 0..callers {
                self.seeded.call(Duration::ZERO, self.plan.caller(number) as u64);
            }
            self.pass(ROUND);
        }
        false
    }

    /// Who has not recovered, and what each lacks.
    fn unrecovered(&mut self, goal: Slot) -> Vec<String> {
        let world = &self.seeded.world;
        let mut missing = Vec::new();
        for node in world.replicas().filter(|node| world.is_correct(*node)) {
            let name = world.name(node);
            let Some(condition) = world.condition(node) else {
                missing.push(format!("{name} is down"));
                continue;
            };
            if !condition.is_well {
                missing.push(format!("{name} is not well"));
            } else if condition.stable < goal {
                let stable = condition.stable;
                missing.push(format!("{name} is at {stable:?} and not at {goal:?}"));
            } else if !condition.votes {
                missing.push(format!("{name} does not vote"));
            }
        }
        missing
    }

    /// One line per replica: what it is like.
    pub(super) fn describe_all(&self) -> String {
        let world = &self.seeded.world;
        let line = |node: NodeId| {
            let replica = world.replica(node).and_then(|host| host.automaton());
            let how = replica.map_or("down".into(), |replica| world.system.describe(replica));
            format!("\n    {}: {how}", world.name(node))
        };
        world.replicas().map(line).collect()
    }
}
