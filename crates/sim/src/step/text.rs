//! Steps as lines of scripts, and back.

use super::{Cause, Chore, Injury, Parcel, Step, Who};
use crate::adversary::Misconduct;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use testudo_core::Position;

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replica(id) => write!(f, "{id}"),
            Self::Twin(id) => write!(f, "{id}'"),
            Self::Client(number) => write!(f, "c{number}"),
            Self::Learner(number) => write!(f, "l{number}"),
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| plain(digits).ok_or_else(|| format!("no node {text}"));
        if let Some(digits) = text.strip_prefix('c') {
            number(digits).map(Self::Client)
        } else if let Some(digits) = text.strip_prefix('l') {
            number(digits).map(Self::Learner)
        } else if let Some(digits) = text.strip_suffix('\'') {
            number(digits).map(Self::Twin)
        } else {
            number(text).map(Self::Replica)
        }
    }
}

/// A number as it is printed: no sign, no leading zeros.
fn plain<N: FromStr + fmt::Display>(digits: &str) -> Option<N> {
    let number: N = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}

impl fmt::Display for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, kind, is_copy, ordinal } = self;
        let copy = if *is_copy { "copy of " } else { "" };
        write!(f, "{from}->{to} {copy}{kind}/{ordinal}")
    }
}

impl FromStr for Parcel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("no message: {text}");
        let (link, name) = text.split_once(' ').ok_or_else(wrong)?;
        let (from, to) = ends(link)?;
        let (kind, ordinal) = numbered(name).ok_or_else(wrong)?;
        let (kind, is_copy) = match kind.strip_prefix("copy of ") {
            Some(kind) => (kind, true),
            None => (kind, false),
        };
        Ok(Self { from, to, kind: kind.to_string().into(), is_copy, ordinal })
    }
}

fn ends(link: &str) -> Result<(Who, Who), String> {
    let (from, to) = link.split_once("->").ok_or_else(|| format!("no arrow: {link}"))?;
    Ok((from.parse()?, to.parse()?))
}

/// A name that ends with a number, as those of messages do.
pub(crate) fn numbered(name: &str) -> Option<(&str, u32)> {
    let (kind, ordinal) = name.rsplit_once('/')?;
    Some((kind, plain(ordinal)?)).filter(|(kind, _)| !kind.is_empty())
}

impl fmt::Display for Chore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.ordinal)
    }
}

impl fmt::Display for Injury {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(at) => write!(f, "record {}", at.0),
            Self::RecordAndTag(at) => write!(f, "record-and-tag {}", at.0),
            Self::Write(at) => write!(f, "write {}", at.0),
            Self::Misdirected(from, onto) => write!(f, "misdirected {} {}", from.0, onto.0),
            Self::Snapshot => f.write_str("snapshot"),
            Self::Memory(draw) => write!(f, "memory {draw}"),
            Self::SuperblockCopy(false) => f.write_str("superblock-copy"),
            Self::SuperblockCopy(true) => f.write_str("superblock-copy second"),
            Self::Superblock => f.write_str("superblock"),
            Self::Wiped => f.write_str("wiped"),
            Self::OldImage => f.write_str("old-image"),
            Self::FlippedBit(draw) => write!(f, "flipped-bit {draw}"),
            Self::LostSector(draw) => write!(f, "lost-sector {draw}"),
            Self::ZeroedRun(draw) => write!(f, "zeroed-run {draw}"),
            Self::UnreadableSector(draw) => write!(f, "unreadable-sector {draw}"),
            Self::FailedFlush(after) => write!(f, "failed-flush {after}"),
            Self::FullDisk(lasts) => write!(f, "full-disk {}", show_duration(*lasts)),
            Self::SlowDisk(times, lasts) => {
                write!(f, "slow-disk {times} {}", show_duration(*lasts))
            }
        }
    }
}

