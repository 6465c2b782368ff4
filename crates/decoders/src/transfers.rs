//! Any bytes, as what happens to a map that becomes another one: questions are answered, lost, given back and answered
//! late, with nodes of other maps, with garbled nodes and with anything at all. What is taken in is true: however it
//! goes, an honest source brings it to its end.

use std::sync::LazyLock;
use testudo_core::{Decode, Encode};
use testudo_state::Map;
use testudo_state::sync::{Node, Place, Summary, Sync};

/// Maps that have much in common, none of the same shape.
static MAPS: LazyLock<[Map; 4]> = LazyLock::new(|| {
    let mut maps = [Map::new(), Map::new(), Map::new(), Map::new()];
    for (which, map) in maps.iter_mut().enumerate().skip(1) {
        for number in (0..400_u16).filter(|number| number % 7 != which as u16) {
            let large = if number % 50 == 0 { 5000 } else { 3 };
            map.insert(key(number), vec![(number % 11) as u8 * which as u8; large].into());
        }
    }
    maps
});

fn key(number: u16) -> Vec<u8> {
    match number % 3 {
        0 => number.to_be_bytes().to_vec(),
        1 => vec![b'a'; usize::from(number / 4)],
        _ => [&[b'/'; 40][..], &number.to_be_bytes()].concat(),
    }
}

/// Hands out the input.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// Overwrites bytes: each change is two bytes of place and one of what is put there.
    fn garble(&mut self, bytes: &mut [u8]) {
        let count = self.byte().unwrap_or_default() % 4;
        for change in self.bytes(3 * usize::from(count)).chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([change[0], change[1]]));
            if let Some(byte) = bytes.get_mut(at % bytes.len().max(1)) {
                *byte = change[2];
            }
        }
    }
}

struct Run {
    sync: Sync,
    target: usize,
    asked: Vec<Vec<Place>>,
}

impl Run {
    fn happen(&mut self, event: u8, input: &mut Input<'_>) -> Option<()> {
        let which = usize::from(event >> 4);
        match event & 15 {
            0..=3 => {
                let places = self.sync.wants(which);
                self.asked.extend((!places.is_empty()).then_some(places));
            }
            4 => {
                let of = &MAPS[which % 4];
                let is_true = of.digest() == MAPS[self.target].digest();
                assert_eq!(self.sync.take_summary(&of.summary()).is_ok(), is_true);
            }
            5 => {
                self.target = which % 4;
                self.sync.retarget(MAPS[self.target].digest());
                self.asked.clear();
            }
            6 => {
                let length = usize::from(input.byte()?) << 2;
                let bytes = input.bytes(length);
                self.take(bytes);
                if let Ok(summary) = Summary::from_bytes(bytes) {
                    let _ = self.sync.take_summary(&summary);
                }
            }
            _ if self.asked.is_empty() => {}
            7..=10 => {
                let max_bytes = usize::from(input.byte()?) << 5;
                let places = self.asked.remove(which % self.asked.len());
                let nodes = MAPS[self.target].nodes(&places, max_bytes);
                assert!(!nodes.is_empty());
                nodes.iter().for_each(|node| self.sync.take(node).expect("it is true"));
                self.sync.give_back(&places[nodes.len()..]);
            }
            11 => {
                let places = self.asked[which % self.asked.len()].clone();
                self.sync.give_back(&places);
            }
            _ => {
                let places = self.asked[which % self.asked.len()].clone();
                let source = &MAPS[usize::from(input.byte()? % 4)];
                for node in source.nodes(&places, usize::MAX) {
                    let mut bytes = node.to_bytes();
                    input.garble(&mut bytes);
                    self.take(&bytes);
                }
            }
        }
        Some(())
    }

    fn take(&mut self, bytes: &[u8]) {
        if let Ok(node) = Node::from_bytes(bytes) {
            assert_eq!(node.to_bytes(), bytes);
            assert_eq!(node.size(), bytes.len());
            let _ = self.sync.take(&node);
        }
    }

    /// An honest source does the rest.
    fn finish(mut self) {
        let target = &MAPS[self.target];
        self.asked.iter().for_each(|places| self.sync.give_back(places));
        self.sync.take_summary(&target.summary()).expect("it is the target's");
        loop {
            let places = self.sync.wants(20);
            if places.is_empty() {
                break;
            }
            let nodes = target.nodes(&places, usize::MAX);
            assert_eq!(nodes.len(), places.len());
            nodes.iter().for_each(|node| self.sync.take(node).expect("it is true"));
        }
        let map = self.sync.finish().expect("nothing is missing");
        assert_eq!((map.digest(), &map), (target.digest(), target));
    }
}

/// The input is a byte that chooses the local map, and then one byte for each event with what it needs behind it.
pub(crate) fn run(input: &[u8]) {
    let mut input = Input(input);
    let Some(first) = input.byte() else { return };
    let (local, target) = (usize::from(first % 4), usize::from(first / 4 % 4));
    let sync = Sync::new(MAPS[target].digest(), MAPS[local].clone());
    let mut run = Run { sync, target, asked: Vec::new() };
    while let Some(event) = input.byte()
        && run.happen(event, &mut input).is_some()
    {}
    run.finish();
}

/// Some questions and answers.
pub(crate) fn good() -> Vec<Vec<u8>> {
    let events = [7, 0x14, 0x30, 0x07, 200, 0x30, 0x18, 200, 0x0d, 2, 1, 3, 0, 9, 0x25, 0x14, 0x40];
    vec![events.to_vec(), [&[6][..], &events[1..], &events[1..]].concat()]
}
