//! A page must be whole, say everything, be the same every time, and believe nothing that it is told.

use super::{Film, LONGEST};
use crate::atlas::Harm;
use crate::event::{Event, Fact, Letter, Loss, NodeId};
use crate::lateness::Breach;
use crate::oracle::{Cast, Violation};
use std::collections::BTreeSet;
use std::time::Duration;
use testudo_core::{Digest, Epoch, Peer, PublicKey, ReplicaId, Slot, View};

/// Takes a page apart as strictly as XML asks for: one root, tags that match, quoted attributes that are there once, no
/// entity but the five. Gives back the elements with their attributes, in order, and all text.
#[derive(Default, Debug)]
struct Parsed {
    elements: Vec<(String, Vec<(String, String)>)>,
    text: String,
}

impl Parsed {
    fn of(page: &str) -> Self {
        let mut parsed = Self::default();
        let mut rest = page.strip_prefix("<!DOCTYPE html>\n").expect("it begins with its type");
        let mut open: Vec<String> = Vec::new();
        let mut is_over = false;
        while let Some(start) = rest.find('<') {
            let (text, tag) = rest.split_at(start);
            assert!(!open.is_empty() || text.trim().is_empty(), "text outside: {text}");
            parsed.text.push_str(&unescaped(text));
            let end = tag.find('>').expect("every tag ends");
            let inside = &tag[1..end];
            assert!(!inside.contains('<'), "a tag within a tag: {inside}");
            rest = &tag[end + 1..];
            if let Some(name) = inside.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "tags match");
                is_over = open.is_empty();
                parsed.text.push('\n');
                continue;
            }
            assert!(!is_over, "there is one root");
            let is_empty = inside.ends_with('/');
            let inside = inside.trim_end_matches('/');
            let (name, attributes) = inside.split_once(' ').unwrap_or((inside, ""));
            assert!(!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric()), "{name}");
            parsed.elements.push((name.into(), attributes_of(attributes)));
            if !is_empty {
                open.push(name.into());
            }
        }
        assert!(is_over && rest.trim().is_empty(), "the root is closed, and nothing follows");
        parsed
    }

    fn classes(&self) -> BTreeSet<&str> {
        let attributes = self.elements.iter().flat_map(|(_, attributes)| attributes);
        attributes
            .filter(|(name, _)| name == "class")
            .flat_map(|(_, value)| value.split(' '))
            .collect()
    }

    fn count(&self, element: &str) -> usize {
        self.elements.iter().filter(|(name, _)| name == element).count()
    }
}

fn attributes_of(mut rest: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return found;
        }
        let (name, after) = rest.split_once("=\"").expect("every attribute has a quoted value");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
        assert!(found.iter().all(|(other, _)| other != name), "{name} is there twice");
        let (value, after) = after.split_once('"').expect("every quote ends");
        found.push((name.into(), unescaped(value)));
        assert!(after.is_empty() || after.starts_with(' '), "attributes stand apart");
        rest = after;
    }
}

fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut parts = text.split('&');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (entity, rest) = part.split_once(';').expect("every entity ends");
        plain.push_str(match entity {
            "amp" => "&",
            "lt" => "<",
            "gt" => ">",
            "quot" => "\"",
            "#39" => "'",
            other => panic!("&{other}; is none that XML knows"),
        });
        plain.push_str(rest);
    }
    plain
}

/// Four replicas, of which the first lies, a client and a learner.
fn cast() -> Cast {
    let mut cast = Cast::default();
    for id in 0..4 {
        cast.add(Peer::Replica(ReplicaId(id)), id != 0, id.to_string());
    }
    cast.add(Peer::Client(PublicKey([1; 32])), true, "c1".into());
    cast.add(Peer::Client(PublicKey([2; 32])), true, "l1".into());
    cast
}

fn film(limit: usize) -> Film {
    let mut film = Film::new(limit);
    film.bill(cast());
    film
}