fn injury(words: &[&str]) -> Option<Injury> {
    let at = |digits: &str| plain(digits).map(Position);
    Some(match words {
        ["record", position] => Injury::Record(at(position)?),
        ["record-and-tag", position] => Injury::RecordAndTag(at(position)?),
        ["write", position] => Injury::Write(at(position)?),
        ["misdirected", from, onto] => Injury::Misdirected(at(from)?, at(onto)?),
        ["snapshot"] => Injury::Snapshot,
        ["memory", draw] => Injury::Memory(plain(draw)?),
        ["superblock-copy"] => Injury::SuperblockCopy(false),
        ["superblock-copy", "second"] => Injury::SuperblockCopy(true),
        ["superblock"] => Injury::Superblock,
        ["wiped"] => Injury::Wiped,
        ["old-image"] => Injury::OldImage,
        ["flipped-bit", draw] => Injury::FlippedBit(plain(draw)?),
        ["lost-sector", draw] => Injury::LostSector(plain(draw)?),
        ["zeroed-run", draw] => Injury::ZeroedRun(plain(draw)?),
        ["unreadable-sector", draw] => Injury::UnreadableSector(plain(draw)?),
        ["failed-flush", after] => Injury::FailedFlush(plain(after)?),
        ["full-disk", lasts] => Injury::FullDisk(read_duration(lasts)?),
        ["slow-disk", times, lasts] => Injury::SlowDisk(plain(times)?, read_duration(lasts)?),
        _ => return None,
    })
}

/// A duration in the largest unit that leaves no fraction.
pub(crate) fn show_duration(time: Duration) -> String {
    let nanos = time.as_nanos();
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"), (1, "ns")];
    let fits = units.iter().find(|(unit, _)| nanos.is_multiple_of(*unit));
    fits.map(|(unit, name)| format!("{}{name}", nanos / unit)).unwrap_or_default()
}

/// A duration in `s`, `ms`, `us` or `ns`; none if it is not one, or longer than five hundred years.
pub(crate) fn read_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let amount: u64 = digits.parse().ok()?;
    let unit: u64 = match &text[digits.len()..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        _ => return None,
    };
    amount.checked_mul(unit).map(Duration::from_nanos)
}

