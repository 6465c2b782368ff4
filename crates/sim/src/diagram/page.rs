//! The page around the picture: what it is of, who is in it, and what its signs mean.
//!
//! The page is also well-formed XML, so that a plain reader can take it apart.

use super::layout::{GUTTER, LANE, Layout, lay_out};
use super::markup::{Escaped, moment};
use super::paint::{kinds, paint};
use super::rows::{Reading, read};
use super::{Film, LONGEST};
use crate::event::NodeId;
use crate::oracle::Violation;
use std::fmt::Write as _;
use testudo_core::Peer;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// No page says more of violations than that many letters of each.
const MOST_OF_VIOLATION: usize = 8 * LONGEST;

/// Nothing is loaded from anywhere, whatever somebody may have managed to say.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The whole page.
pub(super) fn page(film: &Film, title: &str, subtitle: &str, broken: &[Violation]) -> String {
    let mut reading = read(film);
    let broken: Vec<Violation> = broken
        .iter()
        .map(|violation| {
            let what: String = violation.what.chars().take(MOST_OF_VIOLATION).collect();
            Violation { what: reading.names.apply(&what), ..*violation }
        })
        .collect();
    let layout = lay_out(film, &reading);
    let picture = paint(film, &reading, &layout, &broken);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n\
         <meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n",
        Escaped(POLICY),
        Escaped(title)
    );
    page.push_str(&head(film, title, subtitle, &broken));
    page.push_str(&legend(&reading));
    page.push_str(&who(film, &layout));
    page.push_str("<main>\n");
    page.push_str(&picture);
    page.push_str("</main>\n");
    page.push_str(&foot(film, &reading));
    let _ = write!(page, "<script>\n{SCRIPT}</script>\n</body>\n</html>\n");
    page
}

/// What it is of, and what went wrong.
fn head(film: &Film, title: &str, subtitle: &str, broken: &[Violation]) -> String {
    let mut head = format!(
        "<header class=\"about\">\n<h1>{}</h1>\n<p>{}</p>\n",
        Escaped(title),
        Escaped(subtitle)
    );
    for violation in broken {
        let _ = writeln!(
            head,
            "<section class=\"broken\" role=\"alert\"><h2>Violated: {} <small>at {} s</small></h2>\
             <pre>{}</pre></section>",
            Escaped(violation.oracle),
            moment(violation.at),
            Escaped(&violation.what)
        );
    }
    let shown = film.kept;
    let window = match film.before {
        0 => format!("All {shown} events of the run."),
        before => format!("The last {shown} events; {before} came before and are not drawn."),
    };
    let to_end = if broken.is_empty() { "" } else { " <a href=\"#end\">To the end.</a>" };
    let _ = write!(head, "<p class=\"window\">{window}{to_end}</p>\n</header>\n");
    head
}

/// What a sign means, with the sign as a small picture.
const SIGNS: &[(&str, &str)] = &[
    (
        "<path class=\"lost\" d=\"M2 4L20 9\"/><path class=\"cross\" d=\"M18 5l8 8m0 -8l-8 8\"/>",
        "lost",
    ),
    (
        "<path class=\"plain\" d=\"M2 4L26 9\"/><path class=\"bar\" d=\"M28 3v13\"/>",
        "rejected by its receiver",
    ),
    (
        "<path class=\"copy\" d=\"M2 5L30 12\"/><path class=\"plain\" d=\"M2 5L30 12\"/>",
        "a copy that the network made",
    ),
    ("<path class=\"plain late\" d=\"M2 3L31 14\"/>", "late: four times the usual time, or more"),
    (
        "<path class=\"plain open\" d=\"M2 5L24 9\"/><circle class=\"ring\" cx=\"27\" cy=\"10\" r=\"2.5\"/>",
        "still under way at the end",
    ),
    ("<path class=\"finger\" d=\"M2 9H28m0 0l-6 -4m6 4l-6 4\"/>", "accuses"),
    (
        "<line class=\"leads\" x1=\"16\" x2=\"16\" y1=\"0\" y2=\"18\"/><line class=\"lane\" x1=\"16\" x2=\"16\" y1=\"0\" y2=\"18\"/>",
        "takes itself for the primary",
    ),
    (
        "<line class=\"lane down\" x1=\"16\" x2=\"16\" y1=\"0\" y2=\"18\"/>",
        "is down, or stopped running",
    ),
    ("<path class=\"crash\" transform=\"translate(16 9)\" d=\"M-5 -5L5 5M5 -5L-5 5\"/>", "crashes"),
    (
        "<path class=\"crash\" transform=\"translate(16 9)\" d=\"M-3 -5V5M3 -5V5\"/>",
        "stops running, and keeps its memory",
    ),
    (
        "<path class=\"start\" transform=\"translate(16 9)\" d=\"M-5 -5L6 0L-5 5Z\"/>",
        "starts, or goes on",
    ),
    (
        "<path class=\"harm\" transform=\"translate(16 9)\" d=\"M1 -8L-5 1H-0.5L-2 8L5 -2H0.5Z\"/>",
        "comes to harm",
    ),
    (
        "<circle class=\"glyph\" cx=\"16\" cy=\"9\" r=\"5.5\"/><path class=\"stroke\" d=\"M16 5.5V9L18.5 10.5\"/>",
        "a timer runs out",
    ),
    (
        "<path class=\"glyph\" transform=\"translate(16 9)\" d=\"M-4 -3.5H4V3.5H-4ZM-4 0H4\"/>",
        "writes are durable",
    ),
    ("<path class=\"ask\" transform=\"translate(16 9)\" d=\"M-5 -5H5L0 5Z\"/>", "a client asks"),
    (
        "<path class=\"ask\" transform=\"translate(16 9)\" d=\"M-5 5H5L0 -5Z\"/>",
        "a client is answered",
    ),
];