fn letter(number: u64, from: u16, to: u16, name: &'static str) -> Letter {
    let sender = cast().peer(NodeId(from)).expect("it is in the cast");
    let digest = Digest::of(&number.to_le_bytes());
    Letter { number, from: NodeId(from), to: NodeId(to), sender, name, digest }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One of each, in an order that can be; with each, words that must stand in the picture.
fn everything() -> Vec<(u64, Event, &'static str)> {
    let n = NodeId;
    let told = |node, fact| Event::Told(NodeId(node), fact);
    let digest = Digest::of(b"batch");
    let slot = Slot(7);
    let blame = |convincing| Event::Blamed {
        by: n(2),
        accused: ReplicaId(0),
        offence: "equivocation".into(),
        convincing,
    };
    vec![
        (0, Event::Started(n(0)), "started"),
        (0, Event::Started(n(1)), "started"),
        (0, Event::ClockSet(n(1), -7), "clock -7 ms"),
        (1, told(4, Fact::Note("asks #1: Put".into())), "asks #1: Put"),
        (1, Event::Asked(n(4), 1), "asks #1: Put"),
        (1, Event::Sent(letter(1, 4, 0, "request")), "c1 → 0: request"),
        (2, Event::Asked(n(5), 2), "is asked #2"),
        (3, Event::Delivered(letter(1, 4, 0, "request")), "delivered after 2 ms"),
        (3, Event::Sent(letter(2, 0, 1, "pre-prepare")), "0 → 1: pre-prepare"),
        (3, Event::Sent(letter(3, 0, 2, "pre-prepare")), "0 → 2: pre-prepare"),
        (3, Event::Sent(letter(4, 0, 3, "pre-prepare")), "sends pre-prepare to 1 2 3"),
        (3, Event::Lied(n(0), "equivocate"), "lies: equivocate"),
        (3, Event::Duplicated(letter(5, 0, 1, "pre-prepare")), "a copy that the network made"),
        (3, Event::Dropped(letter(3, 0, 2, "pre-prepare"), Loss::Network), "pre-prepare lost"),
        (4, Event::Delivered(letter(2, 0, 1, "pre-prepare")), "pre-prepare"),
        (4, Event::Rejected(letter(5, 0, 1, "pre-prepare"), "no such key".into()), "no such key"),
        (5, Event::Cut(n(0), n(3)), "cut: 3 cannot hear 0"),
        (6, Event::Dropped(letter(4, 0, 3, "pre-prepare"), Loss::Partition), "pre-prepare cut off"),
        (6, Event::Healed, "the network is whole again"),
        (7, Event::Flushed(n(1), 3), "flushed 3"),
        (8, Event::Snapshotted(n(1)), "snapshot durable"),
        (9, Event::Worked(n(1)), "work done"),
        (10, Event::Fired(n(1), "View".into()), "View"),
        (10, told(1, Fact::View(View(1), ReplicaId(1))), "installed v1 of r1"),
        (11, told(1, Fact::Executed { slot, batch: digest, is_final: true }), "executed s7"),
        (11, told(1, Fact::Epoch(Epoch(2), 1)), "begins e2"),
        (12, blame(true), "accuses r0: equivocation"),
        (13, blame(false), "(convinces nobody)"),
        (14, Event::Harmed(n(3), Harm::Record), "harm: rotten record"),
        (15, Event::Scrubbed(n(3)), "a scrub finds losses"),
        (16, Event::Crashed { node: n(3), writes: 2, held: 1 }, "crashed: lost 2 writes, 1 words"),
        (17, Event::Sent(letter(6, 1, 3, "commit")), "1 → 3: commit"),
        (18, Event::Dropped(letter(6, 1, 3, "commit"), Loss::Down), "commit nobody there"),
        (19, Event::Sent(letter(7, 1, 2, "commit")), "still under way at the end"),
        (19, Event::Drifts(n(2), -80), "clock drifts -80 ppm"),
        (19, Event::Paused(n(2)), "stops running"),
        (19, Event::Resumed(n(2)), "goes on"),
        (19, Event::Cut(n(1), n(2)), "cut: 1 and 2 do not hear each other"),
        (19, Event::Cut(n(2), n(1)), "cut: 1 and 2 do not hear each other"),
        (19, Event::Joined(n(1), n(2)), "joined: 2 can hear 1 again"),
        (19, Event::Timely(ms(5)), "the network is timely from here on: within 5 ms"),
        (
            19,
            Event::Untimely(letter(7, 1, 2, "commit"), Breach::Missing),
            "commit of 1: not there in time",
        ),
        (20, told(4, Fact::Answered { request: 1, answer: digest }), "answered #1"),
    ]
}

fn filmed(limit: usize) -> Film {
    let mut film = film(limit);
    for (at, event, _) in everything() {
        film.frame(ms(at), &[event], &[]);
    }
    film
}

fn violation(what: &str) -> Violation {
    Violation { oracle: "agreement", at: ms(21), what: what.into() }
}

#[test]
fn every_kind_of_event_is_told_and_drawn() {
    let page = filmed(100).to_html("All", "of it", &[violation("two batches in one slot")]);
    let parsed = Parsed::of(&page);
    for (_, event, words) in everything() {
        assert!(parsed.text.contains(words), "{event:?} is not told as {words:?}");
    }
    let classes = parsed.classes();
    let picture = [
        "arrow",
        "tip",
        "lost",
        "cross",
        "refused",
        "bar",
        "copy",
        "open",
        "ring",
        "lane",
        "down",
        "leads",
        "crash",
        "start",
        "harm",
        "glyph",
        "ask",
        "finger",
        "lie",
        "blame",
        "view",
        "done",
        "answer",
        "severed",
        "healed",
        "violation",
        "verdict",
        "k0",
        "k1",
        "k2",
    ];
    for class in picture {
        assert!(classes.contains(class), "nothing is drawn as {class}");
    }
    assert!(parsed.text.contains("replica that lies") && parsed.text.contains("learner"));
    assert!(parsed.text.contains("All 43 events of the run."));
    assert!(parsed.text.contains("two batches in one slot"));
}

#[test]
fn a_page_needs_nothing_but_itself() {
    let page = filmed(100).to_html("All", "of it", &[]);
    let parsed = Parsed::of(&page);
    for (name, attributes) in &parsed.elements {
        assert!(!["link", "img", "iframe", "object", "image", "use"].contains(&name.as_str()));
        for (attribute, value) in attributes {
            let is_reference =
                ["href", "src", "srcset", "data", "action"].contains(&attribute.as_str());
            assert!(!is_reference || value.starts_with('#'), "{name} {attribute}={value}");
        }
    }
    let without_names =
        page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xhtml", "");
    assert!(!without_names.contains("://") && !without_names.contains("@import"));
    assert_eq!((parsed.count("script"), parsed.count("style")), (1, 1));
    // Whoever looks closer with the keyboard reaches each row, and hears its title.
    let rows = parsed.elements.iter().filter(|(_, a)| a.contains(&("class".into(), "row".into())));
    assert!(rows.clone().count() > 20);
    assert!(
        rows.clone().all(|(_, attributes)| attributes.contains(&("tabindex".into(), "0".into())))
    );
    assert!(parsed.count("title") > rows.count());
}

#[test]
fn nothing_that_anybody_says_becomes_markup() {
    let hostile = "</text></svg><script>alert('1')</script><b a=\"x\" & y\u{0}\u{202e}]]>";
    let honest = Parsed::of(&hostile_page("harmless"));
    let parsed = Parsed::of(&hostile_page(hostile));
    let names =
        |parsed: &Parsed| parsed.elements.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&parsed), names(&honest), "it is one page, whatever it is about");
    let shown = hostile.replace(['\u{0}', '\u{202e}'], "\u{fffd}");
    assert!(parsed.text.contains(&shown), "it is shown as what it is");
}