fn show_bytes(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// Bytes as scripts write them: `0x` and two hexadecimal digits each.
pub(crate) fn read_bytes(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(time) => write!(f, "at {}", show_duration(*time)),
            Self::Start(who) => write!(f, "restart {who}"),
            Self::Crash(who, keep) => write!(f, "crash {who} keep={keep}"),
            Self::Deliver(parcel) => write!(f, "deliver {parcel}"),
            Self::Lose(parcel, Cause::Network) => write!(f, "lose {parcel}"),
            Self::Lose(parcel, Cause::Choice) => write!(f, "drop {parcel}"),
            Self::Duplicate(parcel) => write!(f, "duplicate {parcel}"),
            Self::Spoil(parcel) => write!(f, "spoil {parcel}"),
            Self::Fire(who, timer) => write!(f, "fire {who} {timer}"),
            Self::Flush(who) => write!(f, "flush {who}"),
            Self::Finish(who, chore) => write!(f, "finish {who} {chore}"),
            Self::Serve(who) => write!(f, "serve {who}"),
            Self::Harm(who, injury) => write!(f, "harm {who} {injury}"),
            Self::Scrub(who) => write!(f, "scrub {who}"),
            Self::Image(who) => write!(f, "image {who}"),
            Self::Cut(from, to) => write!(f, "cut {from}->{to}"),
            Self::Join(from, to) => write!(f, "join {from}->{to}"),
            Self::Heal => f.write_str("heal"),
            Self::Relent => f.write_str("relent"),
            Self::Timely(bound) => write!(f, "timely {}", show_duration(*bound)),
            Self::Rate(who, rate) => write!(f, "rate {who} {rate:+}ppm"),
            Self::Pause(who) => write!(f, "pause {who}"),
            Self::Resume(who, false) => write!(f, "resume {who}"),
            Self::Resume(who, true) => write!(f, "resume {who} timers"),
            Self::Doom(who, left, keep) => write!(f, "doom {who} after={left} keep={keep}"),
            Self::Spare(who) => write!(f, "spare {who}"),
            Self::Clock(who, offset) => write!(f, "clock {who} {offset:+}ms"),
            Self::Sides(peers) => {
                f.write_str("sides")?;
                peers.iter().try_for_each(|who| write!(f, " {who}"))
            }
            Self::Corrupt(who, misconduct) => write!(f, "corrupt {who} {}", misconduct.name()),
            Self::Upstream(draw) => write!(f, "upstream {draw}"),
            Self::Ask(who, ticket, operation) => {
                write!(f, "request {who} ticket={ticket} {}", show_bytes(operation))
            }
            Self::Input(who, input) => write!(f, "ask {who} {}", show_bytes(input)),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    /// # Errors
    /// With a sentence, when the line is no step.
    fn from_str(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        read(verb, rest).unwrap_or_else(|| Err(format!("no such step: {line}")))
    }
}

/// None if the words do not fit the verb; an error if a name in them is none.
fn read(verb: &str, rest: &str) -> Option<Result<Step, String>> {
    let words: Vec<&str> = rest.split(' ').collect();
    let parcel = |make: fn(Parcel) -> Step| Some(rest.parse().map(make));
    match (verb, &words[..]) {
        ("at", [time]) => read_duration(time).map(|time| Ok(Step::At(time))),
        ("heal", [""]) => Some(Ok(Step::Heal)),
        ("relent", [""]) => Some(Ok(Step::Relent)),
        ("deliver", _) => parcel(Step::Deliver),
        ("lose", _) => parcel(|parcel| Step::Lose(parcel, Cause::Network)),
        ("drop", _) => parcel(|parcel| Step::Lose(parcel, Cause::Choice)),
        ("duplicate", _) => parcel(Step::Duplicate),
        ("spoil", _) => parcel(Step::Spoil),
        ("timely", [bound]) => read_duration(bound).map(|bound| Ok(Step::Timely(bound))),
        ("join", [link]) => Some(ends(link).map(|(from, to)| Step::Join(from, to))),
        ("cut", [link]) => Some(ends(link).map(|(from, to)| Step::Cut(from, to))),
        ("sides", [""]) => Some(Ok(Step::Sides(Vec::new()))),
        ("sides", peers) => {
            let peers: Result<Vec<Who>, String> = peers.iter().map(|who| who.parse()).collect();
            Some(peers.map(Step::Sides))
        }
        ("upstream", [draw]) => plain(draw).map(|draw| Ok(Step::Upstream(draw))),
        (_, [who, words @ ..]) => match who.parse() {
            Ok(who) => read_about(verb, who, words).map(Ok),
            Err(error) => Some(Err(error)),
        },
        _ => None,
    }
}

fn read_about(verb: &str, who: Who, words: &[&str]) -> Option<Step> {
    Some(match (verb, words) {
        ("restart", []) => Step::Start(who),
        ("crash", [keep]) => Step::Crash(who, plain(keep.strip_prefix("keep=")?)?),
        ("fire", [_, ..]) => Step::Fire(who, words.join(" ").into()),
        ("flush", []) => Step::Flush(who),
        ("finish", [chore]) => {
            let (kind, ordinal) = numbered(chore)?;
            Step::Finish(who, Chore { kind: kind.to_string().into(), ordinal })
        }
        ("serve", []) => Step::Serve(who),
        ("harm", words) => Step::Harm(who, injury(words)?),
        ("scrub", []) => Step::Scrub(who),
        ("image", []) => Step::Image(who),
        ("clock", [offset]) => Step::Clock(who, offset.strip_suffix("ms")?.parse().ok()?),
        ("rate", [rate]) => Step::Rate(who, rate.strip_suffix("ppm")?.parse().ok()?),
        ("pause", []) => Step::Pause(who),
        ("resume", []) => Step::Resume(who, false),
        ("resume", ["timers"]) => Step::Resume(who, true),
        ("doom", [left, keep]) => {
            let (left, keep) = (left.strip_prefix("after=")?, keep.strip_prefix("keep=")?);
            Step::Doom(who, plain(left)?, plain(keep)?)
        }
        ("spare", []) => Step::Spare(who),
        ("corrupt", [misconduct]) => Step::Corrupt(who, Misconduct::named(misconduct)?),
        ("request", [ticket, operation]) => {
            Step::Ask(who, plain(ticket.strip_prefix("ticket=")?)?, read_bytes(operation)?)
        }
        ("ask", [input]) => Step::Input(who, read_bytes(input)?),
        _ => return None,
    })
}
