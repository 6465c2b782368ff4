//! Words of scripts for what befalls disks and memories.

use super::stage::{Done, Scripted, Stage};
use super::words::number;
use crate::event::NodeId;
use crate::world::World;
use testudo_core::Position;

impl<S: Scripted, F: FnMut() -> S> Stage<S, F> {
    /// `harm 2 record voted`: what happens, and to which record, by its number or by a word of what it is (the last one
    /// then).
    pub(super) fn harm(&mut self, name: &str, words: &[&str]) -> Done {
        let node = self.node(name)?;
        let mut record = |word: &str| self.record_of(node, word);
        match words {
            ["record", word] => {
                let position = record(word)?;
                self.harmed(|world| world.rot(node, position))
            }
            ["record-and-tag", word] => {
                let position = record(word)?;
                self.harmed(|world| world.rot_wholly(node, position))
            }
            ["write", word] => {
                let position = record(word)?;
                self.harmed(|world| world.lose_write(node, position))
            }
            ["misdirected", from, onto] => {
                let (from, onto) = (record(from)?, record(onto)?);
                self.harmed(|world| world.misdirect(node, from, onto))
            }
            ["snapshot"] => self.harmed(|world| world.rot_snapshot(node)),
            ["memory"] => self.harmed(|world| world.rot_memory(node, 0)),
            ["memory", draw] => {
                let draw = number(draw)?;
                self.harmed(|world| world.rot_memory(node, draw))
            }
            ["superblock-copy"] => self.harmed(|world| world.lose_superblock_copy(node, false)),
            ["superblock"] => self.harmed(|world| world.lose_superblock(node)),
            ["wiped"] => self.harmed(|world| world.wipe(node)),
            ["old-image"] => self.harmed(|world| world.restore_image(node)),
            // All other harm is named as steps name it, with what chance had left open.
            _ => self.step(&[&["harm", name], words].concat()),
        }
    }

    fn harmed(&mut self, harm: impl FnOnce(&mut World<S>) -> bool) -> Done {
        let mut happened = false;
        self.act(|world| happened = harm(world))?;
        if happened { Ok(()) } else { Err("there is nothing to harm, or it is in use".into()) }
    }

    fn record_of(&mut self, node: NodeId, word: &str) -> Result<Position, String> {
        let world = self.world()?;
        let mut positions = world.positions(node).into_iter().rev();
        let is_it = |position: &Position| match word.parse() {
            Ok(number) => position.0 == number,
            Err(_) => world.show_record(node, *position).is_some_and(|record| {
                kind(&record).to_lowercase().split(' ').any(|name| name == word.to_lowercase())
            }),
        };
        positions.find(is_it).ok_or_else(|| format!("no record {word}"))
    }

    /// `records 2`: the positions of a node's durable records, and what they are.
    pub(super) fn records(&mut self, node: &str) -> Done {
        let node = self.node(node)?;
        let world = self.world()?;
        let mut lines = Vec::new();
        for position in world.positions(node) {
            let record = world.show_record(node, position).unwrap_or_default();
            lines.push(format!("  @{} {}", position.0, kind(&record)));
        }
        self.print(lines);
        Ok(())
    }

    /// `image 2`: what is on a node's disk is kept, to be put back by `harm 2 old-image`.
    pub(super) fn image(&mut self, node: &str) -> Done {
        let node = self.node(node)?;
        self.act(|world| world.keep_image(node))
    }
}

/// What a record is: the names of the variants that its `Debug` form begins with.
fn kind(record: &str) -> String {
    let end = record.find(|letter: char| !(letter.is_ascii_alphabetic() || letter == '('));
    let names = record[..end.unwrap_or(record.len())].split('(');
    let names = names.take_while(|name| name.starts_with(|letter: char| letter.is_uppercase()));
    names.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::kind;

    #[test]
    fn a_record_is_named_by_its_variants() {
        assert_eq!(kind("Order(Voted(Attested { signer: r0 }))"), "Order Voted Attested");
        assert_eq!(kind("Body(7)"), "Body");
        assert_eq!(kind("One(Halted(s4))"), "One Halted");
    }
}