/// A page on which everything that others can choose is this text.
fn hostile_page(text: &str) -> String {
    let mut film = Film::new(50);
    let mut cast = Cast::default();
    cast.add(Peer::Replica(ReplicaId(0)), true, text.into());
    cast.add(Peer::Replica(ReplicaId(1)), true, text.into());
    film.bill(cast);
    let name: &'static str = String::from(text).leak();
    let letter = Letter { name, ..letter(1, 0, 1, "") };
    film.frame(ms(1), &[Event::Sent(letter)], &[(NodeId(0), text.into())]);
    film.read(1, text);
    film.frame(ms(2), &[Event::Rejected(letter, text.into())], &[]);
    let note = |node| Event::Told(NodeId(node), Fact::Note(text.into()));
    film.frame(ms(3), &[note(0), Event::Lied(NodeId(1), name)], &[]);
    film.frame(ms(4), &[Event::Fired(NodeId(1), text.into()), note(1)], &[]);
    let blame = Event::Blamed {
        by: NodeId(1),
        accused: ReplicaId(0),
        offence: text.into(),
        convincing: true,
    };
    film.frame(ms(5), &[blame], &[]);
    let violation = Violation { oracle: name, at: ms(6), what: text.into() };
    film.to_html(text, text, &[violation])
}

#[test]
fn one_film_is_one_page() {
    let page = || filmed(100).to_html("All", "of it", &[violation("x")]);
    assert_eq!(page(), page());
}

