//! What stands for a state.

use super::{Course, Item};
use crate::event::{Letter, NodeId};
use crate::explore::Bounds;
use crate::explore::model::Model;
use crate::explore::print::{Hash, Print, prints, prints_of_node};

impl<S: Model> Course<S> {
    /// What stands for this state.
    pub(in crate::explore) fn print(&mut self) -> Print {
        for node in self.world.all() {
            if self.prints[node.index()].is_none() {
                let (world, renamings) = (&self.world, &self.scene.renamings);
                let new = prints_of_node(renamings, |out| {
                    world.print_node(node, out, S::print_replica, S::print_client)
                });
                self.prints[node.index()] = Some(new);
            }
        }
        let above = prints(&self.scene.renamings, |out| self.world.system.print_above(out));
        let under = |renaming| self.print_under(renaming, above[renaming]);
        (0..self.scene.renamings.len()).map(under).min().unwrap_or_default()
    }

    fn print_under(&self, renaming: usize, above: Print) -> Print {
        let names = &self.scene.renamings[renaming];
        let mut hash = Hash::default();
        let mut nodes: Vec<(NodeId, NodeId)> =
            self.world.all().map(|node| (names.of(node), node)).collect();
        nodes.sort_unstable();
        for (_, node) in nodes {
            let own = self.prints[node.index()].as_ref().map(|prints| prints[renaming]);
            hash.print(own.unwrap_or_default());
            hash.print(self.history.chain(node.index(), renaming));
            hash.print(self.deeds.get(&node).copied().unwrap_or_default());
        }
        hash.print(above);
        for item in &self.queue {
            hash.print(self.item_print(*item, renaming));
        }
        let loose = self.loose.iter().map(|item| self.item_print(*item, renaming));
        hash.print(loose.fold(Print::default(), Print::and));
        let Bounds { crashes, restarts, losses, duplicates, timeouts, inputs, lies, late, .. } =
            self.left;
        let late = late.map_or(0, |late| late + 1);
        for left in [crashes, restarts, losses, duplicates, timeouts, inputs, lies, late] {
            hash.word(u64::from(left));
        }
        hash.end()
    }

    pub(super) fn item_print(&self, item: Item, renaming: usize) -> Print {
        let names = &self.scene.renamings[renaming];
        let at = |node: NodeId| u64::from(names.of(node).0);
        let mut hash = Hash::default();
        match item {
            Item::Packet(number) => {
                let Some(letter) = self.world.letter(number) else { return Print::default() };
                hash.word(1 << 32 | at(letter.from) << 16 | at(letter.to));
                hash.print(self.letter_print(letter, renaming));
            }
            Item::Flush(node, _, mark) => {
                hash.word(2 << 32 | at(node));
                hash.word(mark);
            }
            Item::Chore(node, number) => {
                // Which of its chores it is; their numbers count what does not matter.
                let of_node = |other: &&Item| matches!(other, Item::Chore(of, before) if *of == node && *before < number);
                let rank = self.queue.iter().chain(&self.loose).filter(of_node).count();
                hash.word(3 << 32 | at(node));
                hash.word(rank as u64);
            }
        }
        hash.end()
    }

    /// What stands for a message, whoever gets it.
    fn letter_print(&self, letter: &Letter, renaming: usize) -> Print {
        if self.scene.renamings.len() == 1 {
            let mut hash = Hash::default();
            for chunk in letter.digest.0.chunks_exact(8) {
                let word = chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
                hash.word(word);
            }
            return hash.end();
        }
        let mut known = self.scene.letters.borrow_mut();
        let all = known.entry(letter.digest).or_insert_with(|| {
            let message = self.world.message(letter.number);
            prints(&self.scene.renamings, |out| write!(out, "{:?} {message:?}", letter.sender))
        });
        all[renaming]
    }
}
