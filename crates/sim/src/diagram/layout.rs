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
pub(super) const LANE: i32 = 172;
pub(super) const LINE: i32 = 13;
/// Beyond the last lane, for words to the right of it.
const MARGIN: i32 = 220;
/// The least height of a row with words, and of one without.
const ROW: i32 = 24;
const SMALL_ROW: i32 = 12;
pub(super) const TEAR: i32 = 34;
const TOP: i32 = 26;
/// A row shows so many lines of words, and says how many more there are.
pub(super) const MOST_LINES: usize = 6;
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

/// How many lines down a row's own words begin: below a message's name, where that stands on the same side.
pub(super) fn first_line(row: &Row, arrows: &[Arrow]) -> i32 {
    let Some(arrow) = row.ends.and_then(|arrow| arrows.get(arrow)) else { return 0 };
    let comes_from_right = !is_own(arrow) && arrow.side() == Side::Right;
    i32::from(comes_from_right || row.node.is_none())
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
        let is_torn = pause >= LEAST_TORN && pause > usual * UNUSUAL;
        bottom += if is_torn { TEAR } else { stretch(pause) };
        let y = bottom + 7;
        bottom += height(row, &reading.arrows);
        places.push(Place { y, bottom, torn: is_torn.then_some(pause) });
    }
    let lanes = film.cast.nodes().count() as i32;
    Layout { places, width: GUTTER + LANE * lanes + MARGIN, bottom, late: late(reading) }
}

fn height(row: &Row, arrows: &[Arrow]) -> i32 {
    let shown = row.lines.len().min(MOST_LINES + 1) as i32;
    let names =
        i32::from(row.ends.is_some_and(|arrow| arrows.get(arrow).is_some_and(|a| !is_own(a))));
    let lines = names.max(first_line(row, arrows) + shown);
    if lines == 0 { SMALL_ROW } else { (lines * LINE + 10).max(ROW) }
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
