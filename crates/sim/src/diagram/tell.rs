//! Saying what is drawn: short names where there is little room, and whole sentences for those who look closer.

use super::layout::LANE;
use super::markup::{cut, moment, span};
use super::paint::{LETTER_TENTHS, Painter};
use super::rows::{Arrow, End, Row, is_own};
use crate::event::Loss;
use std::fmt::Write as _;

/// What a row's state begins with, at the end of what is told of it. The page's script looks for it.
const STATE: &str = "\nstate: ";
impl Painter<'_> {
    pub(super) fn is_late(&self, arrow: &Arrow) -> bool {
        arrow.took.is_some_and(|took| took > self.layout.late)
    }

    /// A message's whole story.
    pub(super) fn tell(&self, arrow: &Arrow) -> String {
        let letter = &arrow.letter;
        let (from, to) = (self.name(letter.from), self.name(letter.to));
        let mut text = format!("{from} → {to}: {}", letter.name);
        if self.film.cast.peer(letter.from) != Some(letter.sender) {
            let _ = write!(text, " (in the name of {})", self.who(letter.sender));
        }
        if !arrow.words.is_empty() {
            let _ = write!(text, " {}", arrow.words);
        }
        if arrow.is_copy {
            text.push_str("\na copy that the network made");
        }
        let after = arrow.took.map(|took| format!(" after {}", span(took))).unwrap_or_default();
        let _ = match &arrow.to {
            None => write!(text, "\nstill under way at the end"),
            Some((_, End::Delivered)) => write!(text, "\ndelivered{after}"),
            Some((_, End::Rejected(why))) => write!(text, "\nrejected{after}: {why}"),
            Some((_, End::Lost(why))) => write!(text, "\n{}{after}", loss(*why)),
        };
        if arrow.from.is_none() {
            text.push_str("\nsent before the events drawn here");
        }
        text
    }

    fn who(&self, peer: testudo_core::Peer) -> String {
        let node = self.film.cast.nodes_of(peer).next();
        node.map_or_else(|| format!("{peer:?}"), |node| self.name(node).to_string())
    }

    /// A message's name where it ends, short enough to stand between two lanes.
    pub(super) fn label(&self, arrow: &Arrow) -> String {
        let fields = arrow.words.split(' ').map(|word| {
            let (name, value) = word.split_once('=').unwrap_or(("", word));
            let is_name =
                !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            if is_name { value } else { word }
        });
        let fields: Vec<&str> = fields.collect();
        let mut label = format!("{} {}", arrow.letter.name, fields.join(" "));
        let most = (LANE - 22) * 10 / LETTER_TENTHS;
        let end = match &arrow.to {
            Some((_, End::Rejected(why))) => format!(": {why}"),
            Some((_, End::Lost(why))) => format!(" {}", loss(*why)),
            _ if arrow.is_copy => " ×2".into(),
            _ => String::new(),
        };
        let room = (most as usize).saturating_sub(end.chars().count()).max(most as usize / 2);
        label = cut(label.trim(), room);
        label.push_str(&end);
        // That it is late its line says already: how late, where there is room.
        let late = format!(" +{}", span(arrow.took.unwrap_or_default()));
        if self.is_late(arrow) && label.chars().count() + late.chars().count() <= most as usize {
            label.push_str(&late);
        }
        label
    }

    /// Everything about a row, as sentences.
    pub(super) fn tell_row(&self, row: &Row) -> String {
        let mut told = format!("{} s", moment(row.at));
        if let Some(node) = row.node {
            let _ = write!(told, ", node {}", self.name(node));
        }
        if let Some(arrow) = row.ends.and_then(|arrow| self.reading.arrows.get(arrow)) {
            let _ = write!(told, "\n{}", self.tell(arrow));
        }
        for said in &row.said {
            let _ = write!(told, "\n{said}");
        }
        if row.idle > 0 {
            let _ = write!(told, "\nbefore that, {}", idle_timers(row.idle));
        }
        let mut sent: Vec<(String, Vec<&str>)> = Vec::new();
        for arrow in row.begins.iter().filter_map(|arrow| self.reading.arrows.get(*arrow)) {
            if is_own(arrow) {
                continue;
            }
            let said = format!("{} {}", arrow.letter.name, arrow.words);
            let to = self.name(arrow.letter.to);
            match sent.iter_mut().find(|(what, _)| *what == said) {
                Some((_, receivers)) => receivers.push(to),
                None => sent.push((said, vec![to])),
            }
        }
        for (what, receivers) in sent {
            let _ = write!(told, "\nsends {} to {}", what.trim(), receivers.join(" "));
        }
        if let Some(state) = &row.state {
            let _ = write!(told, "{STATE}{state}");
        }
        told
    }
}

/// Timers of which nothing came.
pub(super) fn idle_timers(count: usize) -> String {
    match count {
        1 => "a timer runs out, and nothing comes of it".into(),
        _ => format!("{count} timers run out, and nothing comes of it"),
    }
}

fn loss(why: Loss) -> &'static str {
    match why {
        Loss::Network => "lost",
        Loss::Partition => "cut off",
        Loss::Down => "nobody there",
        Loss::Script => "dropped",
        Loss::Overflow => "overflowed",
    }
}
