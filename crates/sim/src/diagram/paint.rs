//! Drawing: rows, arrows and lanes as SVG.

use super::Film;
use super::layout::{GUTTER, LANE, LINE, Layout, MOST_LINES, Side, TEAR, first_line, x};
use super::markup::{Escaped, cut, moment, span, wrap};
use super::rows::{Arrow, End, Mark, Reading, Row, Tone, is_own};
use super::tell::idle_timers;
use crate::event::{Loss, NodeId};
use crate::oracle::Violation;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The width of a letter of the picture's words, times ten.
pub(super) const LETTER_TENTHS: i32 = 66;
/// Words beside a lane may reach over the next one.
const WORDS: usize = 44;
/// How many colours there are for kinds of messages.
pub(super) const COLOURS: usize = 12;
/// An arrow that is longer than this is faint but for its ends.
const FAR: i32 = 420;
/// How much of a violation is drawn.
const MOST_OF_VIOLATION: usize = 24;

/// A picture in the making.
pub(super) struct Painter<'a> {
    pub(super) film: &'a Film,
    pub(super) reading: &'a Reading,
    pub(super) layout: &'a Layout,
    pub(super) kinds: BTreeMap<&'static str, usize>,
    svg: String,
    bottom: i32,
}

/// The kinds of messages in a film, each with the number of its colour.
pub(super) fn kinds(reading: &Reading) -> BTreeMap<&'static str, usize> {
    let seen = reading.arrows.iter().filter(|arrow| !is_own(arrow));
    let mut kinds: BTreeMap<&'static str, usize> =
        seen.map(|arrow| (arrow.letter.name, 0)).collect();
    for (index, colour) in kinds.values_mut().enumerate() {
        *colour = index % COLOURS;
    }
    kinds
}

/// Draws everything.
pub(super) fn paint(
    film: &Film,
    reading: &Reading,
    layout: &Layout,
    violations: &[Violation],
) -> String {
    let mut painter = Painter {
        film,
        reading,
        layout,
        kinds: kinds(reading),
        svg: String::new(),
        bottom: layout.bottom + 14,
    };
    painter.lanes();
    painter.tears();
    for arrow in &reading.arrows {
        painter.arrow(arrow);
    }
    for index in 0..reading.rows.len() {
        painter.row(index);
    }
    painter.ending(violations);
    painter.finish()
}

/// What is written into a picture never fails: it is a string.
macro_rules! draw {
    ($painter:ident, $($words:tt)*) => {
        let _ = write!($painter.svg, $($words)*);
    };
}

