//! Where everything is drawn: lanes from left to right, rows from top to bottom.
//!
//! A row has height for its words and no other row's words are there. Between rows there is a little more room where
//! more time passed, by the logarithm, and a tear where it was far more than is usual in this picture.

use super::Film;
use super::rows::{Arrow, End, Reading, Row, is_own};
use crate::event::NodeId;
use std::time::Duration;

/// All lengths are in pixels of an unscaled page.
pub(super) const GUTTER: i32 = 104;
pub(super) const LANE: i32 = 180;
pub(super) const LINE: i32 = 13;
/// Beyond the last lane, for words to the right of it.
const MARGIN: i32 = 220;
/// The least height of a row with words, and of one without.
const ROW: i32 = 24;
const SMALL_ROW: i32 = 12;
pub(super) const TEAR: i32 = 38;
const TOP: i32 = 26;
/// A row shows so many lines of words, and says how many more there are.
pub(super) const MOST_LINES: usize = 6;
/// So many letters fit between two lanes.
const FEW: usize = 22;
/// A pause is torn out when it is so many times the usual one, and at least so long.
const UNUSUAL: u32 = 12;
const LEAST_TORN: Duration = Duration::from_millis(1);
/// A message is late when it takes so many times the usual time.
const LATE: u32 = 4;

/// Where a row is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Where its lane is crossed.
    pub(super) y: i32,
    /// Where it ends.
    pub(super) bottom: i32,
    /// The pause before it that is torn out, if one is.
    pub(super) torn: Option<Duration>,
    /// Where what it sends leaves: below its own words.
    pub(super) out: i32,
}

/// Where everything is.
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    pub(super) width: i32,
    /// Where the last row ends.
    pub(super) bottom: i32,
    /// Messages that take longer than this are late.
    pub(super) late: Duration,
}

/// The middle of a node's lane.
pub(super) fn x(node: NodeId) -> i32 {
    GUTTER + LANE / 2 + LANE * i32::from(node.0)
}

/// Which side of its lane a row's message comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Left,
    Right,
}

impl Arrow {
    pub(super) fn side(&self) -> Side {
        if self.letter.from < self.letter.to { Side::Left } else { Side::Right }
    }
}

/// How far below its mark a row's first line of words is: below a message's name, where that stands on the same side.
pub(super) fn first_line(row: &Row, arrows: &[Arrow]) -> i32 {
    let Some(arrow) = row.ends.and_then(|arrow| arrows.get(arrow)) else { return 4 };
    let is_in_the_way = !is_own(arrow) && (arrow.side() == Side::Right || row.node.is_none());
    if is_in_the_way { 2 * LINE } else { 4 }
}

/// Whether a row can stand on the line of the one before it: same moment, further right, and only a few words each.
fn fits_beside(before: &Row, row: &Row) -> bool {
    let is_small = |row: &Row| {
        let few = row.lines.iter().all(|line| line.text.chars().count() <= FEW);
        row.ends.is_none()
            && row.begins.is_empty()
            && row.accuses.is_empty()
            && few
            && row.lines.len() <= 1
    };
    let is_right = before.node.is_some() && before.node < row.node;
    is_right && before.at == row.at && row.idle == 0 && is_small(before) && is_small(row)
}

/// Gives every row its place.
pub(super) fn lay_out(film: &Film, reading: &Reading) -> Layout {
    let pauses: Vec<Duration> = reading
        .rows
        .windows(2)
        .filter_map(|pair| Some(pair.get(1)?.at.saturating_sub(pair.first()?.at)))
        .collect();
    let usual = median(pauses.iter().copied().filter(|pause| !pause.is_zero()));
    let mut places = Vec::with_capacity(reading.rows.len());
    let mut bottom = TOP;
    for (index, row) in reading.rows.iter().enumerate() {
        let pause = index.checked_sub(1).and_then(|before| pauses.get(before)).copied();
        let pause = pause.unwrap_or_default();
        let before = index.checked_sub(1).and_then(|before| reading.rows.get(before));
        let beside = before.is_some_and(|before| fits_beside(before, row));
        if let Some(place) = places.last().copied().filter(|_| beside) {
            places.push(place);
            continue;
        }
        let is_torn = pause >= LEAST_TORN && pause > usual * UNUSUAL;
        bottom += if is_torn { TEAR } else { stretch(pause) };
        let y = bottom + 7;
        let (height, words) = height(row, &reading.arrows);
        bottom += height;
        places.push(Place { y, bottom, torn: is_torn.then_some(pause), out: y + words });
    }
    let lanes = film.cast.nodes().count() as i32;
    Layout { places, width: GUTTER + LANE * lanes + MARGIN, bottom, late: late(reading) }
}

/// A row's height, and how far down its words reach.
fn height(row: &Row, arrows: &[Arrow]) -> (i32, i32) {
    let shown = row.lines.len().min(MOST_LINES + 1) as i32;
    let has_name = row.ends.and_then(|arrow| arrows.get(arrow)).is_some_and(|arrow| !is_own(arrow));
    let name = if has_name { LINE } else { 0 };
    let lines = if shown > 0 { first_line(row, arrows) + (shown - 1) * LINE } else { 0 };
    let words = name.max(lines);
    let sends =
        row.begins.iter().any(|arrow| arrows.get(*arrow).is_some_and(|arrow| !is_own(arrow)));
    let out = if sends && words > 4 { words + 5 } else { 0 };
    let least = if words == 0 { SMALL_ROW } else { ROW };
    ((words + 14).max(least), out)
}

/// A pause in pixels: four for every doubling from 100 µs on, and no more than a row.
fn stretch(pause: Duration) -> i32 {
    let doublings = (pause.as_micros() / 100 + 1).ilog2() as i32;
    (doublings * 4).min(ROW)
}

fn late(reading: &Reading) -> Duration {
    let taken = reading.arrows.iter().filter(|arrow| {
        !is_own(arrow) && matches!(arrow.to, Some((_, End::Delivered | End::Rejected(_))))
    });
    let usual = median(taken.filter_map(|arrow| arrow.took));
    usual.saturating_mul(LATE).max(LEAST_TORN)
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