#[test]
fn a_window_keeps_the_last_events_and_says_how_many_came_before() {
    let mut film = filmed(10);
    assert_eq!((film.kept, film.before), (10, 33));
    let page = film.to_html("Ten", "of them", &[]);
    let text = Parsed::of(&page).text;
    assert!(text.contains("The last 10 events; 33 came before and are not drawn."));
    assert!(text.contains("answered #1") && !text.contains("lies: equivocate"));
    // Who leads and who is down is drawn, although the events that made it so are not.
    let lanes: Vec<&str> = page.lines().filter(|line| line.starts_with("<line class")).collect();
    let lane = |class: &str, x: i32| {
        let start = format!("<line class=\"{class}\" x1=\"{x}\" y1=\"0\"");
        lanes.iter().any(|line| line.starts_with(&start))
    };
    assert_eq!(film.led, BTreeSet::from([NodeId(1)]));
    assert!(lane("leads", super::layout::x(NodeId(1))));
    assert!(!lane("leads", super::layout::x(NodeId(2))));
    // It was sent before the window, and its end is in it: nothing is forgotten that is still needed.
    film.frame(ms(30), &[Event::Sent(letter(9, 1, 2, "commit"))], &[]);
    film.read(9, "slot=s9");
    for at in 31..45 {
        film.frame(ms(at), &[Event::Worked(NodeId(3))], &[]);
    }
    film.frame(ms(45), &[Event::Delivered(letter(9, 1, 2, "commit"))], &[]);
    let text = Parsed::of(&film.to_html("Ten", "of them", &[])).text;
    assert!(text.contains(
        "1 → 2: commit slot=s9\ndelivered after 15 ms\nsent before the events drawn here"
    ));
}

#[test]
fn a_page_is_no_larger_than_its_window() {
    let long = "x".repeat(100 * LONGEST);
    let size = |events: u64, limit: usize| {
        let mut film = film(limit);
        for number in 1..=events {
            let letter = letter(number, (number % 4) as u16, ((number + 1) % 4) as u16, "commit");
            film.frame(ms(number), &[Event::Sent(letter)], &[]);
            film.read(number, &long);
            let states = [(letter.to, format!("{number} {long}"))];
            if number % 3 > 0 {
                film.frame(ms(number), &[Event::Delivered(letter)], &states);
            }
        }
        // Messages that never arrive are forgotten in the end, too.
        assert!(film.letters.len() <= 2 * limit && film.unread.len() <= limit);
        assert!(film.scenes.len() <= 2 * limit);
        film.to_html("Long", "run", &[violation(&long)]).len()
    };
    let most = |limit: usize| 60_000 + limit * 6 * LONGEST;
    for limit in [20, 100] {
        assert!(size(200, limit) < most(limit), "{} bytes", size(200, limit));
        assert!(size(5_000, limit) < most(limit), "{} bytes", size(5_000, limit));
    }
}

#[test]
fn idle_time_is_torn_out_and_timers_of_which_nothing_came_are_counted() {
    let mut film = film(1_000);
    for at in 0..50 {
        film.frame(ms(at), &[Event::Worked(NodeId(0))], &[]);
    }
    let busy = Parsed::of(&film.to_html("Busy", "", &[]));
    assert!(!busy.classes().contains("gap"), "all steps are alike");
    for at in 50..90 {
        film.frame(ms(at * 100), &[Event::Fired(NodeId(1), "Tick".into())], &[]);
    }
    film.frame(ms(9_049), &[Event::Worked(NodeId(0))], &[]);
    film.frame(ms(9_050), &[Event::Fired(NodeId(2), "Tick".into())], &[]);
    let parsed = Parsed::of(&film.to_html("Idle", "", &[]));
    assert!(parsed.text.contains("9 s pass; 40 timers run out, and nothing comes of it"));
    assert!(parsed.text.contains("\na timer runs out, and nothing comes of it"));
    let heights = [&busy, &parsed].map(height);
    assert!(heights[1] < heights[0] + 120, "nine idle seconds take no room: {heights:?}");
}

fn height(parsed: &Parsed) -> u32 {
    let picture = |(name, attributes): &&(String, Vec<(String, String)>)| {
        name == "svg" && attributes.contains(&("id".into(), "picture".into()))
    };
    let (_, attributes) = parsed.elements.iter().find(picture).expect("there is a picture");
    let height = attributes.iter().find(|(name, _)| name == "height").expect("it has a height");
    height.1.parse().expect("in pixels")
}

/// Words and plates of one line never lie on those of another.
#[test]
fn words_do_not_overlap() {
    let parsed = Parsed::of(&filmed(100).to_html("All", "of it", &[]));
    let mut plates = Vec::new();
    for (_, attributes) in &parsed.elements {
        if !attributes.contains(&("class".into(), "plate".into())) {
            continue;
        }
        let number = |name: &str| {
            let found = attributes.iter().find(|(attribute, _)| attribute == name);
            found.expect("a plate has a place").1.parse::<i32>().expect("in pixels")
        };
        let (x, y) = (number("x"), number("y"));
        plates.push((x, y, x + number("width"), y + number("height")));
    }
    assert!(plates.len() > 20, "{}", plates.len());
    for (index, one) in plates.iter().enumerate() {
        for other in &plates[index + 1..] {
            let apart =
                one.2 <= other.0 || other.2 <= one.0 || one.3 <= other.1 || other.3 <= one.1;
            assert!(apart, "{one:?} lies on {other:?}");
        }
    }
}
