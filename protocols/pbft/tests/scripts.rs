//! Golden scripts: what is done, and everything that is said and comes of it, one line each.
//!
//! Lines that begin with `>` are commands, the others are what follows from them. With `UPDATE_GOLDEN=1` the scripts
//! are written again; the difference is for the reader to judge.

mod harness;

use harness::{Cluster, Disk, Letter, batch};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use testudo_contracts::{Batch, OrderInput, Ordering as _, Standing};
use testudo_core::{Digest, Message as _, Slot};
use testudo_pbft::message::{PrePrepare, Prepared, Testimony, ViewChange, Vote};
use testudo_pbft::{Message, Record, Timer};

struct Script {
    cluster: Cluster,
    names: BTreeMap<Digest, String>,
    text: String,
    /// What disks once held.
    images: BTreeMap<u16, Disk>,
    /// How many executions, views and convictions of each replica are written down.
    shown: Vec<[usize; 3]>,
}

impl Script {
    fn new() -> Self {
        let names = BTreeMap::from([(Batch::null().digest(), "null".to_string())]);
        let (cluster, images) = (Cluster::new(4, 1), BTreeMap::new());
        Self { cluster, names, text: String::new(), images, shown: vec![[0; 3]; 4] }
    }

    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("text grows");
    }

    fn name(&self, digest: Digest) -> &str {
        self.names.get(&digest).map_or("?", String::as_str)
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<u16>().expect("a number");
        match words.as_slice() {
            ["propose", id, name] => {
                self.names.insert(batch(name).digest(), (*name).to_string());
                self.cluster.propose(number(id), name);
            }
            ["say", from, to, "pre-prepare", view, slot, name] => {
                self.names.insert(batch(name).digest(), (*name).to_string());
                let (view, slot) = (number(view).into(), number(slot).into());
                let (view, slot) = (testudo_core::View(view), Slot(slot));
                let message = Message::PrePrepare(PrePrepare { view, slot, batch: batch(name) });
                self.cluster.post(number(from), number(to), message);
            }
            ["run"] => self.run(),
            ["drop", kind, "to", ids @ ..] => {
                let kind = (*kind).to_string();
                let ids: Vec<u16> = ids.iter().map(|id| number(id)).collect();
                self.cluster.drop = Box::new(move |letter: &Letter| {
                    letter.message.name() == kind && ids.contains(&letter.to.0)
                });
            }
            ["drop", "nothing"] => self.cluster.drop = Box::new(|_| false),
            ["wait", number_of, ids @ ..] => {
                let ids: Vec<u16> = ids.iter().map(|id| number(id)).collect();
                self.cluster.wait(&ids, number(number_of).into());
            }
            ["suspect", ids @ ..] => {
                ids.iter().for_each(|id| self.cluster.fire(number(id), Timer::View));
            }
            ["tick", ids @ ..] => {
                ids.iter().for_each(|id| self.cluster.fire(number(id), Timer::Resend));
            }
            ["stable", slot, ids @ ..] => {
                let stable = self.cluster.checkpoint(number(slot).into());
                for id in ids {
                    self.cluster.input(number(id), OrderInput::Stable(stable.clone()));
                }
            }
            ["corrupt", id] => self.cluster.corrupt(number(id)),
            ["crash", id] => self.cluster.crash(number(id)),
            ["start", id] => self.cluster.start(number(id)),
            ["start-all"] => (0..4).for_each(|id| self.cluster.start(id)),
            ["rot", id, kind, slot] => self.rot(number(id), kind, number(slot)),
            ["image", id] => {
                let image = self.cluster.image(number(id));
                self.images.insert(number(id), image);
            }
            ["restore", id] => {
                let image = self.images.remove(&number(id)).expect("an image was taken");
                self.cluster.restore(number(id), image);
            }
            ["wipe", id] => self.cluster.restore(number(id), Disk::default()),
            ["state"] => self.state(),
            _ => panic!("no such command: {line}"),
        }
        self.show();
    }

    /// The record of that kind about that slot or view rots.
    fn rot(&mut self, id: u16, kind: &str, number: u16) {
        let number = u64::from(number);
        let hit = self.cluster.rot(id, true, |record| match record {
            Record::Proposed(one) => kind == "proposed" && one.slot.0 == number,
            Record::Voted(one) => kind == "voted" && one.statement.slot.0 == number,
            Record::Prepared(one) => kind == "prepared" && one.slot().0 == number,
            Record::Decided(one) => kind == "decided" && one.slot().0 == number,
            Record::ViewChange(one) => kind == "view-change" && one.view.0 == number,
            Record::NewView(one) => kind == "new-view" && one.statement.view.0 == number,
            Record::Stable(one) => kind == "stable" && one.statement().slot.0 == number,
            Record::Lost(_) | Record::Forgotten => false,
        });
        assert_eq!(hit, 1, "there is no such record");
    }

    /// Delivers everything. One's own messages are delivered and left out.
    fn run(&mut self) {
        while !self.cluster.wire.is_empty() {
            let letter = self.cluster.wire.remove(0);
            let is_dropped = (self.cluster.drop)(&letter);
            if letter.from != letter.to {
                let (from, to) = (letter.from.0, letter.to.0);
                let mark = if is_dropped { "x" } else { ">" };
                let line = format!("{from} -{mark} {to}  {}", self.describe(&letter.message));
                self.line(&line);
            }
            if !is_dropped && !self.cluster.deliver(letter) {
                self.line("    refused");
            }
            self.show();
        }
    }

    fn describe(&self, message: &Message) -> String {
        let rest = match message {
            Message::PrePrepare(body) => {
                format!("v{} s{} {}", body.view, body.slot, self.name(body.batch.digest()))
            }
            Message::Prepare(_) | Message::Commit(_) => {
                let vote = message.vote().expect("it is a vote");
                format!("v{} s{} {}", vote.view, vote.slot, self.name(vote.digest))
            }
            Message::ViewChange(body) => self.describe_change(body),
            Message::NewView(body) => {
                let signers: Vec<_> = body.changes.iter().map(|c| c.signer.to_string()).collect();
                let ordered = body.ordered.iter();
                let ordered: Vec<_> =
                    ordered.map(|(s, b)| format!("s{s} {}", self.name(b.digest()))).collect();
                format!("v{} V={{{}}} O={{{}}}", body.view, signers.join(" "), ordered.join(", "))
            }
            Message::Status(body) => {
                let lacks: Vec<_> = body.lacks.iter().map(|slot| format!("s{slot}")).collect();
                let place = format!("v{} executed s{}", body.view, body.executed);
                if lacks.is_empty() { place } else { format!("{place} lacks {}", lacks.join(" ")) }
            }
            Message::Fetch(body) => format!("from s{}", body.from),
            Message::Committed(body) => {
                format!("v{} s{} {}", body.view(), body.slot(), self.name(body.digest()))
            }
            Message::Proposal(body) => {
                let PrePrepare { view, slot, batch } = &body.statement;
                format!("of {} v{view} s{slot} {}", body.signer, self.name(batch.digest()))
            }
            Message::Installed(body) => format!("of {} v{}", body.signer, body.statement.view),
            Message::Inquiry(_) => "what have I said?".to_string(),
            Message::Testimony(body) => self.describe_testimony(body),
        };
        format!("{} {rest}", message.name())
    }

    fn describe_change(&self, change: &ViewChange) -> String {
        let one = |p: &Prepared| format!("v{} s{} {}", p.view(), p.slot(), self.name(p.digest()));
        let prepared: Vec<_> = change.prepared.iter().map(one).collect();
        let lost = match change.lost.is_empty() {
            true => String::new(),
            false => format!(" lost={:?}", change.lost),
        };
        format!("v{} C=s{} P={{{}}}{lost}", change.view, change.base(), prepared.join(", "))
    }

    fn describe_testimony(&self, testimony: &Testimony) -> String {
        let proposals = testimony.proposals.iter().map(|said| {
            let PrePrepare { view, slot, batch } = &said.statement;
            format!("pre-prepare v{view} s{slot} {}", self.name(batch.digest()))
        });
        let vote = |kind: &str, vote: Vote| {
            format!("{kind} v{} s{} {}", vote.view, vote.slot, self.name(vote.digest))
        };
        let prepares = testimony.prepares.iter().map(|s| vote("prepare", s.statement.vote()));
        let commits = testimony.commits.iter().map(|s| vote("commit", s.statement.vote()));
        let change = testimony.change.iter().map(|s| format!("view-change v{}", s.statement.view));
        let stable = testimony.checkpoint.iter();
        let stable = stable.map(|said| format!("checkpoint s{}", said.statement.slot));
        let all: Vec<_> =
            proposals.chain(prepares).chain(commits).chain(change).chain(stable).collect();
        if all.is_empty() { "nothing".to_string() } else { all.join(", ") }
    }

    /// Writes down what became of the last step.
    fn show(&mut self) {
        for id in 0..self.cluster.nodes.len() {
            let node = &self.cluster.nodes[id];
            let [executed, views, evidence] = self.shown[id];
            let mut lines = Vec::new();
            for (slot, batch) in node.executed.iter().skip(executed) {
                lines.push(format!("    {id} executes s{slot} {}", self.name(batch.digest())));
            }
            for view in node.views.iter().skip(views) {
                lines.push(format!("    {id} enters v{view}"));
            }
            for evidence in node.evidence.iter().skip(evidence) {
                lines.push(format!(
                    "    {id} convicts {} of {}",
                    evidence.accused, evidence.offence
                ));
            }
            self.shown[id] = [node.executed.len(), node.views.len(), node.evidence.len()];
            lines.iter().for_each(|line| self.line(line));
        }
    }

    fn state(&mut self) {
        for id in 0..self.cluster.nodes.len() {
            let line = match &self.cluster.nodes[id].core {
                None => format!("    {id} is down"),
                Some(core) => {
                    let changing = if core.is_changing_view() { " (changing)" } else { "" };
                    let (view, executed) = (core.view(), core.executed());
                    let standing = match core.standing() {
                        Standing::Voting => String::new(),
                        other => format!(" {other:?}"),
                    };
                    let lost = match core.lost().is_empty() {
                        true => String::new(),
                        false => format!(" lost={:?}", core.lost()),
                    };
                    format!(
                        "    {id} v{view}{changing} executed s{executed} stable s{}{standing}{lost}",
                        core.stable()
                    )
                }
            };
            self.line(&line);
        }
    }
}

fn play(name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scripts").join(name);
    let golden = std::fs::read_to_string(&path).expect("the script is there");
    let mut script = Script::new();
    for line in golden.lines() {
        if let Some(command) = line.strip_prefix('>') {
            script.line(line);
            script.command(command);
        } else if line.starts_with('#') || line.is_empty() {
            script.line(line);
        }
    }
    script.cluster.check();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &script.text).expect("the script can be written");
    } else if script.text != golden {
        let mut lines = script.text.lines().zip(golden.lines()).enumerate();
        let (at, (found, expected)) = lines
            .find(|(_, (found, expected))| found != expected)
            .unwrap_or((golden.lines().count(), ("another end", "the end")));
        panic!("{name}, line {}:\n  expected {expected}\n  found    {found}", at + 1);
    }
}

macro_rules! scripts {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            play(concat!(stringify!($name), ".txt"));
        }
    )*};
}
scripts!(
    normal_case,
    view_change,
    laggard,
    restart,
    equivocation,
    joining,
    helical,
    old_image,
    passes_on,
);