impl Painter<'_> {
    fn finish(self) -> String {
        let (width, height) = (self.layout.width, self.bottom);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" id=\"picture\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"group\" \
             aria-label=\"Message sequence diagram\">\n{}</svg>\n",
            self.svg
        )
    }

    pub(super) fn name(&self, node: NodeId) -> &str {
        self.film.cast.name(node)
    }

    /// The lanes: whole while a node runs, dotted while it does not, broad where it leads.
    fn lanes(&mut self) {
        let end = self.layout.bottom + 14;
        for node in self.film.cast.nodes() {
            let x = x(node);
            let (mut up, mut leads) = (self.is_up_at_first(node), self.film.led.contains(&node));
            let mut from = 0;
            let mut segments = Vec::new();
            for (row, place) in self.reading.rows.iter().zip(&self.layout.places) {
                if row.node != Some(node) {
                    continue;
                }
                let now_up = match row.mark {
                    Mark::Crash | Mark::Pause => false,
                    Mark::Start | Mark::Resume => true,
                    _ => up,
                };
                let now_leads = row.leads.unwrap_or(leads);
                if (now_up, now_leads) != (up, leads) {
                    segments.push((from, place.y, up, leads));
                    (from, up, leads) = (place.y, now_up, now_leads);
                }
            }
            segments.push((from, end, up, leads));
            for (from, to, up, leads) in segments {
                if leads {
                    draw!(
                        self,
                        "<line class=\"leads\" x1=\"{x}\" y1=\"{from}\" x2=\"{x}\" y2=\"{to}\"/>\n"
                    );
                }
                let class = if up { "lane" } else { "lane down" };
                draw!(
                    self,
                    "<line class=\"{class}\" x1=\"{x}\" y1=\"{from}\" x2=\"{x}\" y2=\"{to}\"/>\n"
                );
            }
        }
    }

    fn is_up_at_first(&self, node: NodeId) -> bool {
        if let Some(was_up) = self.film.were_up.get(&node) {
            return *was_up;
        }
        let mut rows = self.reading.rows.iter().filter(|row| row.node == Some(node));
        let first = rows.find_map(|row| match row.mark {
            Mark::Crash | Mark::Pause => Some(true),
            Mark::Start | Mark::Resume => Some(false),
            _ => None,
        });
        first.unwrap_or(true)
    }

    /// Time that is left out, and timers with it.
    fn tears(&mut self) {
        let width = self.layout.width;
        draw!(
            self,
            "<defs><pattern id=\"torn\" width=\"24\" height=\"20\" patternUnits=\"userSpaceOnUse\">\
             <path d=\"M0 4L12 1L24 4M0 19L12 16L24 19\"/></pattern></defs>\n"
        );
        for (row, place) in self.reading.rows.iter().zip(&self.layout.places) {
            let Some(pause) = place.torn else { continue };
            let top = place.y - 7 - TEAR / 2 - 10;
            let told = match row.idle {
                0 => format!("{} pass", span(pause)),
                idle => format!("{} pass; {}", span(pause), idle_timers(idle)),
            };
            draw!(
                self,
                "<g class=\"tear\" transform=\"translate(0 {top})\">\
                 <rect class=\"gap\" width=\"{width}\" height=\"20\"/>\
                 <rect width=\"{width}\" height=\"20\" fill=\"url(#torn)\"/>\
                 <text class=\"pause\" x=\"{GUTTER}\" y=\"14\">{told}</text></g>\n"
            );
        }
    }

    fn is_own(&self, arrow: usize) -> bool {
        self.reading.arrows.get(arrow).is_none_or(is_own)
    }

    fn y(&self, row: usize) -> i32 {
        self.layout.places.get(row).map_or(0, |place| place.y)
    }

    /// Where an arrow begins and ends.
    fn ends_of(&self, arrow: &Arrow) -> (i32, i32, i32, i32) {
        let (from, to) = (x(arrow.letter.from), x(arrow.letter.to));
        let way = to - from;
        let sign = way.signum();
        let y1 = arrow.from.and_then(|row| self.layout.places.get(row)).map(|place| place.out);
        match &arrow.to {
            // It is under way when the film ends.
            None => {
                let y1 = y1.unwrap_or(0);
                (from, y1, from + sign * LANE * 2 / 5, y1 + 12)
            }
            Some((row, end)) => {
                let y2 = self.y(*row);
                let x2 = match end {
                    End::Lost(Loss::Network | Loss::Script) => from + way * 3 / 5,
                    End::Lost(_) => to - sign * 26,
                    _ => to - sign * 5,
                };
                match y1 {
                    Some(y1) => (from, y1, x2, y2),
                    // It was sent before the film begins.
                    None => (x2 - sign * LANE * 3 / 5, y2 - 16, x2, y2),
                }
            }
        }
    }

    fn arrow(&mut self, arrow: &Arrow) {
        if is_own(arrow) || (arrow.from.is_none() && arrow.to.is_none()) {
            return;
        }
        let (x1, y1, x2, y2) = self.ends_of(arrow);
        let kind = self.kinds.get(arrow.letter.name).copied().unwrap_or_default();
        let mut class = format!("arrow k{kind}");
        for (is_so, name) in [
            (matches!(arrow.to, Some((_, End::Lost(_)))), " lost"),
            (matches!(arrow.to, Some((_, End::Rejected(_)))), " refused"),
            (arrow.to.is_none(), " open"),
            (self.is_late(arrow), " late"),
        ] {
            if is_so {
                class.push_str(name);
            }
        }
        draw!(self, "<g class=\"{class}\"><title>{}</title>", Escaped(&self.tell(arrow)));
        if arrow.is_copy {
            draw!(self, "<path class=\"copy\" d=\"M{x1} {y1}L{x2} {y2}\"/>");
        }
        if y2 - y1 > FAR {
            // Its ends say where it comes from and goes to; between them it would be in the way.
            let at = |part: i32| (x1 + (x2 - x1) * part / (y2 - y1), y1 + part);
            let ((ax, ay), (bx, by)) = (at(90), at(y2 - y1 - 90));
            draw!(self, "<path d=\"M{x1} {y1}L{ax} {ay}\"/><path d=\"M{bx} {by}L{x2} {y2}\"/>");
            draw!(self, "<path class=\"far\" d=\"M{ax} {ay}L{bx} {by}\"/>");
        } else {
            draw!(self, "<path d=\"M{x1} {y1}L{x2} {y2}\"/>");
        }
        self.head(arrow, (x1, y1), (x2, y2));
        draw!(self, "</g>\n");
    }

    fn head(&mut self, arrow: &Arrow, from: (i32, i32), tip: (i32, i32)) {
        let (x, y) = tip;
        match &arrow.to {
            None => {
                draw!(self, "<circle class=\"ring\" cx=\"{x}\" cy=\"{y}\" r=\"2.5\"/>");
            }
            Some((_, End::Lost(_))) => {
                draw!(self, "<path class=\"cross\" d=\"M{} {}l9 9m0 -9l-9 9\"/>", x - 4, y - 4);
            }
            Some((_, end)) => {
                let [(ax, ay), (bx, by)] = triangle(x - from.0, y - from.1);
                let (left, right) = (
                    format!("{} {}", tenths(ax), tenths(ay)),
                    format!("{} {}", tenths(bx - ax), tenths(by - ay)),
                );
                draw!(self, "<path class=\"tip\" d=\"M{x} {y}l{left}l{right}Z\"/>");
                if matches!(end, End::Rejected(_)) {
                    let bar = x + (x - from.0).signum() * 2;
                    draw!(self, "<path class=\"bar\" d=\"M{bar} {}v14\"/>", y - 7);
                }
            }
        }
    }

    fn row(&mut self, index: usize) {
        let (Some(row), Some(place)) =
            (self.reading.rows.get(index), self.layout.places.get(index))
        else {
            return;
        };
        let told = self.tell_row(row);
        let (out, sends) = (place.out, row.begins.iter().any(|arrow| !self.is_own(*arrow)));
        let node = row.node.map(|node| format!(" data-node=\"{}\"", node.0)).unwrap_or_default();
        draw!(
            self,
            "<g class=\"row\" tabindex=\"0\" role=\"img\"{node}><title>{}</title>",
            Escaped(&told)
        );
        let (y, height) = (place.y - 7, place.bottom - place.y + 5);
        draw!(
            self,
            "<rect class=\"band\" x=\"0\" y=\"{y}\" width=\"{}\" height=\"{height}\" rx=\"3\"/>",
            self.layout.width
        );
        self.clock(index);
        for accused in &row.accuses {
            self.finger(row, *accused, place.y);
        }
        self.name_of_message(row, place.y);
        self.words(row, place.y);
        if let Some(node) = row.node {
            draw!(
                self,
                "<rect class=\"grip\" x=\"{}\" y=\"{y}\" width=\"28\" height=\"{height}\"/>",
                x(node) - 14
            );
            if sends && out > place.y {
                let (x, height) = (x(node) - 2, out - place.y);
                draw!(
                    self,
                    "<rect class=\"busy\" x=\"{x}\" y=\"{}\" width=\"4\" height=\"{height}\" rx=\"2\"/>",
                    place.y
                );
            }
            self.mark(row.mark, x(node), place.y);
        }
        draw!(self, "</g>\n");
    }

    /// When it was, where that is another moment than that of the row before.
    fn clock(&mut self, index: usize) {
        let row = self.reading.rows.get(index);
        let before = index.checked_sub(1).and_then(|before| self.reading.rows.get(before));
        if let Some(row) = row.filter(|row| before.is_none_or(|before| before.at != row.at)) {
            let y = self.y(index) + 4;
            draw!(
                self,
                "<text class=\"clock\" x=\"{}\" y=\"{y}\">{}</text>",
                GUTTER - 12,
                moment(row.at)
            );
        }
    }

    fn finger(&mut self, row: &Row, accused: NodeId, y: i32) {
        let Some(by) = row.node else { return };
        let (from, to) = (x(by), x(accused));
        let sign = (to - from).signum();
        let tip = to - sign * 6;
        draw!(
            self,
            "<path class=\"finger\" d=\"M{from} {y}H{tip}m0 0l{0} -5m{1} 5l{0} 5\"/>",
            -7 * sign,
            7 * sign
        );
    }

    fn name_of_message(&mut self, row: &Row, y: i32) {
        let Some(arrow) = row.ends.and_then(|arrow| self.reading.arrows.get(arrow)) else { return };
        if is_own(arrow) {
            return;
        }
        let kind = self.kinds.get(arrow.letter.name).copied().unwrap_or_default();
        let end = x(arrow.letter.to);
        let (anchor, x) = match (&arrow.to, arrow.side()) {
            (Some((_, End::Lost(_))), _) => ("middle", self.ends_of(arrow).2),
            (_, Side::Left) => ("end", end - 14),
            (_, Side::Right) => ("start", end + 14),
        };
        let is_bad = !matches!(arrow.to, Some((_, End::Delivered)));
        let class = if is_bad { "label bad".into() } else { format!("label k{kind}") };
        // Where it was lost there is a cross, which takes a little room.
        let below = if matches!(arrow.to, Some((_, End::Lost(_)))) { LINE + 4 } else { LINE };
        self.text(&class, anchor, (x, y + below), &self.label(arrow));
    }

    /// Words on a plate of the paper's colour, so that no line runs through them.
    fn text(&mut self, class: &str, anchor: &str, at: (i32, i32), text: &str) {
        let (x, y) = at;
        let width = text.chars().count() as i32 * LETTER_TENTHS / 10 + 6;
        let left = match anchor {
            "middle" => x - width / 2,
            "end" => x - width + 3,
            _ => x - 3,
        };
        draw!(
            self,
            "<rect class=\"plate\" x=\"{left}\" y=\"{}\" width=\"{width}\" height=\"{LINE}\"/>\
             <text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x}\" y=\"{y}\">{}</text>",
            y - 10,
            Escaped(text)
        );
    }

    fn words(&mut self, row: &Row, y: i32) {
        let left = match row.node {
            Some(node) => x(node) + 14,
            None => GUTTER + 4,
        };
        let most = if row.node.is_some() { WORDS } else { 200 };
        let first = first_line(row, &self.reading.arrows);
        let mut y = y + first;
        for line in row.lines.iter().take(MOST_LINES) {
            let class = tone(line.tone);
            self.text(class, "start", (left, y), &cut(&line.text, most));
            y += LINE;
        }
        if row.lines.len() > MOST_LINES {
            let more = row.lines.len() - MOST_LINES;
            self.text("faint", "start", (left, y), &format!("and {more} more"));
        }
    }

    fn mark(&mut self, mark: Mark, x: i32, y: i32) {
        let shape = match mark {
            Mark::Network => return,
            Mark::Step => "<circle class=\"dot\" r=\"3\"/>",
            Mark::Own => "<circle class=\"dot own\" r=\"2.5\"/>",
            Mark::Heard => "<circle class=\"dot\" r=\"3.5\"/>",
            Mark::Timer => {
                "<circle class=\"glyph\" r=\"5.5\"/><path class=\"stroke\" d=\"M0 -3.5V0L2.5 1.5\"/>"
            }
            Mark::Flush => "<path class=\"glyph\" d=\"M-4 -3.5H4V3.5H-4ZM-4 0H4\"/>",
            Mark::Snapshot => "<path class=\"glyph\" d=\"M-5 -4H5V4H-5ZM-5 -1.5H5M-5 1.5H5\"/>",
            Mark::Work => "<path class=\"glyph\" d=\"M0 -4.5L4.5 0L0 4.5L-4.5 0Z\"/>",
            Mark::Crash => "<path class=\"crash\" d=\"M-6 -6L6 6M6 -6L-6 6\"/>",
            Mark::Pause => "<path class=\"crash\" d=\"M-3 -5V5M3 -5V5\"/>",
            Mark::Start | Mark::Resume => "<path class=\"start\" d=\"M-5 -5L6 0L-5 5Z\"/>",
            Mark::Harm => "<path class=\"harm\" d=\"M1 -8L-5 1H-0.5L-2 8L5 -2H0.5Z\"/>",
            Mark::Scrub => {
                "<circle class=\"glyph\" cx=\"-1\" cy=\"-1\" r=\"4\"/><path class=\"stroke\" d=\"M2 2L6 6\"/>"
            }
            Mark::Clock => {
                "<circle class=\"glyph\" r=\"5.5\"/><path class=\"stroke\" d=\"M-2.5 -2.5L2.5 2.5\"/>"
            }
            Mark::Ask => "<path class=\"ask\" d=\"M-5 -5H5L0 5Z\"/>",
            Mark::Answer => "<path class=\"ask\" d=\"M-5 5H5L0 -5Z\"/>",
        };
        draw!(self, "<g transform=\"translate({x} {y})\">{shape}</g>");
    }

    /// What came last: timers of which nothing came, and the violations.
    fn ending(&mut self, violations: &[Violation]) {
        let width = self.layout.width;
        if self.reading.idle > 0 {
            let (y, told) = (self.bottom + 12, idle_timers(self.reading.idle));
            draw!(self, "<text class=\"pause\" x=\"{GUTTER}\" y=\"{y}\">{told}</text>\n");
            self.bottom += 24;
        }
        let columns = ((width - GUTTER - 40) * 10 / (LETTER_TENTHS + 6)).max(40) as usize;
        for violation in violations {
            let text = &violation.what;
            let mut lines = wrap(text, columns);
            if lines.len() > MOST_OF_VIOLATION {
                lines.truncate(MOST_OF_VIOLATION);
                lines.push("…".into());
            }
            let top = self.bottom;
            let height = 34 + lines.len() as i32 * 16;
            draw!(
                self,
                "<g class=\"violation\" tabindex=\"0\" role=\"img\"><title>{}</title>\
                 <rect x=\"1\" y=\"{top}\" width=\"{}\" height=\"{height}\" rx=\"4\"/>",
                Escaped(&format!("Violated: {}. {text}", violation.oracle)),
                width - 2
            );
            draw!(
                self,
                "<text class=\"clock\" x=\"{}\" y=\"{}\">{}</text>",
                GUTTER - 12,
                top + 20,
                moment(violation.at)
            );
            let x = GUTTER + 4;
            draw!(
                self,
                "<text class=\"verdict\" x=\"{x}\" y=\"{}\">Violated: {}</text>",
                top + 20,
                Escaped(violation.oracle)
            );
            for (index, line) in lines.iter().enumerate() {
                draw!(
                    self,
                    "<text class=\"what\" x=\"{x}\" y=\"{}\">{}</text>",
                    top + 38 + index as i32 * 16,
                    Escaped(line)
                );
            }
            draw!(self, "</g>\n");
            self.bottom += height + 8;
        }
    }
}

fn tone(tone: Tone) -> &'static str {
    match tone {
        Tone::Plain => "plain",
        Tone::Faint => "faint",
        Tone::Done => "done",
        Tone::View => "view",
        Tone::Answer => "answer",
        Tone::Harm => "hurt",
        Tone::Lie => "lie",
        Tone::Blame => "blame",
        Tone::Cut => "severed",
        Tone::Healed => "healed",
    }
}

/// The triangle at the tip of a line, in tenths of a pixel and by whole numbers: pictures are the same on every machine.
fn triangle(dx: i32, dy: i32) -> [(i64, i64); 2] {
    let (dx, dy) = (i64::from(dx), i64::from(dy));
    let length = (dx * dx + dy * dy).isqrt().max(1);
    let corner =
        |side: i64| ((-90 * dx - 36 * side * dy) / length, (-90 * dy + 36 * side * dx) / length);
    [corner(1), corner(-1)]
}

/// Tenths of a pixel as a number of pixels.
fn tenths(tenths: i64) -> String {
    let sign = if tenths < 0 { "-" } else { "" };
    format!("{sign}{}.{}", tenths.abs() / 10, tenths.abs() % 10)
}