fn legend(reading: &Reading) -> String {
    let mut legend = String::from(
        "<details class=\"legend\" open=\"open\"><summary>What the signs mean</summary>\n<ul>\n",
    );
    let sign = |picture: &str, words: &str| {
        format!(
            "<li><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"34\" height=\"18\" aria-hidden=\"true\">{picture}</svg>{}</li>\n",
            Escaped(words)
        )
    };
    for (kind, colour) in kinds(reading) {
        let picture = format!(
            "<g class=\"arrow k{colour}\"><path d=\"M2 6L25 11\"/>\
             <path class=\"tip\" d=\"M32 12.5l-9 -5.6l-1.6 7Z\"/></g>"
        );
        legend.push_str(&sign(&picture, kind));
    }
    for (picture, words) in SIGNS {
        legend.push_str(&sign(picture, words));
    }
    legend.push_str(
        "</ul>\n<p>Time runs down; where lanes are torn, nothing happened for as long as it says. Timers of which \
         nothing came are counted and not drawn, and so are words to oneself. A message's name \
         stands where it arrives. Point at anything, or reach it with the tab key, to see what it says and what its \
         node was like then.</p>\n</details>\n",
    );
    legend
}

/// Who is who, above the lanes.
fn who(film: &Film, layout: &Layout) -> String {
    let mut who = format!(
        "<div class=\"cast\" style=\"width:{}px;padding-left:{GUTTER}px\" role=\"list\" aria-label=\"Lanes\">",
        layout.width - GUTTER
    );
    for node in film.cast.nodes() {
        let (role, class) = role(film, node);
        let _ = write!(
            who,
            "<div class=\"{class}\" style=\"width:{LANE}px\" role=\"listitem\"><b>{}</b><span>{role}</span></div>",
            Escaped(film.cast.name(node))
        );
    }
    who.push_str("</div>\n");
    who
}

fn role(film: &Film, node: NodeId) -> (&'static str, &'static str) {
    let name = film.cast.name(node);
    match film.cast.peer(node) {
        Some(Peer::Replica(_)) if name.ends_with('\'') => ("its second copy", "liar"),
        Some(Peer::Replica(_)) if !film.cast.is_correct(node) => ("replica that lies", "liar"),
        Some(Peer::Replica(_)) => ("replica", "replica"),
        _ if !film.cast.is_correct(node) => ("client that lies", "liar"),
        _ if name.starts_with('l') => ("learner", "client"),
        _ => ("client", "client"),
    }
}

/// What nodes were like at the beginning, and what short names stand for.
fn foot(film: &Film, reading: &Reading) -> String {
    let mut foot = String::from("<footer id=\"end\">\n");
    if !reading.before.is_empty() {
        foot.push_str("<h2>Before the first event drawn</h2>\n<dl class=\"before\">\n");
        for (node, state) in &reading.before {
            let name = film.cast.name(*node);
            let _ = writeln!(
                foot,
                "<dt data-node=\"{}\">{}</dt><dd>{}</dd>",
                node.0,
                Escaped(name),
                Escaped(state)
            );
        }
        foot.push_str("</dl>\n");
    }
    let mut names: Vec<(&str, &str)> = reading.names.all().collect();
    names.sort_by_key(|(_, name)| (name.len(), *name));
    if !names.is_empty() {
        foot.push_str("<h2>Digests and keys</h2>\n<p class=\"names\">");
        for (digits, name) in names {
            let _ = write!(foot, "<span><b>{}</b> {}</span> ", Escaped(name), Escaped(digits));
        }
        foot.push_str("</p>\n");
    }
    foot.push_str("</footer>\n<aside id=\"detail\" hidden=\"hidden\" aria-live=\"off\"></aside>\n");
    foot
}
